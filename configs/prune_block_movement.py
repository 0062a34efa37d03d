"""Block movement pruning: BERT-base on SQuAD v1.1 in blocks of 32 x 32 (arXiv 2109.04838).

    effjax run configs/prune_block_movement.py

Paper: F1 88.72 on dev, 1.84 times as fast.
Not yet run: it wants an accelerator, and a first run downloads BERT-base and SQuAD.

What differs: the share of blocks that is zero is a target (the paper's follows from a penalty), in
feed-forward networks too (the paper has rows and columns there); the filled model, whose heads and
units are whole, is then trained on. Epochs and rates are from memory.
"""

from effjax.distill import SoftTargets, TaskLoss, Weighted
from effjax.recipe import BlockMovement, Pruning, Recovery, Teacher
from effjax.train import Training

recipe = Pruning(
    task="squad/v1.1",
    splits=("validation",),
    model=Teacher(
        source="google-bert/bert-base-uncased",
        training=Training(
            epochs=2, batch_size=32, learning_rate=5e-5, max_length=384, dtype="bfloat16"
        ),
    ),
    budget="flops",
    speedups=(2.0, 3.0),
    shape=(32, 384),
    calibration=512,
    ways=(BlockMovement(name="block movement", share=0.75),),
    recovery=Recovery(
        training=Training(
            epochs=20, batch_size=16, learning_rate=3e-5, max_length=384, dtype="bfloat16"
        ),
        objective=Weighted(
            soft=(0.9, SoftTargets(temperature=2.0, over="positions")), task=(0.1, TaskLoss())
        ),
    ),
    seeds=(0, 1, 2),
)
