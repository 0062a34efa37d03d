"""RTE: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/rte --source GLUE/RTE     # only where TFDS cannot download by itself
    effjax run configs/finetune_rte.py

Metric: accuracy.
Paper: MiniLM-6x384 has 68.8 on RTE dev (unilm/minilm README). It is of another encoder, distilled
by its authors and not tuned for sentence similarity.
Not yet run: there was no RTE at hand.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/rte",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=10, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    published=(("MiniLM-6x384, dev", 0.688),),
)
