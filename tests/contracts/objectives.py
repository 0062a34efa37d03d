"""One row per distillation objective: what the contracts need to know of it."""

from dataclasses import dataclass
from typing import Literal

from effjax.distill import (
    AttentionKL,
    AttentionMSE,
    HiddenCosine,
    HiddenMSE,
    LogitMSE,
    NearestHiddenMSE,
    Objective,
    PatientMSE,
    RelationKL,
    SentenceCosine,
    SentenceMSE,
    SentenceSimilarity,
    SoftTargets,
)
from effjax.models.base import Head


@dataclass(frozen=True)
class Row:
    """An objective as the contracts run it.

    Attributes:
        head: of student and teacher.
        learned: whether it learns a projection, with which a student that equals its teacher is not
            at zero.
        heads: what it compares of attention heads: nothing that has an order, each with the
            teacher's at its place, or numbers of all heads split anew.
    """

    objective: Objective
    head: Head = "sequence-classification"
    learned: bool = False
    heads: Literal["any order", "same order", "split anew"] = "any order"


OBJECTIVES = {
    "soft-targets": Row(SoftTargets(temperature=2.0)),
    "soft-targets-of-tokens": Row(SoftTargets(), head="token-classification"),
    "soft-targets-of-words": Row(SoftTargets(temperature=2.0), head="masked-lm"),
    "soft-targets-of-spans": Row(SoftTargets(over="positions"), head="question-answering"),
    "logits": Row(LogitMSE()),
    "logits-of-tokens": Row(LogitMSE(), head="token-classification"),
    "hidden-cosine": Row(HiddenCosine(layers="uniform")),
    "hidden": Row(HiddenMSE(layers="uniform", project=False)),
    "hidden-projected": Row(HiddenMSE(layers="uniform"), learned=True),
    "embedding": Row(HiddenMSE(layers=((0, 0),), project=False)),
    "nearest-hidden": Row(NearestHiddenMSE(teacher_layers=(1, 3))),
    "patient-skip": Row(PatientMSE()),
    "patient-last": Row(PatientMSE(layers="top")),
    "attention": Row(AttentionMSE(), heads="same order"),
    "attention-weights": Row(AttentionKL(), heads="same order"),
    "value-relation": Row(RelationKL(of="v"), heads="same order"),
    "query-relation": Row(RelationKL(of="q", heads=2), heads="split anew"),
    "key-relation": Row(RelationKL(of="k", heads=1)),
    "sentence": Row(SentenceMSE(project=False)),
    "sentence-projected": Row(SentenceMSE(), learned=True),
    "sentence-cosine": Row(SentenceCosine(project=False)),
    "sentence-similarity": Row(SentenceSimilarity()),
}
