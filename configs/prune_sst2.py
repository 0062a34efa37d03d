"""SST-2: all-MiniLM-L6-v2 made 1.5 to 4 times as fast, in seven ways, each with the same recovery.

    effjax data import glue/sst2 --source GLUE/SST-2     # only where TFDS cannot download by itself
    effjax run configs/prune_sst2.py
    effjax run configs/prune_sst2.py --budget flops --out runs/prune_sst2_flops

The budget is time: a table of what heads and feed-forward units take is measured first, once per
device, and every smaller model is timed beside the whole one in the end; both want a machine that
does nothing else. Random scores are the control of all other ways. The model is fine-tuned on all
sentences; smaller ones recover on 10,000 of them, from its logits and from the labels.

Paper: none prunes this encoder. Of BERT-base, CoFi (arXiv 2204.00408) reports models more than ten
times as fast with a small loss of accuracy.
Not yet run.
"""

from effjax.distill import SoftTargets, TaskLoss, Weighted
from effjax.recipe import (
    FewerLayers,
    HardConcrete,
    OneShot,
    Pruning,
    Recovery,
    RetrainingFree,
    Teacher,
    ZipLM,
)
from effjax.train import Training

recipe = Pruning(
    task="glue/sst2",
    splits=("validation",),
    transfer=10_000,
    model=Teacher(
        source="sentence-transformers/all-MiniLM-L6-v2",
        training=Training(epochs=3, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    ),
    budget="latency",
    shape=(8, 128),
    speedups=(1.5, 2.0, 3.0, 4.0),
    multiples=(("ffn", 32),),
    calibration=512,
    ways=(
        OneShot(name="random", criterion="uniform"),
        OneShot(name="magnitude", criterion="magnitude"),
        OneShot(name="first-order", criterion="first_order"),
        RetrainingFree(name="retraining-free"),
        FewerLayers(name="layers", order="importance"),
        ZipLM(name="ZipLM"),
        HardConcrete(name="CoFi", learning_rate=0.1),  # 0.01 is for more steps
    ),
    recovery=Recovery(
        training=Training(epochs=4, batch_size=32, learning_rate=1e-4, dtype="bfloat16"),
        objective=Weighted(soft=(1.0, SoftTargets(temperature=2.0)), task=(1.0, TaskLoss())),
    ),
    seeds=(0, 1, 2),
)
