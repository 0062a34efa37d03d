"""Pretrain a small BERT as a masked LM from random weights, with nothing to download.

    effjax run configs/pretrain_mlm.py

The language is generated (`effjax.data.toy`): some 29,000 sentences, without their labels, and
1,000 more to evaluate on. The model in runs/pretrain_mlm/model can be the `source` of any other
recipe. Own texts, one document per line: `--corpus FILE`.

Measured: at the masked tokens held out a loss of 0.93 (perplexity 2.52) and an accuracy of 73.0%;
who knows only how frequent words are has a loss of 4.20 (paper/results/pretrain_mlm.json).
"""

from effjax.recipe import NewModel, Pretraining
from effjax.train import Training

recipe = Pretraining(
    corpus=("toy/sentiment",),
    held_out=1000,
    vocab_size=500,
    model=NewModel(hidden=128, layers=3, heads=4, ffn=512, dropout=0.0),
    training=Training(epochs=10, batch_size=64, learning_rate=1e-3, b2=0.98, max_length=48),
)
