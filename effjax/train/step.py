"""One training step: forward, objective, backward, update; jitted, with donated state."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Sharding, SingleDeviceSharding

from effjax.distill import Weighted
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Outputs, Runtime
from effjax.models.model import INPUTS, Model, apply, apply_gated
from effjax.prune.reparam import Reparam
from effjax.train.fsdp import in_use
from effjax.train.optimizer import make_optimizer
from effjax.train.schedule import Schedule
from effjax.train.training import Training
from effjax.types import Array, Batch, Params, PyTree

Configs = Mapping[str, EncoderConfig]
StepMetrics = dict[str, Array]
Part = tuple[Batch, Mapping[str, Outputs]]
Live = Mapping[str, Model]
Step = Callable[..., tuple["TrainState", StepMetrics]]
"""(state, parts, live={}) -> (state, metrics); see `make_train_step`."""

COMPILED = ("optimizer", "layer_decay", "weight_decay", "b2", "clip_norm", "ema", "skip_spikes")
"""What a compiled step holds of a `Training`; the rest is in the state or in the data."""

SETTLED = 100
"""Steps after which a gradient's norm is compared with the usual one."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that a step changes.

    Attributes:
        trainables: {"params": the student's, "aux": what the objective learns, "reparam": what
            acts before the forward pass learns}.
        average: moving average of the params; empty without one.
        opt_state: the optimizer's.
        step: steps done, int32.
        usual_norm: moving average of the gradient's norm, over the steps that were not left out.
        key: the run's random key; each step folds its number in.
        schedule: the learning rate.
    """

    trainables: dict[str, Any]
    average: Params
    opt_state: Any
    step: Array
    usual_norm: Array
    key: jax.Array
    schedule: Schedule

    @property
    def params(self) -> Params:
        """The trained parameters: their average, where there is one."""
        return self.average or self.trainables["params"]


def init_state(
    model: Model,
    objective: Weighted,
    training: Training,
    *,
    steps: int,
    seed: int,
    teachers: Configs,
    reparam: Reparam | None = None,
) -> TrainState:
    """The state before the first step. It owns its arrays, since a step donates them.

    Args:
        steps: how many steps the learning rate is planned for.
        seed: of dropout and of what the objective learns.
        teachers: each teacher's config by name, which learned projections are sized for.
        reparam: what acts before the forward pass.

    Raises:
        ValueError: the parameters are not float32.
    """
    if any(x.dtype != jnp.float32 for x in jax.tree.leaves(model.params)):
        raise ValueError("training needs float32 parameters; this model is for inference")
    key = jax.random.key(seed)
    aux = objective.init(jax.random.fold_in(key, 1), model.config, teachers)
    learned = reparam.init(jax.random.fold_in(key, 2), model.table) if reparam else {}
    trainables = copy({"params": model.params, "aux": aux, "reparam": learned})
    optimizer = optimizer_of(model, training)
    return TrainState(
        trainables=trainables,
        average=copy(model.params) if training.ema else {},
        opt_state=optimizer.init(trainables),
        step=jnp.zeros((), jnp.int32),
        usual_norm=jnp.zeros(()),
        key=key,
        schedule=Schedule.of(training, steps),
    )


def optimizer_of(model: Model, training: Training) -> optax.GradientTransformation:
    """The optimizer of a model's training."""
    return make_optimizer(model.table, training, layers=model.config.num_layers)


def copy(tree: PyTree) -> PyTree:
    return jax.device_put(tree, may_alias=False)


PURPOSES = ("dropout", "objective", "reparam")
"""What random keys are for."""


def step_keys(key: jax.Array, step: Array, part: Array | None) -> dict[str, jax.Array]:
    """One key per purpose, step and part of the batch; a new purpose does not change the others."""
    here = jax.random.fold_in(key, step)
    here = here if part is None else jax.random.fold_in(here, part)
    return {name: jax.random.fold_in(here, i) for i, name in enumerate(PURPOSES)}


