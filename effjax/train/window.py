"""What a few steps of training measured: their metrics, read all at once."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from effjax.data.layouts import Batch
from effjax.train.logs import SPEED
from effjax.types import Array

Metrics = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """The metrics of consecutive steps.

    Attributes:
        series: every metric, step by step.
        tokens_per_second: tokens trained on, padding not counted.
    """

    series: Mapping[str, np.ndarray]
    tokens_per_second: float

    @property
    def skipped(self) -> np.ndarray:
        """Which steps were left out."""
        return self.series.get("skipped", np.zeros_like(self.series["loss"])) > 0

    @property
    def bad(self) -> int | None:
        """The first step that cannot stand: a loss or gradient that is not finite, and not left
        out; or the last one, if all were left out. Counted from 0; None if there is none.
        """
        finite = np.isfinite(self.series["loss"]) & np.isfinite(self.series["grad_norm"])
        broken = np.flatnonzero(~finite & ~self.skipped)
        if len(broken):
            return int(broken[0])
        return len(finite) - 1 if self.skipped.all() else None

    def means(self) -> Metrics:
        """Every metric's mean over the steps that were not left out, their count, and the speed."""
        kept = {name: float(x[~self.skipped].mean()) for name, x in self.series.items()}
        if "skipped" in kept:
            kept["skipped"] = float(self.skipped.sum())
        return kept | {f"{SPEED}tokens_per_second": self.tokens_per_second}


class Window:
    """The steps since the last look at the metrics; the device is waited for only at a look."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, Array]] = []
        self.tokens = 0
        self.begun = time.perf_counter()

    def add(self, metrics: Mapping[str, Array], parts: tuple[Batch, ...]) -> None:
        """One more step."""
        self.steps.append(metrics)
        self.tokens += sum(int(part["attention_mask"].sum()) for part in parts)

    def read(self) -> Measured:
        """What the steps measured."""
        steps = jax.device_get(self.steps)
        series = {name: np.array([float(step[name]) for step in steps]) for name in steps[0]}
        return Measured(series, self.tokens / (time.perf_counter() - self.begun))
