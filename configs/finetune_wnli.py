"""WNLI: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/wnli --source GLUE/WNLI     # only where TFDS cannot download by itself
    effjax run configs/finetune_wnli.py

Metric: accuracy.
Paper: none of the published rows at hand has WNLI, which papers leave out. Its dev set holds
sentences of the training set with the other label, so that the more frequent one is hard to beat.
Not yet run: there was no WNLI at hand.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/wnli",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=3, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
)
