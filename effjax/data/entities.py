"""Entities in tag sequences: which words they span, and the F1 over them.

A tag is `O`, `B-type` or `I-type`. Models and this library speak IOB2, where every entity begins
with `B-`; files may speak IOB1, where `B-` only parts two neighbours of one type. What a tagger
predicts need not be well-formed, and conlleval, the official scorer, says how it is read: an `I-`
that continues nothing begins an entity.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np


def beginnings(tags: Sequence[str], prefix: Literal["B-", "I-"]) -> list[int]:
    """Positions of the tags with this prefix that do not follow a tag of their own type.

    In IOB1 no `B-` is there, in IOB2 no `I-`.
    """
    return [
        i
        for i, (before, tag) in enumerate(pairwise(["O", *tags]))
        if tag.startswith(prefix) and before[1:] != tag[1:]
    ]


def scheme(sentences: Sequence[Sequence[str]]) -> Literal["IOB1", "IOB2"]:
    """The scheme that fewer sentences break; every entity with a neighbour unlike it tells.

    Without any entity both are right, and the answer is IOB2.
    """
    not_iob1, not_iob2 = (
        sum(bool(beginnings(tags, prefix)) for tags in sentences) for prefix in ("B-", "I-")
    )
    return "IOB1" if not_iob2 > not_iob1 else "IOB2"


def to_iob2(tags: Sequence[str]) -> list[str]:
    """IOB1 tags as IOB2: an `I-` that begins an entity becomes `B-`."""
    found = set(beginnings(tags, "I-"))
    return ["B" + tag[1:] if i in found else tag for i, tag in enumerate(tags)]


def entity_f1(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], labels: Sequence[str]
) -> dict[str, float]:
    """Micro-averaged F1, precision and recall of entities, then `f1_TYPE` for every type.

    An entity is right when its type and both its ends are. A ratio without entities to count is 0.

    Args:
        gold: Tag ids of each sentence, one per word.
        predicted: The same for a tagger; they may be malformed.
        labels: The tags in id order: `O`, `B-type` or `I-type`.

    Source: conlleval of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, W03-0419), as
    seqeval 1.2 computes it by default (not `mode="strict"`). Types that occur on neither side are
    left out by seqeval and are 0 here, so that the keys depend on `labels` alone.

    Raises:
        ValueError: If a label is no such tag, an id is outside `labels`, or the two sides have not
            the same words.
    """
    types = _types(labels)
    _check(gold, predicted, len(labels))
    spans = [_spans(tags, labels, types) for tags in (gold, predicted)]
    right = _per_type(spans[0] & spans[1], types)
    expected, found = (_per_type(side, types) for side in spans)
    scores = {
        "f1": _ratio(2 * right.sum(), expected.sum() + found.sum()),
        "precision": _ratio(right.sum(), found.sum()),
        "recall": _ratio(right.sum(), expected.sum()),
    }
    per_type = zip(types, right, expected + found, strict=True)
    return scores | {f"f1_{name}": _ratio(2 * hits, total) for name, hits, total in per_type}


def _types(labels: Sequence[str]) -> list[str]:
    """Entity types in order of appearance."""
    for label in labels:
        if label != "O" and not (label[:2] in ("B-", "I-") and label[2:]):
            raise ValueError(f"entity_f1: label {label!r}; allowed: O, B-type and I-type")
    return list(dict.fromkeys(label[2:] for label in labels if label != "O"))


def _check(gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], classes: int) -> None:
    if len(gold) != len(predicted) or not len(gold):
        sizes = f"{len(gold)} gold and {len(predicted)} predicted sentences"
        raise ValueError(f"entity_f1: {sizes}; needs the same number, at least one")
    for i, (expected, found) in enumerate(zip(gold, predicted, strict=True)):
        if len(expected) != len(found):
            sizes = f"{len(expected)} gold and {len(found)} predicted tags"
            raise ValueError(f"entity_f1: sentence {i} has {sizes}")
    for side, tags in (("gold", gold), ("predicted", predicted)):
        flat = np.concatenate(tags)
        if flat.size and not (flat.min() >= 0 and flat.max() < classes):
            raise ValueError(f"entity_f1: {side} tag ids are not all within 0..{classes - 1}")


def _spans(
    tags: Sequence[np.ndarray], labels: Sequence[str], types: list[str]
) -> set[tuple[int, int, int]]:
    """Entities as (type, first word, last word), the sentences laid end to end.

    An `O` after each sentence keeps entities from running on into the next.
    """
    outside = len(labels)
    type_of = np.array([-1 if tag == "O" else types.index(tag[2:]) for tag in labels] + [-1])
    is_begin = np.array([tag.startswith("B-") for tag in labels] + [False])
    flat = np.concatenate([np.append(sentence, outside) for sentence in tags])
    kind = type_of[flat]
    begins = (kind >= 0) & (is_begin[flat] | (kind != np.append(-1, kind[:-1])))
    ends = (kind >= 0) & np.append(begins[1:] | (kind[1:] < 0), True)
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    return set(zip(kind[first].tolist(), first.tolist(), last.tolist(), strict=True))


def _per_type(spans: set[tuple[int, int, int]], types: list[str]) -> np.ndarray:
    """Entities of each type, int64 [number of types]."""
    return np.bincount(np.array([span[0] for span in spans], np.int64), minlength=len(types))


def _ratio(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
