from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model
from effjax.train.optimizer import decay_mask, layer_factors, make_optimizer
from effjax.train.schedule import Schedule
from effjax.train.step import init_state, make_train_step
from effjax.train.training import Training
from effjax.tree import flatten


def test_norms_and_biases_do_not_decay(model: Model) -> None:
    """With zero gradients AdamW only decays, so what moves is what decays."""
    optimizer = make_optimizer(model.table, Training(weight_decay=0.5), layers=2)
    trainables = {"params": jax.tree.map(jnp.ones_like, model.params), "aux": {}, "reparam": {}}
    zeros = jax.tree.map(jnp.zeros_like, trainables)
    found, _ = optimizer.update(zeros, optimizer.init(trainables), trainables)
    updates: Any = found
    moved = {path for path, x in flatten(updates["params"]).items() if np.any(np.asarray(x))}
    assert moved == {path for path, decays in flatten(decay_mask(model.table)).items() if decays}
    assert "layer_0/attention/query/kernel" in moved
    assert moved.isdisjoint({"embedding/norm/scale", "layer_0/feedforward/up/bias"})


def test_the_learning_rate_rises_and_falls_linearly() -> None:
    schedule = Schedule.of(Training(learning_rate=1e-2, warmup=0.4), steps=10)
    rates = [float(schedule.rate(jnp.int32(step))) for step in range(12)]
    expected = [0.0, 0.25, 0.5, 0.75, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0, 0.0]
    np.testing.assert_allclose(rates, 1e-2 * np.array(expected), rtol=1e-5, atol=1e-9)


def test_a_step_moves_against_the_gradient_by_the_learning_rate(
    model: Model, encoded: Encoded
) -> None:
    """Adam's first update is the gradient's sign, so without decay it moves by the rate."""
    training = Training(learning_rate=1e-2, warmup=0.0, weight_decay=0.0)
    objective = Weighted(task=(1.0, TaskLoss()))
    state = init_state(model, objective, training, steps=10, seed=0, teachers={})
    step = make_train_step(model, objective, training)
    batch = next(iter(eval_batches(encoded, 16, pad_id=0)))
    state, metrics = step(state, ((batch, {}),))
    bias = np.asarray(state.params["head"]["output"]["bias"])
    np.testing.assert_allclose(np.abs(bias), 1e-2, rtol=1e-3)
    assert float(metrics["grad_norm"]) > 0
    assert int(step(state, ((batch, {}),))[0].step) == 2


def test_the_gradient_is_clipped_to_its_global_norm(model: Model) -> None:
    """Adam undoes any scale, so the first moment, 0.1 of the clipped gradient, is looked at."""
    optimizer = make_optimizer(model.table, Training(clip_norm=0.5, weight_decay=0.0), layers=2)
    trainables = {"params": model.params, "aux": {}, "reparam": {}}
    ones = jax.tree.map(jnp.ones_like, trainables)
    _, state = optimizer.update(ones, optimizer.init(trainables), trainables)
    leaves = jax.tree.leaves_with_path(state)
    moments = [x for path, x in leaves if ".mu" in jax.tree_util.keystr(path)]
    norm = np.sqrt(sum(float(jnp.square(x).sum()) for x in moments))
    np.testing.assert_allclose(norm, 0.1 * 0.5, rtol=1e-5)


def test_trainings_that_differ_in_numbers_only_share_one_step(model: Model) -> None:
    objective = Weighted(task=(1.0, TaskLoss()))
    first = make_train_step(model, objective, Training(learning_rate=1e-3))
    assert make_train_step(model, objective, Training(learning_rate=1e-4, epochs=9)) is first
    assert make_train_step(model, objective, Training(weight_decay=0.1)) is not first


