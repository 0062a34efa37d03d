"""QQP: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/qqp --source GLUE/QQP     # only where TFDS cannot download by itself
    effjax run configs/finetune_qqp.py

Metric: F1, then accuracy.
Paper: MiniLM-6x384 has 90.6 on QQP dev (unilm/minilm README), accuracy by table 2 of arXiv
2002.10957. It is of another encoder, distilled by its authors and not tuned for sentence
similarity.
Not yet run: there was no QQP at hand.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/qqp",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=3, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    published=(("MiniLM-6x384 accuracy, dev", 0.906),),
)
