"""A cell in effjax: what a user would call, on random weights."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from cells import MODELS, Cell

from effjax.distill import TaskLoss, Weighted
from effjax.measure.batch import full_batch
from effjax.measure.machine import machine
from effjax.models.base import Runtime
from effjax.models.hf_config import config_to_hf
from effjax.models.model import Model, create
from effjax.train.step import init_state, make_train_step
from effjax.train.training import Training

Call = Callable[[], Any]
CELL = Cell


def prepare(cell: Cell) -> tuple[Call, dict[str, Any]]:
    """A call that runs the cell once, to its end, and the model as a Hugging Face config."""
    model = build(cell, Runtime.auto(cell.dtype))
    return call_of(cell, model), config_to_hf(model.architecture, model.config)


def build(cell: Cell, runtime: Runtime) -> Model:
    """The cell's model, which classifies."""
    architecture, size = MODELS[cell.model]
    key = jax.random.key(0)
    return create(architecture, size=size, key=key, head="sequence-classification", runtime=runtime)


def call_of(cell: Cell, model: Model) -> Call:
    """A call that runs the cell once, to its end."""
    batch = full_batch(model.config, batch=cell.batch, length=cell.length)
    return inference(model, batch) if cell.mode == "inference" else training(model, batch)


def inference(model: Model, batch: dict[str, np.ndarray]) -> Call:
    """Calls the model."""
    model = model.for_inference()
    return lambda: jax.block_until_ready(model(batch))


def training(model: Model, batch: dict[str, np.ndarray]) -> Call:
    """One AdamW step with dropout and clipping, on the loss of the labels.

    On a CPU large batches are computed in parts of 1024 tokens, which its caches can work on.
    """
    rows, length = batch["input_ids"].shape
    parts = max(1, rows * length // 1024) if jax.default_backend() == "cpu" else 1
    batch = batch | {"labels": np.arange(rows, dtype=np.int32) % 2}
    objective = Weighted(task=(1.0, TaskLoss()))
    training = Training(batch_size=rows, micro_batches=parts)
    split = {name: np.split(x, parts) for name, x in batch.items()}
    pieces = tuple(({name: x[i] for name, x in split.items()}, {}) for i in range(parts))
    step = make_train_step(model, objective, training)
    state = init_state(model, objective, training, steps=10_000, seed=1, teachers={})

    def call() -> None:
        nonlocal state  # a step gives its input's memory to its output
        state, metrics = step(state, pieces)
        jax.block_until_ready((state, metrics))

    return call


def describe() -> dict[str, Any]:
    return machine()
