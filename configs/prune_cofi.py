"""CoFi: BERT-base on MNLI without 60% and 95% of the parameters of its layers (arXiv 2204.00408).

    effjax run configs/prune_cofi.py

Paper: 60% gone, 2.1 times as fast: MNLI-m 85.3, dev; QNLI 91.8, SST-2 93.0 (`--task`). 95% gone, 12
times as fast: MNLI-m 80.6, QNLI 86.1, SST-2 90.4, MRPC 83.6. 12 times on a V100 became 5.2 times on
an A100 (CoFiPruning's issue 39).
Not yet run: it wants an accelerator, and a first run downloads BERT-base and MNLI.

`speedups` are all parameters over those that are left, embeddings included: 1.87 and 3.81 leave
40% and 5% of the 85 million parameters of heads and feed-forward units. What differs from the
paper: the hidden states stay (`effjax.prune.CoFi` can prune them, in a training of one's own), and
the gates begin at once, without an epoch of fine-tuning before. Epochs, warm-up and rates are those
that its release names for MNLI, which searches the rate of the second half and both weights.
"""

from effjax.distill import NearestHiddenMSE, SoftTargets, Weighted
from effjax.recipe import HardConcrete, Pruning, Recovery, Teacher
from effjax.train import Training

recipe = Pruning(
    task="glue/mnli",
    splits=("validation_matched", "validation_mismatched"),
    model=Teacher(
        source="google-bert/bert-base-uncased",
        training=Training(epochs=3, batch_size=32, learning_rate=3e-5, dtype="bfloat16"),
    ),
    budget="parameters",
    speedups=(1.87, 3.81),
    shape=(128, 128),
    calibration=2048,
    ways=(HardConcrete(name="CoFi", share=0.5, warmup=0.1),),
    recovery=Recovery(
        training=Training(epochs=40, batch_size=32, learning_rate=2e-5, dtype="bfloat16"),
        objective=Weighted(
            soft=(0.1, SoftTargets(temperature=2.0)),
            layers=(0.9, NearestHiddenMSE(teacher_layers=(3, 6, 9, 12))),
        ),
        teacher_runs="every step",
    ),
    seeds=(0, 1, 2),
)
