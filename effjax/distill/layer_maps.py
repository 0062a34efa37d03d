"""Layer maps: which hidden state of the student learns from which of the teacher.

Hidden states are numbered as in `Outputs.hidden`: 0 is the embedding, n the last of n layers.
"""

from typing import Literal

LayerMap = Literal["last", "uniform", "skip", "first", "top"] | tuple[tuple[int, int], ...]
"""A rule, or (student, teacher) pairs."""


def resolve(
    layers: LayerMap, student_depth: int, teacher_depth: int, *, first: int = 0
) -> tuple[tuple[int, int], ...]:
    """The (student, teacher) pairs of a layer map, for n student and N teacher layers.

    * "last": (n, N), as DistilBERT does;
    * "uniform": (i, floor(i N / n)) for i = 1 to n, as TinyBERT does;
    * "skip": the same without its last pair, PKD-Skip;
    * "first": (i, i) for i = 1 to n;
    * "top": (i, N - n + i) for i = 1 to n - 1, PKD-Last.

    Source: arXiv 1910.01108, section 2; 1909.10351, section 3.1 (here without the embedding, which
    is the pair (0, 0)); 1908.09355, section 3.

    Args:
        first: the least that a pair may name; 1 for what there is none of in the embedding.

    Raises:
        ValueError: a pair is none, or is out of range; or there is none at all.
    """
    pairs = pairs_of(layers, student_depth, teacher_depth)
    if not pairs:
        raise ValueError(
            f"layer map {layers!r} has no pairs for a student of {student_depth} layers and a "
            f"teacher of {teacher_depth}"
        )
    for pair in pairs:
        check_pair(pair, student_depth, teacher_depth, first)
    return pairs


def pairs_of(
    layers: LayerMap, student_depth: int, teacher_depth: int
) -> tuple[tuple[int, int], ...]:
    """The pairs, unchecked."""
    if isinstance(layers, tuple):
        return layers
    n, N = student_depth, teacher_depth
    every = range(1, n + 1)
    rules = {
        "last": [(n, N)],
        "uniform": [(i, i * N // n) for i in every],
        "skip": [(i, i * N // n) for i in every[:-1]],
        "first": [(i, i) for i in every],
        "top": [(i, N - n + i) for i in every[:-1]],
    }
    if layers not in rules:
        raise ValueError(
            f"layer map {layers!r} is not known; allowed: {', '.join(rules)}, or pairs"
        )
    if layers != "last" and n > N:
        raise ValueError(f"layer map {layers!r}: the student has {n} layers, the teacher only {N}")
    return tuple(rules[layers])


def check_pair(pair: tuple[int, int], student_depth: int, teacher_depth: int, first: int) -> None:
    """Raises a ValueError for a pair that is none, or names a layer that is not there."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ValueError(f"layer map: {pair!r} is no pair; expected (student, teacher)")
    student, teacher = pair
    if not (first <= student <= student_depth and first <= teacher <= teacher_depth):
        raise ValueError(
            f"layer map: pair {pair} is out of range; the student has {first} to {student_depth}, "
            f"the teacher {first} to {teacher_depth}"
        )
