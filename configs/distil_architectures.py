"""SST-2: BERT-, SqueezeBERT- and MobileBERT-shaped students of equal size, one teacher.

    effjax data import glue/sst2 --source GLUE/SST-2     # only where TFDS cannot download by itself
    effjax run configs/distil_architectures.py

All three students have 7.7 to 7.8 million parameters, begin with random weights, and learn for as
many steps from the same 16,000 phrases, once from the teacher (`distilled`) and once from the
labels (`control`). What differs is where the parameters are: BERT has 4 layers of width 192 and
SqueezeBERT, whose products are grouped, 12; MobileBERT, whose words have 128 numbers, has 4 layers
of the published width.

All arms have one learning rate, 3e-4, and no search. A first try searched among 3e-4, 1e-3 and 3e-3
with short runs of 150 steps. The distilled BERTs and SqueezeBERTs were still at 55 %, the majority,
with any of them, and what the other arms chose failed in the long runs: with 3e-3 three SqueezeBERT
controls ended at 51, 52 and 61 % on dev, and MobileBERT's loss grew to 344,215 by step 147
(control) and, with 1e-3, to 11,921,295 by step 168 (distilled), where training stops by itself
(effjax 3281d7e and 67a9b34 on two cores of a Xeon with AMX). These trials are not among the
results.

Measured on those two cores (paper/results/distil_architectures.json; three seeds; the teacher and
the six runs of the distilled BERT and SqueezeBERT at 3281d7e, the others at 890a971), dev accuracy
with its deviation over the seeds, and speed-up over the teacher at 1x32 and 32x128:

    BERT          distilled 80.4 +- 1.3, control 79.1 +- 0.5    3.44x  4.11x
    MobileBERT    distilled 79.6 +- 0.4, control 78.2 +- 1.1    2.16x  2.47x
    SqueezeBERT   distilled 80.4 +- 0.5, control 79.4 +- 0.8    2.56x  2.10x

The teacher has 89.4. Distilling is worth 0.6 to 0.9 points on the 5,000 phrases held out, whose 95%
intervals exclude 0 for all three; on dev the interval excludes 0 for MobileBERT alone. At
equal parameters and steps no architecture is clearly the more accurate, and BERT, with most of its
parameters in words and 4 layers, is the fastest.
"""

from effjax.distill import HiddenMSE, SoftTargets, Weighted
from effjax.recipe import Distillation, Method, NewModel, Search, Student, Teacher
from effjax.train import Training

BERT = NewModel(architecture="bert", hidden=192, layers=4, heads=4, ffn=768, dropout=0.1)
SQUEEZEBERT = NewModel(
    architecture="squeezebert",
    size="uncased",
    hidden=192,
    layers=12,
    heads=4,
    ffn=768,
    dropout=0.1,
    fields=(("embedding_size", 192),),
)
MOBILEBERT = NewModel(architecture="mobilebert", size="uncased", layers=4, dropout=0.1)

recipe = Distillation(
    task="glue/sst2",
    splits=("validation",),
    held_out=5000,
    transfer=16_000,
    teacher=Teacher(
        source="sentence-transformers/all-MiniLM-L6-v2",
        training=Training(epochs=2, batch_size=64, learning_rate=1e-4, dtype="bfloat16"),
    ),
    students=(
        Student(name="BERT", model=BERT),
        Student(name="MobileBERT", model=MOBILEBERT),
        Student(name="SqueezeBERT", model=SQUEEZEBERT),
    ),
    methods=(
        Method(
            name="distilled",
            objective=Weighted(
                soft=(1.0, SoftTargets(temperature=2.0)), hidden=(10.0, HiddenMSE(layers="last"))
            ),
        ),
    ),
    training=Training(epochs=3, batch_size=64, b2=0.98, dtype="bfloat16"),
    search=Search(learning_rates=(3e-4,), steps=150, validation=2000),
    seeds=(0, 1, 2),
    latency=((1, 32), (32, 32), (1, 128), (32, 128)),
)
