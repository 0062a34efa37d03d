"""Ways to prune: that a recipe's settings reach what they name."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.measure import flop_costs
from effjax.models import Model
from effjax.prune import CoFi, Movement, least_important, ziplm
from effjax.recipe import BlockMovement, FewerLayers, Given, HardConcrete, Way, ZipLM
from effjax.train.fitting import Fit
from effjax.tree import flatten

GATES = ("inner", "whole")
"""What CoFi learns beside its multipliers."""


@pytest.fixture
def given(model: Model, encoded: Encoded, loss: Callable) -> Given:
    """Two budgets, of which each leaves one layer or parts of both."""

    def train(speedup: float, **_: Any) -> Any:
        raise AssertionError("nothing is trained here")

    how: dict[str, Any] = {"speedups": (1.3, 1.9), "multiples": {}, "seed": 3, "steps": 0}
    costs = flop_costs(model, length=8)
    return Given(model=model, encoded=encoded, loss=loss, costs=costs, train=train, **how)


def test_blocks_that_learn_to_go_leave_whole_heads_and_units(
    given: Given,
) -> None:
    """Those whose scores are lowest wherever they are read."""
    asked, table = [], given.model.table

    def train(speedup: float, *, reparam: Movement, steps: int) -> Fit:
        asked.append((reparam.sparsity, steps))
        learned: Any = reparam.init(jax.random.key(0), table)
        for name in ("attention/output", "feedforward/down"):
            path = f"layer_0/{name}/kernel"
            learned[path] = learned[path].at[:, 1:, :].set(-1.0)
        return Fit(given.model, {}, learned, steps=5, seconds=2.0, loss=0.0)

    costs = given.costs
    with_steps = replace(given, train=train, steps=10, speedups=(1.9,))
    way = BlockMovement(name="blocks", share=0.6, block=(4, 12))
    (pruned,) = way.models(with_steps)
    target = (costs.whole - costs.whole / 1.9) / (costs.whole - costs.base)
    assert asked == [(pytest.approx(target), 6)]
    assert (pruned.steps, pruned.seconds) == (5, 2.0)
    layer, whole = pruned.model.config.layers[0], given.model.config.layers[0]
    assert 0 < layer.heads < whole.heads and 0 < layer.ffn < whole.ffn
    name = "layer_0/feedforward/down/kernel"
    ours, theirs = (flatten(x.params)[name] for x in (pruned.model, given.model))
    np.testing.assert_array_equal(ours, theirs[: len(ours)])


@pytest.mark.parametrize(("log_alpha", "told"), [(3.0, True), (-3.0, False)])
def test_gates_that_did_not_close_are_told(
    given: Given, caplog: pytest.LogCaptureFixture, log_alpha: float, told: bool
) -> None:
    """With the share that they closed, computed from the formula of their probabilities."""

    def train(speedup: float, *, reparam: CoFi, steps: int) -> Fit:
        learned: Any = reparam.init(jax.random.key(0), given.model.table)
        learned |= {
            name: jax.tree.map(lambda x: 0 * x + log_alpha, learned[name]) for name in GATES
        }
        return Fit(given.model, {}, learned, steps=5, seconds=2.0, loss=0.0)

    (pruned,) = HardConcrete(name="CoFi").models(
        replace(given, train=train, steps=10, speedups=(1.9,))
    )
    assert given.cost(pruned.model) <= given.costs.whole / 1.9
    gone = 100 * (1 - (1 / (1 + math.exp(-log_alpha - 2 / 3 * math.log(11)))) ** 2)
    line = f"way 'CoFi': after 5 steps its gates have closed {gone:.0f}% of the parameters"
    assert (line in caplog.text) == told


def arrays_of(way: Way, given: Given) -> list[dict[str, np.ndarray]]:
    found = [pruned.model for pruned in way.models(given)]
    sizes = [given.cost(small) for small in found]
    assert all(x <= most for x, most in zip(sizes, given.at_most, strict=True))
    return [flatten(small.params) for small in found]


def test_the_family_is_that_of_one_run(given: Given) -> None:
    ours = arrays_of(ZipLM(name="ZipLM", trials=2), given)
    what = (given.model, given.encoded, given.loss, given.costs)
    theirs = ziplm(*what, at_most=given.at_most, multiples={}, trials=2, seed=3)
    for one, other in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, flatten(other.params))


@pytest.mark.parametrize(
    ("order", "left"),
    [("top", 0), ("bottom", 1), ("alternate", 0), ("symmetric", None), ("contribution", None)],
)
def test_the_first_layers_of_an_order_go(given: Given, order: Any, left: int | None) -> None:
    name, whole = "attention/query/kernel", flatten(given.model.params)
    for small in arrays_of(FewerLayers(name="layers", order=order), given):
        assert "layer_1/attention/query/kernel" not in small
        if left is not None:
            np.testing.assert_array_equal(small[f"layer_0/{name}"], whole[f"layer_{left}/{name}"])


def test_layers_go_by_the_loss_without_them(given: Given) -> None:
    (gone,) = least_important(given.model, given.encoded, given.loss, 1)
    name, whole = "attention/query/kernel", flatten(given.model.params)
    small, _ = arrays_of(FewerLayers(name="layers", order="importance"), given)
    np.testing.assert_array_equal(small[f"layer_0/{name}"], whole[f"layer_{1 - gone}/{name}"])
