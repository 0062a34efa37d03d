"""MRPC: all-MiniLM-L6-v2, fine-tuned with three seeds.

    effjax data import glue/mrpc --source GLUE/MRPC     # only where TFDS cannot download by itself
    effjax run configs/finetune_mrpc.py

Metric: F1, then accuracy.
Paper: MiniLM-6x384 has 88.9 on MRPC dev (unilm/minilm README; arXiv 2002.10957, table 8), where
neither says of which metric; the paper's table 2 says accuracy, of all tasks but SQuAD. It is of
another encoder, distilled by its authors and not tuned for sentence similarity.
Measured: F1 85.4 +- 0.4, accuracy 78.5 +- 0.5 over three seeds (paper/results/finetune_mrpc.json).
One recipe was tried, without a search of learning rates.
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="glue/mrpc",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=5e-5, dtype="bfloat16"),
    published=(("MiniLM-6x384, dev", 0.889),),
)
