"""Several students in one program: the same batches and one teacher, everything else their own."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from effjax.data.encode import Encoded
from effjax.data.layouts import Batch
from effjax.data.masking import Masking
from effjax.distill import Weighted
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Runtime
from effjax.models.model import Model
from effjax.train.checkpoint import Best, Saved
from effjax.train.fitting import Fit, batches_of
from effjax.train.loop import Loop, Progress, completed
from effjax.train.step import (
    COMPILED,
    KEPT,
    Live,
    Part,
    StepMetrics,
    TrainState,
    init_state,
    train_step,
)
from effjax.train.teachers import KnownTeacher, check_readers, learned_from, taught, told_apart
from effjax.train.training import Training, check_steps
from effjax.types import Array

OWN = ("trainables", "average", "opt_state", "usual_norm", "key")
"""What of a `TrainState` each student has its own of."""

StepTogether = Callable[..., tuple[TrainState, StepMetrics, list[Array]]]


def fit_together(
    models: Sequence[Model],
    encoded: Encoded,
    objective: Weighted,
    training: Training,
    *,
    seeds: Sequence[int],
    learning_rates: Sequence[float] | None = None,
    weights: Sequence[Mapping[str, float]] | None = None,
    order: int,
    folder: Path,
    masking: Masking | None = None,
    teachers: Mapping[str, Model | KnownTeacher] | None = None,
    begun: str | None = None,
    steps: int | None = None,
    wandb_project: str | None = None,
    accept_changes: bool = False,
    progress: Progress = lambda step, steps, metrics: None,
) -> tuple[Fit, ...]:
    """Trains students of one shape, each as `fit` would with this `order`, on one device.

    A teacher that runs in every step runs once for all of them. The metrics are means over the
    students, and `loss/0` and so on, each student's; a run that was killed goes on.

    Args:
        models: the students before training.
        seeds: of each student's dropout and learned projections.
        learning_rates: of each; None for that of `training`.
        weights: of each, by the names of the objective's terms, as in ({"soft": 0.1}, {"soft":
            0.9}), in place of what these have; None leaves all as they are.
        order: seed of batch order and masks, which all of them share.
        folder: as of `fit`; all students share one.
        begun: as of `fit`, one for all.

    Returns:
        What each student's training gave; `seconds` and `loss` are those of all.

    Raises:
        ValueError: as of `fit`; or the students are not of one shape, or not as many as seeds and
            learning rates, or two would have one training, or training is to stop early, or there
            are several processes. Or weights are of no term, or of other terms for one student than
            for another.
    """
    teachers, clock = teachers or {}, time.perf_counter()
    rates = learning_rates or [training.learning_rate] * len(seeds)
    weights = [dict(own) for own in weights or [{}] * len(seeds)]
    check_steps(steps)
    check_alike(models, seeds, rates, weights, training)
    check_weights(weights, objective)
    check_readers(models[0], teachers, encoded, masking)
    run, known = told_apart(teachers, objective, models[0].config)
    batches = batches_of(models[0], encoded, training, seed=order, masking=masking)
    steps = training.epochs * batches.per_epoch if steps is None else steps
    configs = {name: teacher.config for name, teacher in teachers.items()}
    states = [
        init_state(model, objective, training, steps=steps, seed=seed, teachers=configs)
        for model, seed in zip(models, seeds, strict=True)
    ]
    compiled = make_step_together(models[0], objective, training)
    live = {name: teacher.for_inference() for name, teacher in run.items()}
    peaks = jnp.asarray(rates, jnp.float32)
    weighed = {name: jnp.asarray([own[name] for own in weights]) for name in weights[0]}
    names = [f"loss/{number}" for number in range(len(models))]

    def step(state: TrainState, parts: tuple[Batch, ...]) -> tuple[TrainState, StepMetrics]:
        new, means, losses = compiled(state, taught(parts, known), live, peaks, weighed)
        return new, {**means, **dict(zip(names, losses, strict=True))}

    settings = {"models": models[0].config, "objective": objective, "training": training}
    settings |= {"seeds": tuple(seeds), "learning_rates": tuple(rates)}
    settings |= {"order": order, "steps": steps, "masking": masking}
    settings |= {"weights": tuple(weights), **learned_from(encoded, run | known)}
    settings |= {} if begun is None else {"begun": begun}
    make = functools.partial(
        Loop,
        model=models[0],
        training=training,
        batches=batches,
        step=step,
        steps=steps,
        evaluation=None,
        progress=progress,
    )
    where = {"accept_changes": accept_changes, "wandb_project": wandb_project}
    loop = completed(make, Saved(stacked(states), Best({})), folder, settings, **where)
    state, seconds = loop.saved.state, time.perf_counter() - clock
    trained = {"params": state.params, "aux": state.trainables["aux"]}
    of_each = [jax.tree.map(lambda x, i=i: x[i], trained) for i in range(len(models))]
    return tuple(
        Fit(model.replace(params=own["params"]), own["aux"], {}, steps, seconds, loop.loss)
        for model, own in zip(models, of_each, strict=True)
    )


def check_alike(
    models: Sequence[Model],
    seeds: Sequence[int],
    rates: Sequence[float],
    weights: Sequence[Mapping[str, float]],
    training: Training,
) -> None:
    """Raises a ValueError for students that cannot be trained in one program."""
    if not models or not len(models) == len(seeds) == len(rates) == len(weights):
        raise ValueError(
            f"together: {len(models)} students, {len(seeds)} seeds, {len(rates)} learning rates, "
            f"{len(weights)} times weights; expected as many of each, one at least"
        )
    if any(x.architecture is not models[0].architecture for x in models) or any(
        x.config != models[0].config or x.runtime != models[0].runtime for x in models
    ):
        raise ValueError("together: the students differ in shape; expected one config for all")
    if bad := [rate for rate in rates if not (math.isfinite(rate) and rate > 0)]:
        raise ValueError(f"together: a learning rate is {bad[0]}; it must be above 0")
    own = list(zip(seeds, rates, weights, strict=True))
    for i, j in itertools.combinations(range(len(models)), 2):
        if own[i] == own[j] and same_arrays(models[i], models[j]):
            raise ValueError(
                f"together: students {i} and {j} have the same arrays, seed {seeds[i]}, learning "
                f"rate {rates[i]} and weights {weights[i]}; expected one of these to differ"
            )
    if training.patience is not None:
        raise ValueError(
            f"training: patience is {training.patience}, but students that are trained together "
            "all go to the end; leave it out"
        )
    if jax.process_count() > 1:
        raise ValueError(
            f"together: there are {jax.process_count()} processes; students that are trained "
            "together are so by a single one"
        )


def same_arrays(one: Model, other: Model) -> bool:
    """Whether two models of one config have equal parameters; looks no further than the first that
    differ.
    """
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return all(x is y or bool(jnp.array_equal(x, y)) for x, y in pairs)


def check_weights(weights: Sequence[Mapping[str, float]], objective: Weighted) -> None:
    """Raises a ValueError for weights that are not of the same terms for all, or no numbers."""
    names, known = set(weights[0]), {term.name for term in objective.terms}
    if other := [dict(own) for own in weights if set(own) != names]:
        raise ValueError(
            f"together: one student has weights of {', '.join(names) or 'no term'}, another "
            f"{other[0]}; expected the same terms for all"
        )
    if unknown := names - known:
        raise ValueError(
            f"together: there is no term {min(unknown)!r} to weigh; terms: {', '.join(known)}"
        )
    if bad := [own for own in weights if not all(map(math.isfinite, own.values()))]:
        raise ValueError(f"together: the weights {bad[0]} are not all finite numbers")


def stacked(states: Sequence[TrainState]) -> TrainState:
    """The states of all students as one, along a first axis of what is each student's own."""
    own = [{name: getattr(state, name) for name in OWN} for state in states]
    return replace(states[0], **jax.tree.map(lambda *x: jnp.stack(x), *own))