@pytest.mark.parametrize("field", ["epochs", "batch_size", "learning_rate", "max_length"])
def test_a_number_that_cannot_be_is_refused(field: str) -> None:
    zero = type(getattr(Training(), field))(0)
    with pytest.raises(ValueError, match=f"training: {field} is {zero}; it must be above 0"):
        Training(**{field: zero})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [0.0, 0.5, 1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0.0]),
        ("inverse-sqrt", [0.0, 0.5, 1.0, *(2**0.5 / n**0.5 for n in (3, 4, 5, 6))]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_a_schedule_is_chosen_by_name(name: Any, expected: list[float]) -> None:
    training = Training(learning_rate=1.0, warmup=1 / 3, schedule=name)
    schedule = Schedule.of(training, steps=6)
    rates = [float(schedule.rate(jnp.int32(step))) for step in range(7)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_lower_layers_learn_more_slowly(model: Model) -> None:
    """Adam's first updates are all of one size, so what is left is the factor of the layer."""
    training = Training(layer_decay=0.5, weight_decay=0.0, clip_norm=1e9)
    optimizer = make_optimizer(model.table, training, layers=2)
    trainables = {"params": model.params, "aux": {"projection": jnp.ones(3)}, "reparam": {}}
    ones = jax.tree.map(jnp.ones_like, trainables)
    found: Any = optimizer.update(ones, optimizer.init(trainables), trainables)[0]
    moved = {path: float(jnp.abs(x).mean()) for path, x in flatten(found["params"]).items()}
    for path, factor in {
        "head/output/kernel": 1.0,
        "pooler/dense/kernel": 1.0,
        "layer_1/attention/query/kernel": 0.25,
        "layer_0/feedforward/up/bias": 0.125,
        "embedding/word/embedding": 0.0625,
    }.items():
        assert moved[path] == pytest.approx(factor, rel=1e-4), path
    assert float(found["aux"]["projection"][0]) == pytest.approx(1.0, rel=1e-4)
    assert set(flatten(layer_factors(model.table, 2, 1.0)).values()) == {1.0}


def test_lamb_leaves_alone_what_has_no_gradient_yet(model: Model) -> None:
    """A layer that waits for its turn, as MobileBERT's do: decay alone, at the size of the trust
    ratio, would take it to nothing.
    """
    training = Training(optimizer="lamb", weight_decay=0.1)
    optimizer = make_optimizer(model.table, training, layers=2)
    trainables: Any = {"params": model.params, "aux": {}, "reparam": {}}
    gradient = jax.tree.map(jnp.ones_like, trainables)
    waiting = jax.tree.map(jnp.zeros_like, trainables["params"]["layer_1"])
    gradient["params"]["layer_1"] = waiting
    state = optimizer.init(trainables)
    first: Any
    first, state = optimizer.update(gradient, state, trainables)
    assert not any(np.any(x) for x in jax.tree.leaves(first["params"]["layer_1"]))
    assert all(np.any(x) for x in flatten(first["params"]["layer_0"]["attention"]).values())
    turn = {**gradient, "params": jax.tree.map(jnp.ones_like, trainables["params"])}
    second: Any = optimizer.update(turn, state, trainables)[0]
    assert all(np.any(x) for x in jax.tree.leaves(second["params"]["layer_1"]))


def test_lamb_moves_every_matrix_by_its_own_norm(model: Model) -> None:
    """Source: arXiv 1904.00962, algorithm 2: the update has the norm of the weights."""
    training = Training(optimizer="lamb", weight_decay=0.1)
    optimizer = make_optimizer(model.table, training, layers=2)
    params = jax.tree.map(lambda x: x + 0.01, model.params)
    trainables = {"params": params, "aux": {}, "reparam": {}}
    gradient = jax.tree.map(lambda x: jnp.cos(37 * x), trainables)
    found: Any = optimizer.update(gradient, optimizer.init(trainables), trainables)[0]
    updates, weights = flatten(found["params"]), flatten(params)
    for path in ("layer_0/attention/query/kernel", "embedding/word/embedding"):
        ratio = jnp.linalg.norm(updates[path]) / jnp.linalg.norm(weights[path])
        assert float(ratio) == pytest.approx(1.0, rel=1e-4)
    bias = np.abs(np.asarray(updates["layer_0/feedforward/up/bias"]))
    np.testing.assert_allclose(bias, 1.0, rtol=1e-3)  # Adam alone
