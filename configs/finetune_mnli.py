"""MNLI: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/mnli --source GLUE/MNLI     # only where TFDS cannot download by itself
    effjax run configs/finetune_mnli.py

Metric: accuracy, on matched genres and on mismatched ones.
Paper: MiniLM-6x384 has 83.3 on MNLI-m dev (unilm/minilm README). It is of another encoder,
distilled by its authors and not tuned for sentence similarity.
Not yet run: there was no MNLI at hand.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/mnli",
    splits=("validation_matched", "validation_mismatched"),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=3, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    published=(("MiniLM-6x384, dev", 0.833),),
)
