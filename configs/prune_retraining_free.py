"""Pruning without training again: BERT-base on QQP with half of its FLOPs (arXiv 2204.09656).

    effjax run configs/prune_retraining_free.py
    effjax run configs/prune_retraining_free.py --task glue/mrpc --out runs/pruned_mrpc

Paper: half of the FLOPs for at most 1.0 point, 1.56 times as fast, in under 3 minutes on one GPU.
Not yet run: it wants an accelerator, and a first run downloads BERT-base and QQP.
"""

from effjax.recipe import Pruning, RetrainingFree, Teacher
from effjax.train import Training

recipe = Pruning(
    task="glue/qqp",
    splits=("validation",),
    model=Teacher(
        source="google-bert/bert-base-uncased",
        training=Training(epochs=3, batch_size=32, learning_rate=3e-5, dtype="bfloat16"),
    ),
    budget="flops",
    speedups=(2.0,),
    shape=(1, 128),
    calibration=2048,
    ways=(RetrainingFree(name="retraining-free"),),
    recovery=None,
    seeds=(0,),
)
