"""MobileBERT's progressive knowledge transfer: layer by layer, then words (arXiv 2004.02984).

    effjax run configs/mobilebert.py

Not yet run: it wants an accelerator, and a first run downloads wiki40b and pg19 through TFDS, with
the extra `corpora`; `--corpus FILE` takes text of your own, one document per line.

For 240,000 of 740,000 steps the 24 layers are learned one after the other, 10,000 steps each, from
the feature map and the attention of the teacher's layer; then the words, from the labels and from
the teacher alike (section 3.5, "progressive knowledge transfer"). What differs: the paper's
teacher, IB-BERT_LARGE, was not published, so MobileBERT teaches and MobileBERT_TINY, whose layers
are as many and as wide, learns; there is no published row of it at hand (MobileBERT's: GLUE test
77.7, SQuAD v1.1 F1 90.0). The student begins at random, embedding and head too, where the paper
copies these from the teacher; layers below the one that is learned go on learning, where the paper
has them frozen; feature maps have the plain squared error; there is no next-sentence prediction; a
batch has 2048 texts, where the paper's has 4096; wiki40b and Project Gutenberg's books (pg19) stand
in for Wikipedia and the Toronto Book Corpus. Steps and rate, and the paper's batch, are those of
section 4.2 from memory.

Expected: less than MobileBERT's row, which is the teacher's; how much less, nothing here says.
"""

from effjax.distill import AttentionKL, HiddenMSE, MaskedLM, Piecewise, SoftTargets, Weighted
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training

LAYERS = 24
STEPS = 740_000
TRANSFER = LAYERS * 10_000 / STEPS
"""Share of the training in which layers are learned."""


def during(begin: float, end: float) -> Piecewise:
    """A weight of 1 from one share of the training to another, and 0 elsewhere."""
    at_once = 1e-6
    before = ((begin - at_once, 0.0),) if begin else ()
    after = ((end + at_once, 0.0),) if end < 1 else ()
    return Piecewise(points=(*before, (begin, 1.0), (end, 1.0), *after))


def layer_terms(layer: int) -> dict:
    """What compares one layer, counted from 1, while it is its turn."""
    begin, end = (TRANSFER * turn / LAYERS for turn in (layer - 1, layer))
    pair = ((layer, layer),)
    return {
        f"features_{layer}": (during(begin, end), HiddenMSE(layers=pair, project=False)),
        f"attention_{layer}": (during(begin, end), AttentionKL(layers=pair)),
    }


layers = [layer_terms(layer) for layer in range(1, LAYERS + 1)]
words = Piecewise(points=((TRANSFER, 0.0), (TRANSFER + 1e-6, 0.5), (1.0, 0.5)))

recipe = GeneralDistillation(
    corpus=("wiki40b/en", "pg19"),
    held_out=5000,
    teacher="google/mobilebert-uncased",
    head="masked-lm",
    student=Student(name="MobileBERT-tiny", model=NewModel(architecture="mobilebert", size="tiny")),
    objective=Weighted(
        **{name: term for terms in layers for name, term in terms.items()},
        mlm=(words, MaskedLM()),
        soft=(words, SoftTargets(temperature=1.0)),
    ),
    training=Training(
        batch_size=2048,
        micro_batches=16,
        optimizer="lamb",
        learning_rate=1.5e-3,
        warmup=0.02,
        max_length=512,
        dtype="bfloat16",
    ),
    steps=STEPS,
    mask_rate=0.15,
)
