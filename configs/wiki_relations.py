"""MiniLMv2's relations on English Wikipedia: half of the layers of MiniLM, for the small grid.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_relations.py

The student, three layers of the teacher's six, is what configs/methods_mrpc.py and its kin start
from.

Not yet run.
"""

from effjax.distill import RelationKL, Weighted
from effjax.recipe import GeneralDistillation, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki-en.txt",),
    held_out=500,
    teacher="sentence-transformers/all-MiniLM-L6-v2",
    student=Student(name="3 layers", layers=(1, 3, 5)),
    objective=Weighted(
        queries=(1.0, RelationKL(of="q", heads=12)),
        keys=(1.0, RelationKL(of="k", heads=12)),
        values=(1.0, RelationKL(of="v", heads=12)),
    ),
    training=Training(
        batch_size=32, learning_rate=5e-4, warmup=0.05, b2=0.98, max_length=128, dtype="bfloat16"
    ),
    steps=1000,
)