def make_train_step(
    model: Model, objective: Weighted, training: Training, reparam: Reparam | None = None
) -> Step:
    """The jitted function (state, parts, live={}) -> (state, metrics); the state is donated.

    It is made once for models of one shape: parameters, seed, number of steps and learning rate
    are in the state, so trainings that differ in nothing else share its compiled programs. The new
    state lies where the old one lay, on one device or over a mesh.

    Args:
        model: gives architecture, config and runtime.
        objective: what is minimised.
        training: gives all that is not in the state (`COMPILED`).
        reparam: what acts before the forward pass.

    Returns:
        A step that takes the micro-batches of a batch, each with the outputs of teachers that were
        run before, `((batch, outputs),)` for a whole one; and the teachers that it is to run. Its
        metrics are `loss`, every term of the objective by name, `grad_norm`, `learning_rate` and,
        with `skip_spikes`, `skipped`: 1 for a step that was left out.
    """
    constants = {name: getattr(training, name) for name in COMPILED}
    shape = (model.architecture, model.config, model.runtime)
    return _make_train_step(*shape, objective, Training(**constants), reparam)


KEPT = 4
"""Steps that stay compiled when others are made: on a CPU a program of one shape takes some 800
memory maps, and Linux allows a process 65,530.
"""


@functools.lru_cache(maxsize=KEPT)
def _make_train_step(
    architecture: Architecture,
    config: EncoderConfig,
    runtime: Runtime,
    objective: Weighted,
    training: Training,
    reparam: Reparam | None,
) -> Step:
    fixed = (architecture, config, runtime, objective, training)
    pure = functools.partial(train_step, *fixed, reparam=reparam)
    programs: dict[tuple[Sharding, ...], Any] = {}

    def program(state: TrainState, places: tuple[Sharding, ...]) -> Any:
        step = pure(jax.tree.map(lambda x: x.sharding, state.trainables["params"]))

        def flat(
            state: TrainState, parts: tuple[Part, ...], live: Live
        ) -> tuple[list[Array], StepMetrics]:
            new, metrics = step(state, parts, live)
            return jax.tree.leaves(new), metrics

        # Where there is one device, saying so would bind the new state to it, which for JAX makes
        # the next step another program.
        alone = all(isinstance(place, SingleDeviceSharding) for place in places)
        where = None if alone else list(places)
        return jax.jit(flat, donate_argnums=0, out_shardings=(where, None))

    def call(
        state: TrainState, parts: tuple[Part, ...], live: Live | None = None
    ) -> tuple[TrainState, StepMetrics]:
        leaves, structure = jax.tree.flatten(state)
        places = tuple(x.sharding for x in leaves)
        if places not in programs:
            programs[places] = program(state, places)
        new, metrics = programs[places](state, parts, live or {})
        return structure.unflatten(new), metrics

    return call


def train_step(
    architecture: Architecture,
    config: EncoderConfig,
    runtime: Runtime,
    objective: Weighted,
    training: Training,
    places: PyTree | None = None,
    *,
    reparam: Reparam | None = None,
) -> Step:
    """The step as a pure function, not compiled; see `make_train_step`. It also takes weights for
    terms of the objective, in place of their own.

    Args:
        places: where every parameter lies; None for one device.
    """
    module, table = architecture.build(config, runtime), architecture.table(config)
    optimizer = make_optimizer(table, training, layers=config.num_layers)

    def measure(
        live: Live, trainables: dict[str, Any], state: TrainState, part: Part, number: Array | None
    ):
        (batch, known), keys = part, step_keys(state.key, state.step, number)
        inputs = {name: batch[name] for name in INPUTS if name in batch}
        params, rngs = trainables["params"], {"dropout": keys["dropout"]}
        params = params if places is None else in_use(params, places)
        over, gates = state.schedule.progress(state.step), None
        if reparam is not None:
            given = {"progress": over, "key": keys["reparam"]}
            params, gates = reparam.apply(trainables["reparam"], params, table, **given)
        options = {"deterministic": False, "rngs": rngs}
        outputs = apply_gated(module, table, params, inputs, gates, **options)
        found = {name: apply(x.module, x.params, inputs) for name, x in live.items()}
        teachers = {**found, **known}
        aux, key = trainables["aux"], keys["objective"]
        return objective.measure(aux, outputs, teachers, batch, progress=over, key=key)

    def loss(
        trainables, live: Live, state: TrainState, weights, part: Part, number: Array | None, totals
    ):
        found = measure(live, trainables, state, part, number)
        over = state.schedule.progress(state.step)
        result = objective.reduce(found, totals, progress=over, weights=weights)
        metrics = {"loss": result.total, **result.terms}
        if reparam is None:
            return result.total, metrics
        penalty, shown = reparam.penalty(trainables["reparam"], table, progress=over)
        # Of all parts of a batch, the first one has it.
        first = 1.0 if number is None else jnp.where(number == 0, 1.0, 0.0)
        extra = {name: first * x for name, x in {"penalty": penalty, **shown}.items()}
        return result.total + extra["penalty"], metrics | extra

    def step(
        state: TrainState,
        parts: tuple[Part, ...],
        live: Live | None = None,
        weights: Mapping[str, Array] | None = None,
    ) -> tuple[TrainState, StepMetrics]:
        live, gradient = live or {}, jax.grad(loss, has_aux=True)
        backward = functools.partial(gradient, state.trainables, live, state, weights)
        if len(parts) == 1:
            grads, metrics = backward(parts[0], None, None)
        else:
            weigh = functools.partial(measure, live, state.trainables, state)
            grads, metrics = over_parts(parts, weigh, backward)
        new, shown = updated(state, grads, optimizer, training, reparam)
        return new, metrics | shown

    return step


