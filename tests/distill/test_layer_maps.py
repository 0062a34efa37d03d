"""Layer maps: the rules, and pairs that do not exist."""

import pytest

from effjax.distill import LayerMap, resolve


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
        ((), 3, 6, "no pairs"),
        ("skip", 1, 6, "no pairs"),
        ("uniform", 6, 3, "the student has 6 layers, the teacher only 3"),
    ],
)
def test_what_is_not_there_is_one_line(
    layers: LayerMap, student: int, teacher: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        resolve(layers, student, teacher)
    assert "\n" not in str(caught.value)
