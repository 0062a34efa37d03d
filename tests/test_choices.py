"""A misspelled choice is refused where it is made, and nowhere ignored."""

from typing import Any

import pytest

from effjax.data.tables import TextFiles
from effjax.distill import RelationKL, SoftTargets, Weighted
from effjax.models import Runtime
from effjax.recipe import FewerLayers, GeneralDistillation, Pretraining, Recovery, Student
from effjax.train import Training
from tests.recipe.small_pruning import RECIPE as PRUNING
from tests.recipe.test_distillation import RECIPE as DISTILLATION

SOFT = Weighted(soft=(1.0, SoftTargets()))
TEXT: dict[str, Any] = {"corpus": ("a.txt",), "held_out": 1, "training": Training()}
PRETRAINING = Pretraining(**TEXT)
STUDENT = Student(name="one", layers=(0,))
GENERAL = GeneralDistillation(**TEXT, teacher="teacher", student=STUDENT, objective=SOFT)
RECOVERY = Recovery(training=Training(), objective=SOFT)
FILES = TextFiles(train="a.csv", text=("text",), label="label", labels=("0", "1"))
ORDERS = "top, bottom, alternate, symmetric, importance, contribution"


@pytest.mark.parametrize(
    ("record", "field", "where", "allowed"),
    [
        (Training(), "optimizer", "training: ", "adamw, lamb"),
        (Training(), "schedule", "training: ", "linear, cosine, inverse-sqrt, constant"),
        (Training(), "layout", "training: ", "packed, padded"),
        (Training(), "dtype", "training: ", "float32, bfloat16"),
        (Training(), "remat", "training: ", "none, layers, products"),
        (Runtime(), "dtype", "runtime: ", "float32, bfloat16"),
        (Runtime(), "attention", "runtime: ", "textbook, late-division, fused"),
        (Runtime(), "remat", "runtime: ", "none, layers, products"),
        (SoftTargets(), "over", "SoftTargets: ", "classes, positions"),
        (RelationKL(of="q"), "of", "RelationKL: ", "q, k, v"),
        (FILES, "on_bad", "", "stop, skip"),
        (PRETRAINING, "on_bad", "", "stop, skip"),
        (GENERAL, "on_bad", "", "stop, skip"),
        (GENERAL, "head", "", "masked-lm, None"),
        (GENERAL, "logits_at", "", "masked tokens, all tokens"),
        (DISTILLATION, "teacher_runs", "", "once, every step"),
        (DISTILLATION, "seeds_run", "", "one by one, together"),
        (PRUNING, "budget", "", "parameters, flops, latency"),
        (PRUNING, "layout", "", "compact, dense"),
        (RECOVERY, "teacher_runs", "recovery: ", "once, every step"),
        (FewerLayers(name="layers", order="top"), "order", "way 'layers': ", ORDERS),
    ],
)
def test_a_misspelled_choice_is_refused(record: Any, field: str, where: str, allowed: str) -> None:
    made = object.__new__(type(record))  # the type checker of the tests refuses it first
    vars(made).update(vars(record))
    record.__post_init__()
    object.__setattr__(made, field, "nonsense")
    with pytest.raises(ValueError) as caught:
        made.__post_init__()
    assert str(caught.value) == f"{where}{field} is 'nonsense'; allowed: {allowed}"


def test_a_chunk_has_tokens() -> None:
    with pytest.raises(ValueError, match="runtime: chunk_tokens is 0; it must be above 0, None"):
        Runtime(chunk_tokens=0)
