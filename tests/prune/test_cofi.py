"""CoFi: its gates by their formulas, and a small model that is pruned while it is trained."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.measure import flop_costs, parameter_costs
from effjax.models import Model
from effjax.prune import CoFi, gated, kept, settled, shrink
from effjax.prune.cofi import raised
from effjax.prune.hard_concrete import open_probability, sample, without_noise
from effjax.train import Training, fit, predict
from effjax.train.fitting import Fit
from effjax.train.logs import read_history
from effjax.train.loop import Progress
from effjax.train.step import init_state, make_train_step

OBJECTIVE = Weighted(task=(1.0, TaskLoss()))
TRAINING = Training(epochs=60, batch_size=16, learning_rate=3e-3, save_every=50)


def test_gates_are_closed_as_often_as_they_should_be() -> None:
    log_alpha = jnp.array([-4.0, -1.0, 0.0, 2.0, 6.0])
    many = jnp.broadcast_to(log_alpha, (20_000, 5))
    z = np.asarray(sample(many, jax.random.key(0)))
    assert z.min() == 0 and z.max() == 1
    np.testing.assert_allclose((z > 0).mean(0), open_probability(log_alpha), atol=0.015)
    np.testing.assert_allclose(without_noise(log_alpha), z.mean(0), atol=0.07)
    # 0.8 / (2 / 3) = 1.2, of which the odds are e^1.2 to 1.
    want = [0.5, np.exp(1.2) / (1 + np.exp(1.2))]
    np.testing.assert_allclose(without_noise(jnp.array([0.0, 1.0])), want, rtol=1e-6)


def test_gates_have_a_gradient_where_they_are_neither_open_nor_closed() -> None:
    log_alpha = jnp.zeros(1000)
    z, pull = jax.vjp(lambda x: sample(x, jax.random.key(1)), log_alpha)
    (gradient,) = pull(jnp.ones(1000))
    between = (np.asarray(z) > 0) & (np.asarray(z) < 1)
    assert 0.2 < between.mean() < 0.9
    assert (np.asarray(gradient)[between] > 0).all() and not np.asarray(gradient)[~between].any()


def test_multipliers_go_up_where_parameters_go_down() -> None:
    assert jax.grad(lambda x: (3.0 * raised(x)).sum())(jnp.ones(2)).tolist() == [-3, -3]


def test_the_share_that_is_gone_is_of_parameters(model: Model) -> None:
    """With gates that are certainly open or closed it is what the smaller model lacks."""
    cofi, random = CoFi(target=0.5, warmup=0.5), np.random.default_rng(0)
    learned: Any = cofi.init(jax.random.key(0), model.table)
    np.testing.assert_allclose(open_probability(learned["whole"]["layer_0/ffn"]), 0.95, atol=1e-6)
    choice = {name: random.integers(0, 2, size) for name, size in gated(model).items()}
    learned["inner"] = {name: jnp.where(x == 1, 50.0, -50.0) for name, x in choice.items()}
    learned["whole"] = {name: jnp.asarray(50.0) for name in choice}
    learned["whole"]["layer_1/heads"] = jnp.asarray(-50.0)
    left = {name: int(x.sum()) for name, x in choice.items()} | {"layer_1/heads": 0}
    costs = parameter_costs(model)
    want = 1 - (costs.at(left) - costs.base) / (costs.whole - costs.base)
    learned["multipliers"] = jnp.array([2.0, 3.0])
    for progress, target in ((0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (1.0, 0.5)):
        loss, shown = cofi.penalty(learned, model.table, progress=progress)
        assert shown["gone"] == pytest.approx(want, abs=1e-5)
        off = want - target
        assert float(loss) == pytest.approx(2 * off + 3 * off**2, abs=1e-4)


def test_what_hidden_states_take_with_them_counts(model: Model) -> None:
    """What is gone is what the heads and units of the narrower model lack."""
    cofi, there = CoFi(target=0.5, warmup=0.0), np.array([0, 1, 2, 5, 6, 9, 11])
    learned: Any = cofi.init(jax.random.key(0), model.table)
    learned["inner"] = {name: jnp.full_like(x, 50.0) for name, x in learned["inner"].items()}
    learned["whole"] = {name: jnp.asarray(50.0) for name in gated(model)}
    learned["inner"]["hidden"] = jnp.full(12, -50.0).at[there].set(50.0)
    learned["inner"]["layer_0/ffn"] = jnp.full(7, 50.0).at[3].set(-50.0)
    keep = {"hidden": there, "layer_0/ffn": np.array([0, 1, 2, 4, 5, 6])}
    costs, left = parameter_costs(model), parameter_costs(shrink(model, keep))
    want = 1 - (left.whole - left.base) / (costs.whole - costs.base)
    _, shown = cofi.penalty(learned, model.table, progress=1.0)
    assert shown["gone"] == pytest.approx(want, abs=1e-5)
    gates = CoFi(target=float(want)).gates(learned, model)
    assert {name: kept(gates)[name].tolist() for name in keep} == {
        name: indices.tolist() for name, indices in keep.items()
    }
    small = settled(model, gates)
    assert small.num_params == left.whole and small.config.hidden == 7


def trained(
    model: Model, encoded: Encoded, folder: Path, progress: Progress = lambda *_: None
) -> Fit:
    given = {"seed": 0, "folder": folder, "reparam": CoFi(target=0.5, learning_rate=0.1)}
    return fit(model, encoded, OBJECTIVE, TRAINING, **given, progress=progress)


@pytest.fixture(scope="module")
def fitted(model: Model, encoded: Encoded, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cofi")
    return trained(model, encoded, folder), read_history(folder)


@pytest.mark.slow
def test_half_of_it_goes_and_the_task_is_learned(
    model: Model, encoded: Encoded, fitted: Any
) -> None:
    fit, history = fitted
    assert history[-1]["gone"] == pytest.approx(0.5, abs=0.05)
    cofi, costs = CoFi(target=0.5), parameter_costs(model)
    gates = cofi.gates(fit.learned, model)
    small = settled(fit.model, gates)
    left, inner = parameter_costs(small), costs.whole - costs.base
    assert left.whole - left.base <= 0.5 * inner + 1e-6
    assert small.num_params == left.whole < model.num_params

    def right(model: Model) -> float:
        return float((predict(model, encoded).argmax(-1) == encoded.labels).mean())

    assert right(small) > 0.9 > right(settled(model, gates))


def test_another_budget_takes_the_most_probable_parameters(model: Model) -> None:
    """Within FLOPs, and of whole multiples; all that is kept has a gate above 0."""
    cofi, random = CoFi(target=0.5, hidden=False), np.random.default_rng(1)
    learned: Any = cofi.init(jax.random.key(0), model.table)
    # Mostly closed: more than the budget wants.
    learned["inner"] = {x: jnp.asarray(random.normal(size=n) - 4) for x, n in gated(model).items()}
    costs = flop_costs(model, length=8)
    at_most = 0.7 * costs.whole
    gates = cofi.within(learned, model, costs, at_most=at_most, multiples={"ffn": 3})
    left = kept(gates)
    assert "hidden" not in left
    cost = costs.at({name: len(indices) for name, indices in left.items()})
    assert 0.9 * at_most < cost <= at_most
    for name, indices in left.items():
        assert len(indices) in ((0, 3, 6, 7) if name.endswith("ffn") else range(4))
        likely = np.argsort(-np.asarray(learned["inner"][name]))[: len(indices)]
        assert sorted(likely) == list(indices)
        want = without_noise(learned["inner"][name]) * without_noise(learned["whole"][name])
        np.testing.assert_allclose(gates[name][indices], want[indices], rtol=1e-6)


@pytest.mark.slow
def test_what_is_learned_is_kept_over_an_interruption(
    model: Model, encoded: Encoded, fitted: Any, tmp_path: Path
) -> None:
    def stop(step: int, steps: int, metrics: Any) -> None:
        del steps, metrics
        if step >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(model, encoded, tmp_path, stop)
    again, (whole, _) = trained(model, encoded, tmp_path), fitted
    for ours, theirs in ((again.learned, whole.learned), (again.model.params, whole.model.params)):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_parts_of_a_batch_share_one_penalty(model: Model, encoded: Encoded) -> None:
    cofi, found = CoFi(target=0.5, warmup=0.0), []
    for parts in (1, 2):
        training = Training(batch_size=16, micro_batches=parts, learning_rate=1e-3)
        state = init_state(model, OBJECTIVE, training, steps=9, seed=0, teachers={}, reparam=cofi)
        batches = TrainBatches(
            encoded=encoded, batch_size=16, seed=0, pad_id=0, micro_batches=parts
        )
        step = make_train_step(model, OBJECTIVE, training, cofi)
        for i in range(3):
            state, metrics = step(state, tuple((part, {}) for part in batches[i]))
        found.append({name: float(metrics[name]) for name in ("penalty", "gone")})
    assert found[0]["penalty"] != 0
    assert found[0] == pytest.approx(found[1], rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 1.0}, "CoFi: target is 1.0; expected above 0, below 1"),
        ({"open_at_start": 0.0}, "CoFi: open_at_start is 0.0"),
        ({"warmup": 2.0}, "CoFi: warmup is 2.0; expected 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoFi(**{"target": 0.5, **changes})
