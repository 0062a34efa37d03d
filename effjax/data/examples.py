"""Examples: the labelled texts of one split, before tokenisation.

The smallest currency of the data layer. Everything that yields text (a TFDS split, the generated
language, lines from a file) yields `Examples`; everything that consumes text (tokenisation,
evaluation, submissions) takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np


@runtime_checkable
class AnyExamples(Protocol):
    """What examples of every kind can do: texts, questions, tagged sentences."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int] | np.ndarray) -> Any:
        """The examples at `indices`, in that order."""
        ...


Some = TypeVar("Some", bound=AnyExamples)


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts with labels and official indices; row i of every column belongs together.

    Args:
        texts: One list of strings per text column (one column, or two for sentence pairs).
        labels: int32 class ids or float32 scores, shape [n]; None where the labels are not public.
        idx: Official example numbers, int32, shape [n]; 0..n-1 when the source has none.

    Raises:
        ValueError: If the columns differ in length.
    """

    texts: tuple[list[str], ...]
    labels: np.ndarray | None
    idx: np.ndarray

    def __post_init__(self) -> None:
        sizes = [len(column) for column in self.texts] + [len(self.idx)]
        sizes += [] if self.labels is None else [len(self.labels)]
        if len(set(sizes)) != 1:
            raise ValueError(f"Examples: columns, idx and labels differ in length: {sizes}")

    def __len__(self) -> int:
        return len(self.idx)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """The rows at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        texts = tuple([column[i] for i in rows] for column in self.texts)
        labels = None if self.labels is None else self.labels[rows]
        return Examples(texts, labels, self.idx[rows])


def split_off(examples: Some, count: int, seed: int) -> tuple[Some, Some]:
    """Sets `count` random rows aside: `(rest, held_out)`, both in their original order.

    Args:
        examples: The rows to divide.
        count: Number of rows held out, 0 < count < len(examples).
        seed: The same seed holds out the same rows.

    Raises:
        ValueError: If `count` does not leave rows on both sides.
    """
    if not 0 < count < len(examples):
        raise ValueError(
            f"{count} of {len(examples)} examples cannot be set aside; expected 1 or more, and one "
            "or more that are left"
        )
    held_out = np.zeros(len(examples), dtype=bool)
    held_out[np.random.default_rng(seed).choice(len(examples), count, replace=False)] = True
    return examples.take(np.flatnonzero(~held_out)), examples.take(np.flatnonzero(held_out))
