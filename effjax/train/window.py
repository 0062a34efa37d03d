"""What a few steps of training measured: their metrics, read all at once."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from effjax.train.logs import SPEED
from effjax.types import Array

Metrics = dict[str, float]

SKIPS = 10
"""Steps left out in a row at which a run stops: what broke so many will not mend itself."""

AHEAD = 2
"""Steps that the device may be behind: it never waits for the next one, and who asks for an end
waits for these alone. JAX would begin dozens on a CPU.
"""


@dataclass(frozen=True)
class Measured:
    """The metrics of consecutive steps.

    Attributes:
        steps: those of each step by name.
        tokens: trained on in these steps by all processes, padding not counted.
        seconds: that they took.
        skipped_before: steps that were left out in a row right before these.
    """

    steps: Sequence[Metrics] = ()
    tokens: int = 0
    seconds: float = 0.0
    skipped_before: int = 0

    def series(self, name: str) -> np.ndarray:
        """One metric, step by step; zeros where it was not measured."""
        return np.array([step.get(name, 0.0) for step in self.steps])

    @property
    def skipped(self) -> np.ndarray:
        """Which steps were left out."""
        return self.series("skipped") > 0

    @property
    def skipped_in_a_row(self) -> np.ndarray:
        """How many steps were left out in a row, up to each one."""
        number = np.arange(1, len(self.steps) + 1)
        kept = np.where(self.skipped, -self.skipped_before, number)
        return number - np.maximum.accumulate(kept)

    @property
    def bad(self) -> int | None:
        """The first step that cannot stand: a loss or gradient that is not finite, and not left
        out; or the last of too many in a row that were. Counted from 0; None if there is none.
        """
        finite = np.isfinite(self.series("loss")) & np.isfinite(self.series("grad_norm"))
        broken = ~finite & ~self.skipped | (self.skipped_in_a_row >= SKIPS)
        return int(broken.argmax()) if broken.any() else None

    @property
    def fault(self) -> str:
        """What is wrong with the first step that cannot stand, in words that a step follows."""
        assert self.bad is not None
        step = self.steps[self.bad]
        if self.skipped[self.bad]:
            return f"{SKIPS} steps in a row were left out"
        if math.isfinite(step["loss"]):
            return f"the norm of the gradient is {step['grad_norm']}"
        return f"the loss is {step['loss']}"

    def means(self) -> Metrics:
        """Every metric's mean over the steps that were not left out, their count, and the speed;
        a loss that is no number where all were.
        """
        kept = [step for step in self.steps if not step.get("skipped")]
        means = {name: float(np.mean([step[name] for step in kept])) for name in (kept or [{}])[0]}
        if "skipped" in self.steps[0]:
            means |= {"skipped": float(self.skipped.sum())}
        return (
            {"loss": math.nan} | means | {f"{SPEED}tokens_per_second": self.tokens / self.seconds}
        )

    def after(self) -> "Measured":
        """No step yet, right after these."""
        return Measured(skipped_before=int(self.skipped_in_a_row[-1]))


class Window:
    """The steps since the last look at the metrics, which are read at the next one.

    Args:
        begun: steps of this window that an interrupted run did.
    """

    def __init__(self, begun: Measured) -> None:
        self.begun = begun
        self.steps: list[Mapping[str, Array]] = []
        self.tokens = begun.tokens
        self.start = time.perf_counter() - begun.seconds

    def add(self, metrics: Mapping[str, Array], tokens: int) -> None:
        """One more step, on so many tokens; waits until at most `AHEAD` are not done."""
        self.steps.append(metrics)
        self.tokens += tokens
        jax.block_until_ready(self.steps[-1 - AHEAD : -AHEAD])

    def read(self) -> Measured:
        """What the steps measured."""
        found = jax.device_get(self.steps)
        steps = [{name: float(x) for name, x in step.items()} for step in found]
        seconds = time.perf_counter() - self.start
        return replace(
            self.begun, steps=[*self.begun.steps, *steps], tokens=self.tokens, seconds=seconds
        )
