"""CoNLL-2003: all-MiniLM-L6-v2, fine-tuned to name entities, with three seeds.

    effjax data import conll2003/conll2003 --source CONLL     # where TFDS cannot download by itself
    effjax run configs/finetune_conll.py

Metric: F1 of whole entities, as seqeval has it, on the dev split.
Paper: BERT-base has F1 96.4 on dev (arXiv 1810.04805, table 7), cased; this encoder is uncased,
which loses the capitals that names begin with.
Measured: 91.3 +- 0.3, three seeds (paper/results/finetune_conll.json).
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="conll2003/conll2003",
    splits=("dev",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(epochs=5, batch_size=32, learning_rate=1e-4, dtype="bfloat16"),
    published=(("BERT-base F1, dev", 0.964),),
)
