"""SQuAD v1.1: all-MiniLM-L6-v2, fine-tuned to answer questions.

    effjax data import squad/v1.1 --source SQUAD     # only where TFDS cannot download by itself
    effjax run configs/finetune_squad.py

Metric: F1, then exact match, of the official script, over the whole dev set.
Paper: DistilBERT has F1 85.8 and exact match 77.7 (arXiv 1910.01108, table 2), trained on all
87,599 questions; the MiniLM-6x384 row has no SQuAD v1.1.
Measured: F1 63.2, exact match 50.0, one seed, trained on 4,000 of the questions, of 800 paragraphs
(paper/results/finetune_squad.json, which is older than the count of `examples` in such files); not
yet run on all. Some of the questions, in a train-v1.1.json beside the whole dev-v1.1.json, go to a
data folder of their own:

    TFDS_DATA_DIR=some effjax data import squad/v1.1 --source SOME
    TFDS_DATA_DIR=some effjax run configs/finetune_squad.py
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="squad/v1.1",
    splits=("validation",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(
        epochs=3,
        batch_size=32,
        micro_batches=4,
        learning_rate=1e-4,
        max_length=384,
        dtype="bfloat16",
    ),
    seeds=(0,),
    published=(("DistilBERT F1, dev", 0.858), ("DistilBERT exact match, dev", 0.777)),
)
