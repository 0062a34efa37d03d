"""The training loop: batches in, a trained model out, checkpoints and metrics on the way."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from effjax.data.batches import steps_per_epoch, train_batches
from effjax.data.encode import Encoded
from effjax.distill import Weighted
from effjax.models.base import Outputs
from effjax.models.model import Model
from effjax.train.checkpoint import Checkpoints
from effjax.train.optimizer import Training
from effjax.train.step import Configs, init_state, make_train_step

LOG_EVERY = 50
"""Steps between two looks at the loss; in between, the device is never waited for."""

TeacherOutputs = Callable[[Mapping[str, np.ndarray]], Mapping[str, Outputs]]
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Fit:
    """What training gave.

    Attributes:
        model: the trained model, in the runtime it came in.
        steps: steps done, those before an interruption included.
        seconds: wall time of this call, compilation included.
        loss: mean over the last steps.
    """

    model: Model
    steps: int
    seconds: float
    loss: float


def fit(
    model: Model,
    encoded: Encoded,
    objective: Weighted,
    training: Training,
    *,
    seed: int,
    folder: Path,
    teachers: TeacherOutputs = lambda batch: {},
    teacher_configs: Configs | None = None,
    steps: int | None = None,
    progress: Progress = lambda step, steps, loss: None,
) -> Fit:
    """Trains a model, from its newest checkpoint in `folder` if there is one.

    Args:
        encoded: the training examples.
        objective: what is minimised.
        seed: of batch order, dropout and learned projections.
        folder: for `checkpoints/` (one per epoch, the newest kept) and `metrics.jsonl`.
        teachers: gives the teachers' outputs for a batch.
        teacher_configs: each teacher's config, which learned projections are sized for.
        steps: how many; None for `training.epochs` epochs. The learning rate falls to 0 at the last
            one.
        progress: called with (step, steps, mean loss) every few steps.

    Raises:
        ValueError: the loss is not a number; the message names the step, and the last checkpoint
            stays.
    """
    begun = time.perf_counter()
    per_epoch = steps_per_epoch(encoded, training.batch_size)
    steps = steps or training.epochs * per_epoch
    state = init_state(
        model, objective, training, steps=steps, seed=seed, teachers=teacher_configs or {}
    )
    step = make_train_step(model, objective, training)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Checkpoints(folder / "checkpoints") as checkpoints,
        (folder / "metrics.jsonl").open("a") as log,
    ):
        state = checkpoints.restore(state)
        done, window, loss = int(state.step), [], float("nan")
        for batch in batches_from(encoded, training, seed, done, steps, model.config.pad_token_id):
            state, metrics = step(state, batch, teachers(batch))
            window.append(metrics)
            done += 1
            if done % LOG_EVERY == 0 or done % per_epoch == 0 or done == steps:
                loss = record(log, window, done, folder)
                progress(done, steps, loss)
                window = []
            if done % per_epoch == 0 and done < steps:
                checkpoints.save(done, state)
        if done == steps and checkpoints.manager.latest_step() != steps:
            checkpoints.save(done, state)
    return Fit(model.replace(params=state.params), done, time.perf_counter() - begun, loss)


def batches_from(
    encoded: Encoded, training: Training, seed: int, done: int, steps: int, pad_id: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of steps `done` to `steps`, a function of (seed, step) alone."""
    size, layout = training.batch_size, training.layout
    per_epoch = steps_per_epoch(encoded, size)
    while done < steps:
        epoch, start = divmod(done, per_epoch)
        for batch in train_batches(
            encoded, size, seed=seed, epoch=epoch, pad_id=pad_id, start=start, layout=layout
        ):
            if done == steps:
                return
            yield batch
            done += 1


def record(log: TextIO, window: list[dict[str, jax.Array]], done: int, folder: Path) -> float:
    """Writes one line of means over the window and returns the mean loss.

    Raises:
        ValueError: a loss in the window is not finite.
    """
    values = {name: np.array([float(metrics[name]) for metrics in window]) for name in window[0]}
    bad = np.flatnonzero(~np.isfinite(values["loss"]))
    if len(bad):
        at = done - len(window) + int(bad[0]) + 1
        raise ValueError(
            f"the loss is {values['loss'][bad[0]]} at step {at}; the last good checkpoint is kept "
            f"in {folder / 'checkpoints'}; a lower learning rate or float32 may help"
        )
    means: dict[str, Any] = {name: float(series.mean()) for name, series in values.items()}
    log.write(json.dumps({"step": done, **means}) + "\n")
    log.flush()
    return means["loss"]
