"""A masked-LM head for an encoder that was published without one, on English Wikipedia.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_masked_lm.py

MiniLM was made a sentence encoder, and its masked-LM head is not published. The new head is tied to
its word embedding; all of the model is trained. `runs/wiki_masked_lm/model` can fill in
words for TinyBERT's augmentation, and teaches in configs/wiki_distilbert.py.

Measured (paper/results/wiki_masked_lm.json, one seed, 600 steps in 13 minutes on two cores of an
EPYC, another training beside the last five minutes): at the masked tokens held out a loss of 4.65
(perplexity 104.6) and an accuracy of 31.0%; who knows only how frequent words are has a loss of
7.27. There was no search.
"""

from effjax.recipe import Pretraining
from effjax.train import Training

recipe = Pretraining(
    corpus=("wiki-en.txt",),
    held_out=500,
    source="sentence-transformers/all-MiniLM-L6-v2",
    training=Training(
        batch_size=32, learning_rate=5e-4, warmup=0.05, b2=0.98, max_length=128, dtype="bfloat16"
    ),
    steps=600,
)
