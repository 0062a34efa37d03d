"""IMDb: all-MiniLM-L6-v2, fine-tuned on reviews of at most 256 tokens.

    effjax data import imdb_reviews/plain_text --source IMDB     # where TFDS cannot download
    effjax run configs/finetune_imdb.py

Metric: accuracy on the test split, whose labels are public.
Paper: DistilBERT has 92.82 (arXiv 1910.01108, table 2), with up to 512 tokens.
Measured: 90.1, one epoch and one seed (paper/results/finetune_imdb.json).
"""

from effjax.recipe import Finetuning
from effjax.train import Training

recipe = Finetuning(
    task="imdb_reviews/plain_text",
    splits=("test",),
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(
        epochs=1,
        batch_size=32,
        micro_batches=4,
        learning_rate=5e-5,
        max_length=256,
        dtype="bfloat16",
    ),
    seeds=(0,),
    published=(("DistilBERT, test", 0.9282),),
)
