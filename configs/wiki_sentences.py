"""A smaller sentence encoder: three layers of MiniLM learn its embeddings on English Wikipedia.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_sentences.py
    effjax evaluate runs/wiki_sentences/student --task similarity/stsb --out stsb.json

No label and no sentence of STS-B is trained on.

Measured (paper/results/wiki_sentences.json, one seed, 1,000 steps, one core of an AMD EPYC, other
work beside it): on 500 documents held out the embeddings' cosine is 0.924. On STS-B's dev set the
student's Spearman is 84.0 (wiki_sentences_stsb.json); the teacher's is 86.7
(wiki_sentences_stsb_teacher.json), that of its layers 1, 3 and 5 as they are 76.1
(wiki_sentences_stsb_start.json). There was no search.
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