def make_step_together(model: Model, objective: Weighted, training: Training) -> StepTogether:
    """The jitted function (state of all, parts, live, rates, weights) -> (state, means of the
    metrics, loss of each); the state is donated. Arguments as of `make_train_step`; `rates`
    [students] are the learning rates at their peak, `weights` [students] by name those of terms.
    """
    constants = Training(**{name: getattr(training, name) for name in COMPILED})
    return _make_step_together(
        model.architecture, model.config, model.runtime, objective, constants
    )


@functools.lru_cache(maxsize=KEPT)
def _make_step_together(
    architecture: Architecture,
    config: EncoderConfig,
    runtime: Runtime,
    objective: Weighted,
    training: Training,
) -> StepTogether:
    pure = train_step(architecture, config, runtime, objective, training)

    def step(
        state: TrainState,
        parts: tuple[Part, ...],
        live: Live,
        rates: Array,
        weights: dict[str, Array] | None = None,
    ) -> tuple[TrainState, StepMetrics, list[Array]]:
        def one(
            own: dict[str, Any], rate: Array, weighed: dict[str, Array] | None
        ) -> tuple[dict[str, Any], StepMetrics]:
            schedule = replace(state.schedule, peak=rate)
            new, metrics = pure(replace(state, **own, schedule=schedule), parts, live, weighed)
            return {name: getattr(new, name) for name in OWN}, metrics

        own, metrics = jax.vmap(one)({name: getattr(state, name) for name in OWN}, rates, weights)
        means = {name: x.mean() for name, x in metrics.items()}
        return replace(state, **own, step=state.step + 1), means, list(metrics["loss"])

    return jax.jit(step, donate_argnums=0)
