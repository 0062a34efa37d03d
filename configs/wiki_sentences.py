"""A smaller sentence encoder: three layers of MiniLM learn its embeddings on English Wikipedia.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_sentences.py
    effjax evaluate runs/wiki_sentences/student --task similarity/stsb

No label and no sentence of STS-B is trained on; the teacher has a Spearman of 86.7 on its dev set.

Not yet run.
"""

from effjax.distill import SentenceCosine, SentenceSimilarity, Weighted
from effjax.recipe import GeneralDistillation, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki-en.txt",),
    held_out=500,
    teacher="sentence-transformers/all-MiniLM-L6-v2",
    student=Student(name="3 layers", layers=(1, 3, 5)),
    objective=Weighted(
        cosine=(1.0, SentenceCosine(project=False)), similarity=(1.0, SentenceSimilarity())
    ),
    training=Training(
        batch_size=32, learning_rate=3e-4, warmup=0.05, b2=0.98, max_length=128, dtype="bfloat16"
    ),
    steps=1000,
)
