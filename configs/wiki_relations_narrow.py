"""MiniLMv2's relations on English Wikipedia: MiniLM at half its width, for the small grid.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_relations_narrow.py

The student has the teacher's six layers, each cut to half its numbers, heads and units. It is what
experiments/methods_grid.py calls narrow. As configs/wiki_relations.py otherwise.

Not yet run.
"""

from effjax.distill import RelationKL, Weighted
from effjax.recipe import GeneralDistillation, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki-en.txt",),
    held_out=500,
    teacher="sentence-transformers/all-MiniLM-L6-v2",
    student=Student(name="narrow", layers=(0, 1, 2, 3, 4, 5), hidden=192),
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
