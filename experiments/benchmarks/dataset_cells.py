"""What whole datasets are measured on: one model and the same tokens for every side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

BATCH = 32
"""Examples per step, and per call of torch's inference."""


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
