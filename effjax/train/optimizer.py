"""AdamW with linear warm-up and decay, as BERT is fine-tuned."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from effjax.data.layouts import Layout
from effjax.table import Table
from effjax.tree import unflatten
from effjax.types import Array, Float, PyTree


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one model is trained.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples per step.
        learning_rate: its peak, after the warm-up.
        warmup: share of the steps over which the learning rate rises from 0; it then falls linearly
            to 0.
        weight_decay: decoupled, on kernels and embeddings; never on norms and biases.
        b2: decay of Adam's second moment; 0.98 steadies encoders that train from random weights
            (arXiv 1907.11692, section 3.1).
        clip_norm: largest global norm of the gradient.
        max_length: tokens per example; longer ones are truncated.
        layout: whether several short examples share a row of a batch or each has its own.
        dtype: what products are computed in.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    b2: float = 0.999
    clip_norm: float = 1.0
    max_length: int = 128
    layout: Layout = "packed"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm", "max_length"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training: {name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                f"training: warmup is {self.warmup}; it is a share of the steps, from 0 to 1"
            )


def decay_mask(table: Table) -> PyTree:
    """True for the parameters that decay: kernels and embeddings."""
    return unflatten({row.path: row.role in ("kernel", "embedding") for row in table})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run; its numbers are arrays, so that one compiled step serves all.

    Attributes:
        peak: the highest learning rate.
        warmup: steps over which it rises from 0.
        steps: where it is back at 0.
    """

    peak: Float[Array, ""]
    warmup: Float[Array, ""]
    steps: Float[Array, ""]

    @classmethod
    def of(cls, training: Training, steps: int) -> "Schedule":
        warmup = round(training.warmup * steps)
        return cls(*(jnp.float32(x) for x in (training.learning_rate, warmup, steps)))

    def rate(self, step: Array) -> Float[Array, ""]:
        """Linear up, linear down. Source: arXiv 1810.04805, appendix A.2."""
        rising = step / jnp.maximum(self.warmup, 1)
        falling = (self.steps - step) / jnp.maximum(self.steps - self.warmup, 1)
        return self.peak * jnp.clip(jnp.where(step < self.warmup, rising, falling), 0, 1)


def clip(gradient: PyTree, largest: float) -> PyTree:
    """The gradient, scaled down to a global norm of `largest` if it is longer.

    Source: arXiv 1211.5063, algorithm 1. One factor for all: a division per element, as in
    `optax.clip_by_global_norm`, is work that XLA does not fuse with what follows on a CPU.
    """
    factor = jnp.minimum(1, largest / optax.tree.norm(gradient))
    return jax.tree.map(lambda x: factor * x, gradient)


def make_optimizer(
    table: Table, *, clip_norm: float, b2: float, weight_decay: float
) -> optax.GradientTransformation:
    """Clipping and AdamW for {"params", "aux"}, without the learning rate; all of `aux` decays.

    Source: AdamW, arXiv 1711.05101; clipping and the mask as in arXiv 1810.04805, as released.
    """
    mask = {"params": decay_mask(table), "aux": True}
    return optax.chain(
        optax.stateless(lambda gradient, _: clip(gradient, clip_norm)),
        optax.scale_by_adam(b2=b2),
        optax.add_decayed_weights(weight_decay, mask),
    )
