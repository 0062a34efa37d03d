"""DistilBERT's triple loss on English Wikipedia: half of the layers of MiniLM, beside relations.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_masked_lm.py                       # the teacher
    effjax run configs/wiki_distilbert.py

As configs/wiki_relations.py, with as many steps on the same batches, which are computed in four
parts each, and the weights of configs/distilbert.py. What differs from the paper: the teacher is
small, and no good masked LM (its header says what it has).

Measured (paper/results/wiki_distilbert.json, one seed, 1,000 steps, interrupted once, on an
AMD EPYC): on 500 documents held out the soft targets have a divergence of 0.145
(of T^2 KL), the cosine loss is 0.102 and the masked LM's 4.57, below its teacher's own 4.65, which
had 600 steps to learn its words. There was no search.
"""

from effjax.distill import HiddenCosine, MaskedLM, SoftTargets, Weighted
from effjax.recipe import GeneralDistillation, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki-en.txt",),
    held_out=500,
    teacher="runs/wiki_masked_lm/model",
    head="masked-lm",
    student=Student(name="3 layers", layers=(1, 3, 5)),
    objective=Weighted(
        soft=(5.0, SoftTargets(temperature=2.0)),
        mlm=(2.0, MaskedLM()),
        cos=(1.0, HiddenCosine(layers="last")),
    ),
    training=Training(
        batch_size=32,
        micro_batches=4,  # the logits of 4,096 tokens over all words take much memory
        learning_rate=5e-4,
        warmup=0.05,
        b2=0.98,
        save_every=100,
        max_length=128,
        dtype="bfloat16",
    ),
    steps=1000,
    mask_rate=0.15,
    logits_at="all tokens",
)
