"""`fit`: one model trained, in a folder that a run which was killed goes on in."""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import jax

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.data.layouts import ALL, Batch, Share
from effjax.data.masking import Masking
from effjax.distill import Weighted
from effjax.models.model import Model
from effjax.prune.reparam import Reparam
from effjax.train.checkpoint import Best, Saved
from effjax.train.loop import Evaluation, Loop, Progress, completed
from effjax.train.mesh import Mesh, place_model, place_parts, place_state, share_of
from effjax.train.step import (
    StepMetrics,
    TrainState,
    copy,
    init_state,
    make_train_step,
    optimizer_of,
)
from effjax.train.teachers import KnownTeacher, check_readers, learned_from, taught, told_apart
from effjax.train.training import Training, check_steps
from effjax.types import Aux


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
    begun: str | None = None,
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
        begun: tells what the model was before all training, such as `Model.digest`: a training does
            not go on with another. None leaves that to the caller, since the digest of a large
            model takes half a second.
        reparam: what acts on parameters and gates before the forward pass; evaluation goes without.
        steps: how many; None for `training.epochs` epochs. The learning rate's curve ends there.
        evaluation: (model so far, what the objective has learned) -> metrics, headline first;
            asked for after every epoch.
        wandb_project: logs go to this project on Weights & Biases too.
        accept_changes: goes on from a checkpoint of other settings.
        progress: called every few steps with (step, steps, metrics): the headline of the last
            evaluation first, and those of the last steps. Where training stops early, `steps` is
            the last one.

    Raises:
        ValueError: the loss or its gradient is not finite, or too many steps in a row were left
            out; the message names the step, its batch is saved and the last checkpoint stays. Or
            another run is using the folder, or has used it with other settings. Or there is no
            step to do, or training is to stop early, and nothing is evaluated. Or an example is not
            what the model or a teacher can read, or cached outputs are of other tokens, or of text
            that is now masked.
        Interrupted: the system asked the process to end; a checkpoint was saved before.
    """
    teachers = teachers or {}
    check_steps(steps)
    check_evaluated(training, evaluation)
    check_readers(model, teachers, encoded, masking)
    run, known = told_apart(teachers, objective, model.config)
    clock = time.perf_counter()
    devices = mesh.build()
    batches = batches_of(
        model,
        encoded,
        training,
        seed=seed if order is None else order,
        masking=masking,
        share=share_of(devices),
    )
    steps = training.epochs * batches.per_epoch if steps is None else steps
    configs = {name: teacher.config for name, teacher in teachers.items()}
    given = {"steps": steps, "seed": seed, "teachers": configs, "reparam": reparam}
    state = init_state(model, objective, training, **given)
    begin = beginning(model, training, state, devices)
    compiled = make_train_step(model, objective, training, reparam)
    live = {name: place_model(teacher.for_inference(), devices) for name, teacher in run.items()}

    def step(state: TrainState, parts: tuple[Batch, ...]) -> tuple[TrainState, StepMetrics]:
        return compiled(state, place_parts(taught(parts, known), devices), live)

    settings = {"model": model.config, "objective": objective, "training": training}
    settings |= {"seed": seed, "steps": steps, **learned_from(encoded, run | known)}
    asked = {"begun": begun, "order": order, "masking": masking, "reparam": reparam}
    settings |= {name: x for name, x in asked.items() if x is not None}
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
    return Fit(trained, *learned, loop.saved.step, time.perf_counter() - clock, loop.loss)


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
