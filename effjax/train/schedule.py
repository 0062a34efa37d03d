"""Learning rates over a run: a linear warm-up, then a curve by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from effjax.train.training import ScheduleName, Training
from effjax.types import Array, Float

CURVES: dict[ScheduleName, Callable[[Array, Array, Array], Array]] = {
    # (step, warm-up, steps) -> share of the peak, after the warm-up.
    "linear": lambda step, warmup, steps: 1 - gone(step, warmup, steps),
    "cosine": lambda step, warmup, steps: 0.5 + 0.5 * jnp.cos(math.pi * gone(step, warmup, steps)),
    "inverse-sqrt": lambda step, warmup, steps: jnp.sqrt(
        jnp.maximum(warmup, 1) / jnp.maximum(step, 1)
    ),
    "constant": lambda step, warmup, steps: jnp.ones(()),
}
"""Sources: linear, arXiv 1810.04805, appendix A.2; cosine, arXiv 1608.03983, equation 5, without
restarts; inverse-sqrt, arXiv 1706.03762, equation 3."""


def gone(step: Array, warmup: Array, steps: Array) -> Float[Array, ""]:
    """The share of the steps after the warm-up that is over, 0..1."""
    return jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1), 0, 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run; its numbers are arrays, so that one compiled step serves all.

    Attributes:
        peak: the highest learning rate.
        warmup: steps over which it rises from 0.
        steps: where the curve ends.
        name: the curve.
    """

    peak: Float[Array, ""]
    warmup: Float[Array, ""]
    steps: Float[Array, ""]
    name: ScheduleName = field(default="linear", metadata={"static": True})

    @classmethod
    def of(cls, training: Training, steps: int) -> "Schedule":
        rising = round(training.warmup * steps)
        numbers = [jnp.float32(x) for x in (training.learning_rate, rising, steps)]
        return cls(*numbers, name=training.schedule)

    def progress(self, step: Array) -> Float[Array, ""]:
        """The share of the steps that is over before this one, counted from 0."""
        return step / self.steps

    def rate(self, step: Array) -> Float[Array, ""]:
        """The learning rate of a step, counted from 0."""
        curve = CURVES[self.name](step, self.warmup, self.steps)
        rising = step / jnp.maximum(self.warmup, 1)
        return self.peak * jnp.where(step < self.warmup, rising, curve)
