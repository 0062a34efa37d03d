"""The training loop: batches in, a trained state out, checkpoints and metrics on the way."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.batches import TrainBatches
from effjax.data.layouts import Batch, Share
from effjax.models.model import Model
from effjax.process import give_back
from effjax.train.checkpoint import Checkpoints, Saved
from effjax.train.claim import claim
from effjax.train.logs import Logs, open_logs, to_record
from effjax.train.processes import by_first, first_says, is_first
from effjax.train.run_folder import Interrupted, Interruption, hold, save_batch
from effjax.train.step import StepMetrics, TrainState
from effjax.train.training import Training
from effjax.train.window import Measured, Metrics, Window
from effjax.types import Aux

log = logging.getLogger("effjax")

LOG_EVERY = 50
"""Steps between two looks at the loss."""

SAVE_SECONDS = 600.0
"""What is done in this time is saved at the next look, however few steps it was."""

AnyStep = Callable[[TrainState, tuple[Batch, ...]], tuple[TrainState, StepMetrics]]
Progress = Callable[[int, int, Metrics], None]
Evaluation = Callable[[Model, Aux], Mapping[str, float]]


@contextmanager
def open_run(folder: Path, settings: Any, *, accept_changes: bool) -> Iterator[Checkpoints]:
    """The checkpoints of a run in its folder, which the first process holds and claims.

    Raises:
        ValueError: another run is using the folder, or has used it with other settings.
    """
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(hold(folder))
            claim(folder / "training.json", settings, accept_changes=accept_changes)
        yield stack.enter_context(Checkpoints(folder / "checkpoints"))


def completed(
    make: Callable[..., "Loop"],
    begin: Saved,
    folder: Path,
    settings: Any,
    *,
    accept_changes: bool,
    wandb_project: str | None,
) -> "Loop":
    """A run from its newest checkpoint, or its beginning, to its end.

    Args:
        make: the loop, but for what this opens.
    """
    with Interruption() as interruption:
        with ExitStack() as stack:
            opened = open_run(folder, settings, accept_changes=accept_changes)
            checkpoints = stack.enter_context(opened)
            saved = checkpoints.restore(begin)
            where = {"start": saved.step, "begun": saved.history, "wandb_project": wandb_project}
            logs = stack.enter_context(open_logs(folder, **where) if is_first() else Logs(()))
            loop = make(folder=folder, saved=saved, checkpoints=checkpoints, logs=logs)
            loop.run(interruption)
        if interruption.wants_end():  # since the last step, while it was waited for and saved
            raise Interrupted(loop.saved.step)
    return loop


@dataclass
class Loop:
    """A training as it goes."""

    model: Model
    training: Training
    batches: TrainBatches
    step: AnyStep
    steps: int
    folder: Path
    saved: Saved
    checkpoints: Checkpoints
    logs: Logs
    evaluation: Evaluation | None
    progress: Progress
    window: Window = field(init=False)
    saved_at: float = field(default_factory=time.monotonic)
    headline: Metrics = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.window = Window(self.saved.window)

    @property
    def loss(self) -> float:
        """Mean over the steps of the last record that has one."""
        found = (record["loss"] for record in reversed(self.saved.history) if "loss" in record)
        return next(found, math.nan)

    @property
    def over(self) -> bool:
        """Whether it has waited long enough for a better model; or longer, where it goes on with a
        patience that was lowered.
        """
        patience = self.training.patience
        return patience is not None and self.saved.best.waited >= patience

    def run(self, interruption: Interruption) -> None:
        """To the end, or to where it is interrupted or has waited long enough."""
        done, epoch = self.saved.step, self.batches.per_epoch
        for parts in self.batches.between(done, self.steps):
            if self.over:
                break
            state, metrics = self.step(self.saved.state, parts)
            self.saved = replace(self.saved, state=state)
            self.window.add(metrics, self.batches.tokens(parts))
            done += 1
            asked = interruption.wants_end()
            due = done % self.training.save_every == 0 or done == self.steps
            if done % LOG_EVERY == 0 or done % epoch == 0 or due:
                self.look(done)
                due |= first_says(time.monotonic() - self.saved_at > SAVE_SECONDS)
            if due or asked or self.over:
                self.checkpoints.save(replace(self.saved, window=self.measured(done)))
                self.saved_at = time.monotonic()
                give_back()
            if asked:
                raise Interrupted(done)

    def look(self, done: int) -> None:
        """Records what was measured since the last look, and after an epoch what it has come to.

        Raises:
            ValueError: as of `measured`.
        """
        measured = self.measured(done)
        self.name_skipped(done, measured)
        means = measured.means()
        self.record(done, means)
        if done % self.batches.per_epoch == 0:
            self.judge(done)
        self.window = Window(measured.after())  # its clock starts here
        self.progress(done, done if self.over else self.steps, self.headline | means)

    def measured(self, done: int) -> Measured:
        """What was measured since the last look.

        Raises:
            ValueError: a loss or a gradient is not finite, or too many steps were left out.
        """
        found = self.window.read()
        if found.bad is not None:
            step = done - len(found.steps) + found.bad + 1
            raise ValueError(
                f"{found.fault} at step {step}; its batch is saved as {self.save_batch(step)}, "
                "the last good checkpoint is kept; a lower learning rate or float32 may help"
                + (", or skip_spikes" if self.training.skip_spikes is None else "")
            )
        return found

    def name_skipped(self, done: int, measured: Measured) -> None:
        """Says which steps were left out, and saves the batch of the run's first one."""
        steps = done - len(measured.steps) + np.flatnonzero(measured.skipped) + 1
        if len(steps):
            log.warning("%s: left out steps %s", self.folder, ", ".join(map(str, steps)))
            if not any(record.get("skipped") for record in self.saved.history):
                log.warning("the first one's batch is saved as %s", self.save_batch(int(steps[0])))

    def save_batch(self, step: int) -> Path:
        """Where the batch of a step is written."""
        path = self.folder / f"batch-of-step-{step}.npz"
        whole = replace(self.batches, share=Share.whole(self.batches.share.multiple))
        by_first(lambda: save_batch(path, whole[step - 1]))
        return path

    def judge(self, done: int) -> None:
        """Evaluates the model so far, and keeps it if it is the best."""
        if self.evaluation is None:
            return
        params, aux = self.saved.state.params, self.saved.state.trainables["aux"]
        metrics = self.evaluation(self.model.replace(params=params), aux)
        self.record(done, metrics)
        name, score = next(iter(metrics.items()))
        self.headline = {name: score}
        if self.training.patience is not None:
            self.saved = replace(self.saved, best=self.saved.best.after(score, done, params))

    def record(self, done: int, metrics: Mapping[str, float]) -> None:
        """Adds to the history, and to all logs."""
        self.logs.write(done, metrics)
        history = (*self.saved.history, to_record(done, metrics))
        self.saved = replace(self.saved, history=history)
