"""MiniLMv2's relations on English Wikipedia: half of the layers of MiniLM, for the small grid.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_relations.py

The student, three layers of the teacher's six, is what experiments/methods_grid.py calls 3-layer.
Its narrow student has all six, of half the width:

    effjax run configs/wiki_relations.py --student.name narrow --student.layers 0 1 2 3 4 5 \\
        --student.hidden 192 --out runs/wiki_relations_narrow

Measured (paper/results/wiki_relations.json, one seed, 1,000 steps, which is 2.8 million tokens, in
8 minutes on two cores of an AMD EPYC): on 500 documents held out the divergences of queries, keys
and values are 0.070, 0.119 and 0.036. There was no search. On another EPYC, with other dropout,
they are 0.071, 0.119 and 0.037, in 13 minutes (paper/results/methods_grid_relations.json), and
0.189, 0.296 and 0.147 of the narrow student, in 19 minutes on one core
(paper/results/methods_grid_relations_narrow.json).
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
