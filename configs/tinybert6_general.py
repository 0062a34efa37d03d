"""TinyBERT-6, general stage: configs/tinybert_general.py with six layers of BERT's own width.

    effjax run configs/tinybert6_general.py

Not yet run: it wants an accelerator, and a first run downloads wiki40b through TFDS, with the extra
`corpora`; `--corpus FILE` takes text of your own, one document per line.

The published row is of the second stage, on a task (configs/tinybert6_mrpc.py), on GLUE's test
sets: CoLA 51.1, MNLI-m 84.6, MRPC 87.3, QNLI 90.4, QQP 71.6, RTE 70.0, SST-2 93.1, STS-B 83.7
(arXiv 1909.10351; from memory or a secondary source).
Expected: after the second stage, within two points of that row on dev sets, which are not the sets
of the row. It is an estimate; nothing was run that shows it.

What differs from the paper: as there. Six pairs of layers have weights of 6; the embedding is one
pair, as for TinyBERT-4.
"""

from effjax.distill import AttentionMSE, HiddenMSE, Weighted
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki40b/en",),
    held_out=5000,
    teacher="google-bert/bert-base-uncased",
    student=Student(name="TinyBERT-6", model=NewModel(size="tinybert-6l-768d")),
    objective=Weighted(
        embedding=(1.0, HiddenMSE(layers=((0, 0),))),
        hidden=(6.0, HiddenMSE(layers="uniform")),
        attention=(6.0, AttentionMSE(layers="uniform")),
    ),
    training=Training(epochs=3, batch_size=256, learning_rate=1e-4, dtype="bfloat16"),
)
