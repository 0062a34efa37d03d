"""What whole datasets are measured on: one model and the same tokens for every side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

BATCH = 32
"""Examples per step, and per call of torch's inference."""

GROUP = 50 * BATCH
"""Examples within which transformers' Trainer sorts by length."""


@dataclass(frozen=True, kw_only=True)
class DatasetCell:
    """One line of a table.

    Attributes:
        task: as in `effjax list tasks`.
        folder: of `model/`, a checkpoint with the task's head, and `tokens.npz`.
    """

    task: str
    mode: Literal["inference", "training"]
    dtype: Literal["float32", "bfloat16"]
    folder: str

    def __str__(self) -> str:
        return f"{self.task} {self.mode} {self.dtype}"

    def tokens(self) -> dict[str, np.ndarray]:
        """`input_ids`, `token_type_ids`, `offsets` and `labels` of all examples."""
        with np.load(Path(self.folder) / "tokens.npz") as arrays:
            return dict(arrays)


def order(lengths: np.ndarray, shuffled: bool, grouped: bool) -> np.ndarray:
    """The examples as they are taken, in groups of like length if that is asked for."""
    found = (
        np.random.default_rng(0).permutation(len(lengths)) if shuffled else np.arange(len(lengths))
    )
    if not grouped:
        return found
    size = GROUP if shuffled else len(lengths)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    return np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])


def padded_tokens(lengths: np.ndarray, grouped: bool) -> int:
    """How many tokens torch computes in inference, padding included."""
    taken = lengths[order(lengths, shuffled=False, grouped=grouped)]
    parts = [taken[i : i + BATCH] for i in range(0, len(taken), BATCH)]
    return int(sum(len(part) * part.max() for part in parts))
