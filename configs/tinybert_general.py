"""TinyBERT-4, general stage: embeddings, hidden states and attention of BERT (arXiv 1909.10351).

    effjax run configs/tinybert_general.py

Not yet run: it wants an accelerator, and a first run downloads wiki40b through TFDS, with the extra
`corpora`; `--corpus FILE` takes text of your own, one document per line. TinyBERT-6 is
configs/tinybert6_general.py.

This is the first of TinyBERT's two stages; the second is on a task (configs/tinybert_mrpc.py), and
the published row is of it, on GLUE's test sets: CoLA 44.1, MNLI-m 82.5, MRPC 86.4, QNLI 87.7, QQP
71.3, RTE 66.6, SST-2 92.6, STS-B 80.4 (from memory or a secondary source).
Expected: after the second stage, within two points of that row on dev sets, which are not the sets
of the row. It is an estimate; nothing was run that shows it.

What differs: means over pairs of layers, where the paper has sums, so that weights are as many as
there are pairs; each pair has its own projection; wiki40b stands in for English Wikipedia. Batch,
epochs and rate are those of the authors' README from memory.
"""

from effjax.distill import AttentionMSE, HiddenMSE, Weighted
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki40b/en",),
    held_out=5000,
    teacher="google-bert/bert-base-uncased",
    student=Student(name="TinyBERT", model=NewModel(size="tinybert-4l-312d")),
    objective=Weighted(
        embedding=(1.0, HiddenMSE(layers=((0, 0),))),
        hidden=(4.0, HiddenMSE(layers="uniform")),
        attention=(4.0, AttentionMSE(layers="uniform")),
    ),
    training=Training(epochs=3, batch_size=256, learning_rate=1e-4, dtype="bfloat16"),
)
