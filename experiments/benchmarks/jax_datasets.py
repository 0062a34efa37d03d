"""A pass over a dataset in effjax, with packed rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax_backend
import numpy as np
from dataset_cells import BATCH, DatasetCell

from effjax import hf
from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models.base import Runtime
from effjax.models.model import Model
from effjax.train import Training, predict
from effjax.train.step import init_state, make_train_step

TOKENS_PER_PART = 1024


CELL, describe = DatasetCell, jax_backend.describe


def prepare(cell: DatasetCell) -> tuple[Callable[[], Any], None]:
    """A call that goes once over all examples."""
    model = hf.from_pretrained(Path(cell.folder) / "model", runtime=Runtime.auto(cell.dtype))
    arrays = cell.tokens()
    encoded = Encoded(**arrays, idx=np.arange(len(arrays["labels"]), dtype=np.int32))
    make = inference if cell.mode == "inference" else training
    return make(model, encoded), None


def inference(model: Model, encoded: Encoded) -> Callable[[], np.ndarray]:
    """The logits of all examples."""
    return lambda: predict(model, encoded, batch_size=BATCH)


def training(model: Model, encoded: Encoded) -> Callable[[], None]:
    """One epoch, in the same order each time."""
    per_batch = encoded.lengths.mean() * BATCH
    parts = 2 ** max(0, round(np.log2(per_batch / TOKENS_PER_PART)))
    training = Training(batch_size=BATCH, micro_batches=int(parts))
    batches = TrainBatches(
        encoded=encoded, batch_size=BATCH, seed=0, pad_id=0, micro_batches=training.micro_batches
    )
    objective = Weighted(task=(1.0, TaskLoss()))
    step = make_train_step(model, objective, training)
    state = init_state(model, objective, training, steps=10_000, seed=1, teachers={})

    def call() -> None:
        nonlocal state
        for pieces in batches.between(0, batches.per_epoch):
            state, _ = step(state, tuple((piece, {}) for piece in pieces))
        jax.block_until_ready(state)

    return call
