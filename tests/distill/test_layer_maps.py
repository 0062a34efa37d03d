"""Layer maps: the rules, and pairs that do not exist."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest

from effjax.distill import (
    AttentionKL,
    AttentionMSE,
    HiddenMSE,
    LayerMap,
    Needs,
    RelationKL,
    resolve,
)
from effjax.models.base import EncoderConfig


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "want"),
    [
        ("last", 3, 12, ((3, 12),)),
        ("uniform", 4, 12, ((1, 3), (2, 6), (3, 9), (4, 12))),  # TinyBERT-4
        ("uniform", 4, 6, ((1, 1), (2, 3), (3, 4), (4, 6))),
        ("skip", 6, 12, ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))),  # PKD-Skip
        ("top", 6, 12, ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))),  # PKD-Last
        ("first", 3, 6, ((1, 1), (2, 2), (3, 3))),
        (((0, 0), (3, 6)), 3, 6, ((0, 0), (3, 6))),
    ],
)
def test_rules(layers: LayerMap, student: int, teacher: int, want: tuple) -> None:
    assert resolve(layers, student, teacher) == want


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "message"),
    [
        (((4, 6),), 3, 6, r"pair \(4, 6\) is out of range; the student has 0 to 3, .* 0 to 6"),
        (((3, 7),), 3, 6, "out of range"),
        (((-1, 0),), 3, 6, "out of range"),
        ((), 3, 6, r"layer map \(\) has no pairs for a student of 3 layers and a teacher of 6"),
        ("skip", 1, 6, "'skip' has no pairs for a student of 1 layers and a teacher of 6"),
        ("uniform", 6, 3, "the student has 6 layers, the teacher only 3"),
    ],
)
def test_what_is_not_there_is_one_line(
    layers: LayerMap, student: int, teacher: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        resolve(layers, student, teacher)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("objective", [AttentionKL, AttentionMSE, RelationKL])
def test_the_embedding_has_no_attention(config: EncoderConfig, objective: Any) -> None:
    """Whichever side names it; of hidden states it is the first."""
    teacher = config.replace(layers=config.layers * 2)
    given: dict[str, Any] = {"of": "k"} if objective is RelationKL else {}
    for pair in ((0, 1), (1, 0), (0, 0)):
        message = (
            rf"pair \({pair[0]}, {pair[1]}\) is out of range; the student has 1 to 2, .* 1 to 4"
        )
        with pytest.raises(ValueError, match=message):
            objective(layers=(pair,), **given).needs(config, teacher)
        assert HiddenMSE(layers=(pair,)).needs(config, teacher) == Needs(hidden=(pair[1],))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are of no effect, as outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("layers", "shown"),
    [(((1,),), r"\(1,\)"), (((1, 2), (1, 2, 3)), r"\(1, 2, 3\)"), ((1, 2), "1")],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_pair_is_one_line(config: EncoderConfig, layers: Any, shown: str) -> None:
    for objective in (HiddenMSE(layers=layers), AttentionKL(layers=layers)):
        with pytest.raises(ValueError, match=f"^layer map: {shown} is no pair; expected .stud"):
            objective.needs(config, config)
