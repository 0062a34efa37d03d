"""DistilBERT: half of BERT's layers learn its words on Wikipedia and books (arXiv 1910.01108).

    effjax run configs/distilbert.py

Not yet run: it wants an accelerator (the paper took 90 hours on 8 V100), and a first run downloads
wiki40b and pg19 through TFDS, with the extra `corpora`; `--corpus FILE` takes text of your own, one
document per line.

The published row is of GLUE's dev sets, after fine-tuning (paper, table 1): CoLA 51.3, MNLI-m 82.1,
MRPC 87.5, QNLI 89.2, QQP 88.5, RTE 59.9, SST-2 91.3, STS-B 86.9; IMDb 92.82; SQuAD v1.1 77.7 /
85.8. `effjax run configs/finetune_mrpc.py --source runs/distilbert/student` is how each is measured
here.
Expected: within a point of that row, and within two on the small sets (CoLA, MRPC, RTE), if the
corpora named are as good as the authors'. It is an estimate; nothing was run that shows it.

As its authors' release: layers 0, 2, 4, 7, 9 and 11; weights 5, 2 and 1 of soft targets over all
tokens, masked words and directions of hidden states; temperature 2; three epochs at 5e-4, Adam's b2
of 0.98. What differs: tokens are masked at one rate, where the release masks rare ones more often
(its `mlm_smoothing` of 0.7); Adam's epsilon is 1e-8, there 1e-6; the student keeps BERT's token
types and pooler; Project Gutenberg's books (pg19) stand in for the Toronto Book Corpus, which is
not distributed any more; a batch has 2048 texts of at most 512 tokens, where the paper speaks of up
to 4000.
"""

from effjax.distill import HiddenCosine, MaskedLM, SoftTargets, Weighted
from effjax.recipe import GeneralDistillation, Student
from effjax.train import Training

recipe = GeneralDistillation(
    corpus=("wiki40b/en", "pg19"),
    held_out=5000,
    teacher="google-bert/bert-base-uncased",
    head="masked-lm",
    student=Student(name="DistilBERT", layers=(0, 2, 4, 7, 9, 11)),
    objective=Weighted(
        soft=(5.0, SoftTargets(temperature=2.0)),
        mlm=(2.0, MaskedLM()),
        cos=(1.0, HiddenCosine(layers="last")),
    ),
    training=Training(
        epochs=3,
        batch_size=2048,
        micro_batches=8,
        learning_rate=5e-4,
        warmup=0.05,
        weight_decay=0.0,
        b2=0.98,
        clip_norm=5.0,
        max_length=512,
        dtype="bfloat16",
    ),
    mask_rate=0.15,
    logits_at="all tokens",
)
