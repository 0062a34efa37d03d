"""`Training`: how one model is trained, the part of a recipe that every training shares."""

import math
from dataclasses import dataclass
from typing import Literal

from effjax.choices import check_choices
from effjax.data.layouts import Layout
from effjax.models.base import Remat, Runtime

ScheduleName = Literal["linear", "cosine", "inverse-sqrt", "constant"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one model is trained.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples per step, over all devices.
        micro_batches: parts that a batch is computed in, one after the other, with the gradient of
            the whole; more of them need less memory.
        learning_rate: its peak, after the warm-up.
        schedule: how the learning rate goes on after the warm-up (`effjax.train.schedule`).
        warmup: share of the steps over which the learning rate rises from 0.
        optimizer: AdamW, or LAMB for large batches.
        layer_decay: factor on the learning rate from each layer to the one below; 1 for none.
        weight_decay: decoupled, on kernels and embeddings; never on norms and biases.
        b2: decay of Adam's second moment; 0.98 steadies encoders that train from random weights
            (arXiv 1907.11692, section 3.1).
        clip_norm: largest global norm of the gradient.
        ema: decay of the exponential moving average of the parameters, which then is the trained
            model; 0 for none.
        skip_spikes: a step is left out if its gradient is not finite or has more than this many
            times the usual norm; None leaves out no step, and stops where the loss is not finite.
        patience: evaluations without a better headline metric after which training stops; the
            best model is kept. None trains to the end and keeps the last one.
        save_every: steps between two checkpoints; there are more where the last one is older
            than ten minutes, which is looked at every 50 steps and after each epoch.
        max_length: tokens per example; longer ones are truncated.
        layout: whether several short examples share a row of a batch or each has its own.
        dtype: what products are computed in.
        remat: what is computed again on the way back, to need less memory.
    """

    epochs: int = 3
    batch_size: int = 32
    micro_batches: int = 1
    learning_rate: float = 5e-5
    schedule: ScheduleName = "linear"
    warmup: float = 0.1
    optimizer: Literal["adamw", "lamb"] = "adamw"
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    b2: float = 0.999
    clip_norm: float = 1.0
    ema: float = 0.0
    skip_spikes: float | None = None
    patience: int | None = None
    save_every: int = 1000
    max_length: int = 128
    layout: Layout = "packed"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

    def __post_init__(self) -> None:
        check_choices(self, "training: ")
        above = ("epochs", "batch_size", "micro_batches", "learning_rate", "layer_decay")
        above += ("clip_norm", "skip_spikes", "patience", "save_every", "max_length")
        for name in above:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"training: {name} is {value}; it must be above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(
                f"training: weight_decay is {self.weight_decay}; it must be 0 or above"
            )
        shares = {"warmup": "share of the steps", "ema": "decay below 1", "b2": "decay below 1"}
        for name, what in shares.items():
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name != "warmup" and value == 1):
                raise ValueError(f"training: {name} is {value}; it is a {what}, from 0 to 1")
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"training: {self.micro_batches} micro-batches do not divide a batch of "
                f"{self.batch_size}"
            )

    def runtime(self) -> Runtime:
        """How a model that is trained so computes."""
        return Runtime.auto(self.dtype, remat=self.remat)


def check_steps(steps: int | None) -> None:
    """Raises a ValueError for a number of steps that trains nothing; None is that of the epochs."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; it must be above 0")
