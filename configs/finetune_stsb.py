"""STS-B: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/stsb --source GLUE/STS-B     # only where TFDS cannot download by itself
    effjax run configs/finetune_stsb.py

Metric: Pearson, then Spearman correlation.
Paper: the MiniLM-6x384 row has no STS-B.
Measured: Pearson 86.2 +- 0.6, Spearman 86.1 +- 0.5 over three seeds
(paper/results/finetune_stsb.json); no better than the Spearman 86.7 of its sentence vectors without
any training. One recipe was tried, without a search of learning rates.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/stsb",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
)
