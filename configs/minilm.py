"""MiniLM: the last layer's attention and values, in 6 layers of width 384 (arXiv 2002.10957).

    effjax run configs/minilm.py

Not yet run: it wants an accelerator, and a first run downloads wiki40b and pg19 through TFDS, with
the extra `corpora`; `--corpus FILE` takes text of your own, one document per line.

The published row is of GLUE's dev sets, after fine-tuning, of a student of this shape whose teacher
is BERT-base (paper, table 3): MNLI 82.2, SST-2 91.0. That of the authors' README (CoLA 47.5, MNLI-m
83.3, MRPC 88.9, QNLI 90.5, QQP 90.6, RTE 68.8, SST-2 91.5) is of a teacher of their own, with
another student between. Each is measured here by `effjax run configs/finetune_mrpc.py --source
runs/minilm/student` and its like.
Expected: within a point of the first row, if the corpora named are as good as the authors'. It is
an estimate; nothing was run that shows it.

What differs: wiki40b and Project Gutenberg's books (pg19) stand in for Wikipedia and the Toronto
Book Corpus, which is not distributed any more. The authors never published their training code;
batch, steps and rate are those of the paper's section 4.1 for students of this width, from memory.
"""

from effjax.distill import AttentionKL, RelationKL, Weighted
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki40b/en", "pg19"),
    held_out=5000,
    teacher="google-bert/bert-base-uncased",
    student=Student(name="MiniLM-6x384", model=NewModel(size="minilm-l6-h384")),
    objective=Weighted(
        attention=(1.0, AttentionKL(layers="last")), values=(1.0, RelationKL(of="v", layers="last"))
    ),
    training=Training(
        batch_size=256,
        learning_rate=3e-4,
        warmup=0.01,
        max_length=512,
        dtype="bfloat16",
    ),
    steps=400_000,
)
