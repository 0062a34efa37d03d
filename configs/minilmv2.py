"""MiniLMv2: relations of queries, keys and values, split into 64 heads (arXiv 2012.15828).

    effjax run configs/minilmv2.py

Not yet run: it wants an accelerator, and a first run downloads wiki40b and pg19 through TFDS, with
the extra `corpora`; `--corpus FILE` takes text of your own, one document per line.

There is no published row at hand to compare with; that of MiniLM, whose student has the same shape,
is in configs/minilm.py.
Expected: about MiniLM's row, or more, the teacher being larger. It is an estimate; nothing was run
that shows it.

The teacher is BERT-large, of whose 24 layers the 21st teaches. What differs: wiki40b and Project
Gutenberg's books (pg19) stand in for Wikipedia and the Toronto Book Corpus, which is not
distributed any more. Batch, steps and rate are those of the paper's section 4.1 from memory.
"""

from effjax.distill import RelationKL, Weighted
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training

LAYERS = ((6, 21),)

recipe = GeneralDistillation(
    corpus=("wiki40b/en", "pg19"),
    held_out=5000,
    teacher="google-bert/bert-large-uncased",
    student=Student(name="MiniLMv2-6x384", model=NewModel(size="minilm-l6-h384")),
    objective=Weighted(
        queries=(1.0, RelationKL(of="q", heads=64, layers=LAYERS)),
        keys=(1.0, RelationKL(of="k", heads=64, layers=LAYERS)),
        values=(1.0, RelationKL(of="v", heads=64, layers=LAYERS)),
    ),
    training=Training(
        batch_size=256,
        learning_rate=6e-4,
        warmup=0.01,
        max_length=512,
        dtype="bfloat16",
    ),
    steps=400_000,
)
