"""CoLA: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/cola --source GLUE/CoLA     # only where TFDS cannot download by itself
    effjax run configs/finetune_cola.py

Metric: Matthews correlation.
Paper: MiniLM-6x384 has 47.5 on CoLA dev (unilm/minilm README). It is of another encoder,
distilled by its authors and not tuned for sentence similarity.
Measured: 28.9 +- 1.3 over three seeds (paper/results/finetune_cola.json). One recipe was tried,
without a search of learning rates.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/cola",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    published=(("MiniLM-6x384, dev", 0.475),),
)