def updated(
    state: TrainState,
    grads: PyTree,
    optimizer: optax.GradientTransformation,
    training: Training,
    reparam: Reparam | None,
) -> tuple[TrainState, StepMetrics]:
    """The state one step on, and the metrics of the update."""
    norm, rate = optax.tree.norm(grads), state.schedule.rate(state.step)
    updates: Any
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainables)
    own = 1.0 if reparam is None else reparam.learning_rate / state.schedule.peak
    updates |= {"reparam": jax.tree.map(lambda u: own * u, updates["reparam"])}
    trainables = jax.tree.map(lambda x, u: x - rate * u, state.trainables, updates)
    settled = 0.99 * state.usual_norm + 0.01 * norm
    new = replace(
        state,
        trainables=trainables,
        average=moved(state.average, trainables["params"], training.ema),
        opt_state=opt_state,
        usual_norm=jnp.where(state.usual_norm == 0, norm, settled),
    )
    metrics = {"grad_norm": norm, "learning_rate": rate}
    if training.skip_spikes is not None:
        fine = is_usual(norm, state, training.skip_spikes)
        new = jax.tree.map(functools.partial(jnp.where, fine), new, state)
        metrics |= {"skipped": 1.0 - fine}
    return replace(new, step=state.step + 1), metrics


def over_parts(
    parts: tuple[Part, ...], measure: Callable, backward: Callable
) -> tuple[PyTree, StepMetrics]:
    """Gradient and metrics of a whole batch, with one part of it in memory at a time.

    A mean over the batch is not the mean of the parts' means, since parts differ in their sums of
    weights. So a first pass asks for these alone, from which XLA drops the forward pass, and a
    second one adds up the gradients of what each part has in the whole.

    Args:
        measure: (part, its number) -> the terms of the objective.
        backward: (part, its number, every term's sum of weights) -> (gradient, metrics).
    """
    structure = jax.tree.structure(parts[0])
    leaves = [jnp.stack(x) for x in zip(*map(jax.tree.leaves, parts), strict=True)]
    numbered: tuple[Any, Any] = jnp.arange(len(parts)), leaves

    def weigh(inputs: tuple[Array, list[Array]]) -> dict[str, Array]:
        terms = measure(structure.unflatten(inputs[1]), inputs[0])
        return {name: term.total() for name, term in terms.items()}

    totals = {name: x.sum() for name, x in jax.lax.map(weigh, numbered).items()}

    def add(so_far: PyTree, inputs: tuple[Array, list[Array]]) -> tuple[PyTree, None]:
        found = backward(structure.unflatten(inputs[1]), inputs[0], totals)
        return jax.tree.map(jnp.add, so_far, found), None

    shapes = jax.eval_shape(backward, parts[0], jnp.zeros((), jnp.int32), totals)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, numbered)[0]


def moved(average: Params, params: Params, decay: float) -> Params:
    """decay * average + (1 - decay) * params; empty where there is no average."""
    if not average:
        return {}
    return jax.tree.map(lambda a, x: decay * a + (1 - decay) * x, average, params)


def is_usual(norm: Array, state: TrainState, times: float) -> Array:
    """Whether a gradient's norm is finite and, once norms have settled, not far above the usual."""
    spike = (state.step >= SETTLED) & (norm > times * state.usual_norm)
    return jnp.isfinite(norm) & ~spike
