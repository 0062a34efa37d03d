"""The training loop: batches in, a trained model out, checkpoints and metrics on the way."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import jax

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.data.layouts import ALL, Batch, Share
from effjax.data.masking import Masking
from effjax.distill import Weighted
from effjax.models.model import Model
from effjax.prune.reparam import Reparam
from effjax.train.checkpoint import Best, Checkpoints, Saved
from effjax.train.claim import claim
from effjax.train.logs import Logs, open_logs
from effjax.train.mesh import Mesh, place_model, place_parts, place_state, share_of
from effjax.train.processes import is_first
from effjax.train.run_folder import Interrupted, Interruption, hold, save_batch
from effjax.train.step import (
    StepMetrics,
    TrainState,
    copy,
    init_state,
    make_train_step,
    optimizer_of,
)
from effjax.train.teachers import KnownTeacher, check_readers, taught, told_apart
from effjax.train.training import Training
from effjax.train.window import Metrics, Window
from effjax.types import Aux

LOG_EVERY = 50
"""Steps between two looks at the loss; in between, the device is never waited for."""

AnyStep = Callable[[TrainState, tuple[Batch, ...]], tuple[TrainState, StepMetrics]]
Progress = Callable[[int, int, Metrics], None]
Evaluation = Callable[[Model, Aux], Mapping[str, float]]


class FitOptions(TypedDict, total=False):
    """What all trainings of an experiment are called with."""

    mesh: Mesh
    accept_changes: bool
    wandb_project: str | None


@dataclass(frozen=True)
class Fit:
    """What training gave.

    Attributes:
        model: the trained model, in the runtime it came in, over the mesh it was trained on.
        aux: what the objective has learned beside it.
        learned: what a `Reparam` has.
        steps: steps done, those before an interruption included.
        seconds: wall time of this call, compilation included.
        loss: mean over the last steps.
    """

    model: Model
    aux: Aux
    learned: Aux
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
    order: int | None = None,
    folder: Path,
    mesh: Mesh = Mesh(),  # noqa: B008 - a frozen value
    masking: Masking | None = None,
    teachers: Mapping[str, Model | KnownTeacher] | None = None,
    reparam: Reparam | None = None,
    steps: int | None = None,
    evaluation: Evaluation | None = None,
    wandb_project: str | None = None,
    accept_changes: bool = False,
    progress: Progress = lambda step, steps, metrics: None,
) -> Fit:
    """Trains a model, from its newest checkpoint in `folder` if there is one.

    A run that was killed and goes on ends with the same bits as one that was not.

    Args:
        encoded: the training examples.
        objective: what is minimised.
        seed: of batch order, masks, dropout and learned projections.
        order: of batch order and masks, where these have a seed of their own.
        folder: one that all processes see, for `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
        mesh: how the devices share the work; what comes out does not depend on it.
        masking: of a masked LM: what it has to predict.
        teachers: by the name that objectives read them by. A model is run in every step, on what
            the student reads; `CachedOutputs` are of what it reads in every epoch.
        reparam: what acts on parameters and gates before the forward pass; evaluation goes without.
        steps: how many; None for `training.epochs` epochs. The learning rate's curve ends there.
        evaluation: (model so far, what the objective has learned) -> metrics, headline first;
            asked for after every epoch.
        wandb_project: logs go to this project on Weights & Biases too.
        accept_changes: goes on from a checkpoint of other settings.
        progress: called with (step, steps, metrics of the last steps) every few steps.

    Raises:
        ValueError: the loss is not a number; the message names the step, its batch is saved and the
            last checkpoint stays. Or another run is using the folder, or has used it with other
            settings. Or training is to stop early, and nothing is evaluated. Or an example is not
            what the model or a teacher can read, or cached outputs are of other tokens, or of text
            that is now masked.
        Interrupted: the system asked the process to end; a checkpoint was saved before.
    """
    teachers = teachers or {}
    check_evaluated(training, evaluation)
    run, known = told_apart(teachers)
    check_readers(model, teachers, encoded, masking)
    begun = time.perf_counter()
    devices = mesh.build()
    batches = batches_of(
        model,
        encoded,
        training,
        seed=seed if order is None else order,
        masking=masking,
        share=share_of(devices),
    )
    steps = steps or training.epochs * batches.per_epoch
    configs = {name: teacher.config for name, teacher in teachers.items()}
    given = {"steps": steps, "seed": seed, "teachers": configs, "reparam": reparam}
    state = init_state(model, objective, training, **given)
    begin = beginning(model, training, state, devices)
    compiled = make_train_step(model, objective, training, reparam)
    live = {name: place_model(teacher.for_inference(), devices) for name, teacher in run.items()}

    def step(state: TrainState, parts: tuple[Batch, ...]) -> tuple[TrainState, StepMetrics]:
        return compiled(state, place_parts(taught(parts, known), devices), live)

    settings = {"model": model.config, "objective": objective, "training": training}
    settings |= {"seed": seed, "steps": steps}
    settings |= {} if order is None else {"order": order}
    settings |= {} if masking is None else {"masking": masking}
    settings |= {} if reparam is None else {"reparam": reparam}
    make = functools.partial(
        Loop,
        model=model,
        training=training,
        batches=batches,
        step=step,
        steps=steps,
        evaluation=evaluation,
        progress=progress,
    )
    where = {"accept_changes": accept_changes, "wandb_project": wandb_project}
    loop = completed(make, begin, folder, settings, **where)
    trained, beside = model.replace(params=loop.saved.params), loop.saved.state.trainables
    learned = (beside["aux"], beside["reparam"])
    return Fit(trained, *learned, loop.saved.step, time.perf_counter() - begun, loop.loss)


def batches_of(
    model: Model,
    encoded: Encoded,
    training: Training,
    *,
    seed: int,
    masking: Masking | None,
    share: Share = ALL,
) -> TrainBatches:
    """The batches of a training, in its order."""
    return TrainBatches(
        encoded=encoded,
        batch_size=training.batch_size,
        seed=seed,
        pad_id=model.config.pad_token_id,
        layout=training.layout,
        micro_batches=training.micro_batches,
        share=share,
        masking=masking,
    )


def check_evaluated(training: Training, evaluation: Evaluation | None) -> None:
    """Raises a ValueError for a training that is to stop early by no evaluation."""
    if training.patience is not None and evaluation is None:
        raise ValueError(
            f"training: patience is {training.patience}, but nothing is evaluated after an epoch; "
            "leave it out"
        )


def beginning(
    model: Model, training: Training, state: TrainState, devices: jax.sharding.Mesh
) -> Saved:
    """What a run that has done no step would save, over the devices."""
    placed = place_state(state, model.table, optimizer_of(model, training), devices)
    return Saved(placed, Best(copy(placed.params) if training.patience is not None else {}))


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
    with ExitStack() as stack:
        checkpoints = stack.enter_context(open_run(folder, settings, accept_changes=accept_changes))
        saved = checkpoints.restore(begin)
        where = {"start": saved.step, "wandb_project": wandb_project}
        logs = stack.enter_context(open_logs(folder, **where) if is_first() else Logs(()))
        loop = make(folder=folder, saved=saved, checkpoints=checkpoints, logs=logs)
        loop.run(stack.enter_context(Interruption()))
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
    window: Window = field(default_factory=Window)
    loss: float = float("nan")

    def run(self, interruption: Interruption) -> None:
        """To the end, or to where it is interrupted or has waited long enough."""
        done, epoch = self.saved.step, self.batches.per_epoch
        for parts in self.batches.between(done, self.steps):
            if self.saved.best.waited == self.training.patience:
                break
            state, metrics = self.step(self.saved.state, parts)
            self.saved = replace(self.saved, state=state)
            self.window.add(metrics, parts)
            done += 1
            asked = interruption.wants_end()
            due = done % self.training.save_every == 0 or done == self.steps or asked
            if done % LOG_EVERY == 0 or done % epoch == 0 or due:
                self.look(done)
            if done % epoch == 0:
                self.judge(done)
            if due or self.saved.best.waited == self.training.patience:
                self.checkpoints.save(self.saved)
            if asked:
                raise Interrupted(done)

    def look(self, done: int) -> None:
        """Records what was measured since the last look.

        Raises:
            ValueError: a loss or a gradient is not finite, or every step was left out.
        """
        measured, self.window = self.window.read(), Window()
        if measured.bad is not None:
            step = done - len(measured.skipped) + measured.bad + 1
            name = self.folder / f"batch-of-step-{step}.npz"
            save_batch(name, self.batches[step - 1])
            loss = measured.series["loss"][measured.bad]
            raise ValueError(
                f"the loss is {loss} at step {step}; its batch is saved as {name}, the last good "
                f"checkpoint is kept; a lower learning rate, float32 or skip_spikes may help"
            )
        metrics = measured.means()
        self.loss = metrics["loss"]
        self.logs.write(done, metrics)
        self.progress(done, self.steps, metrics)

    def judge(self, done: int) -> None:
        """Evaluates the model so far, and keeps it if it is the best."""
        if self.evaluation is None:
            return
        params, aux = self.saved.state.params, self.saved.state.trainables["aux"]
        metrics = self.evaluation(self.model.replace(params=params), aux)
        self.logs.write(done, metrics)
        if self.training.patience is not None:
            best = self.saved.best.after(next(iter(metrics.values())), done, params)
            self.saved = replace(self.saved, best=best)
