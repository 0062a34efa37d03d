"""Families of smaller models: their budgets, their sizes against trying all, and their search."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import HiddenMSE, SoftTargets, Weighted
from effjax.measure import cost, flop_costs, parameter_costs
from effjax.models import Model
from effjax.models.costs import Costs
from effjax.prune import gated, shrink, ziplm, ziplm_gradual
from effjax.prune.obs import removals
from effjax.prune.ziplm import mean_loss, searched
from effjax.train import Training, fit, predict
from effjax.tree import flatten, unflatten

BIAS = "layer_0/attention/output/bias"


def flops(model: Model) -> Costs:
    return flop_costs(model, length=8)


def sizes_of(model: Model) -> dict[str, int]:
    """Those of the tiny model that are left."""
    names = [f"layer_{i}/{kind}" for i in range(2) for kind in ("heads", "ffn")]
    return {name: model.table.instances.get(name, 0) for name in names}


def product_flops(model: Model) -> int:
    return cost(model, length=8).product_flops


def parameters(model: Model) -> int:
    return model.num_params


@pytest.mark.parametrize(
    ("ask", "count", "shares"),
    [(flops, product_flops, (0.9, 0.7, 0.5)), (parameter_costs, parameters, (0.95, 0.8))],
)
def test_every_budget_is_met(
    ask: Callable[[Model], Costs],
    count: Callable[[Model], int],
    shares: tuple[float, ...],
    model: Model,
    encoded: Encoded,
    loss: Callable,
) -> None:
    costs = ask(model)
    budgets = [costs.base + share * (costs.whole - costs.base) for share in shares]
    family = ziplm(model, encoded, loss, costs, at_most=budgets, trials=3)
    assert len(family) == len(budgets)
    for small, budget in zip(family, budgets, strict=True):
        assert count(small) == pytest.approx(costs.at(sizes_of(small)))
        assert 0.8 * budget < count(small) <= budget


def test_without_trials_errors_add_up_to_the_least(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    costs, found = flops(model), removals(model, encoded, gated(model))
    budget = 0.7 * costs.whole
    (small,) = ziplm(model, encoded, loss, costs, at_most=[budget], trials=0)

    def off(sizes: dict[str, int]) -> float:
        return sum(found[name].errors[size] for name, size in sizes.items())

    every = itertools.product(*(range(len(one.errors)) for one in found.values()))
    fitting = (dict(zip(found, sizes, strict=True)) for sizes in every)
    least = min(off(sizes) for sizes in fitting if costs.at(sizes) <= budget)
    assert off(sizes_of(small)) == pytest.approx(least)


def test_trials_lower_the_loss_and_follow_their_seed(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    costs = flops(model)
    family = {
        (trials, seed): ziplm(
            model, encoded, loss, costs, at_most=[0.6 * costs.whole], trials=trials, seed=seed
        )[0]
        for trials, seed in [(0, 0), (20, 0), (20, 1)]
    }
    found = {which: mean_loss(small, encoded, loss) for which, small in family.items()}
    assert found[20, 0] < found[0, 0] >= found[20, 1]
    assert family[20, 0].config != family[20, 1].config
    (again,) = ziplm(model, encoded, loss, costs, at_most=[0.6 * costs.whole], trials=20, seed=0)
    assert again.config == family[20, 0].config


def test_a_loss_is_that_of_every_example_alone(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    logits, labels = predict(model, encoded), encoded.labels
    found = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(encoded)), labels]
    assert mean_loss(model, encoded, loss) == pytest.approx(found.mean(), rel=1e-5)


def test_a_search_keeps_the_best_and_changes_some() -> None:
    wanted, seen = np.random.default_rng(7).random(20), []

    def judge(tried: np.ndarray) -> float:
        seen.append((tried, float(((tried - wanted) ** 2).sum())))
        return seen[-1][1]

    np.testing.assert_array_equal(searched(judge, 20, trials=0, seed=0), np.ones(20))
    seen.clear()
    best = searched(judge, 20, trials=300, seed=0)
    losses = [found for _, found in seen]
    assert len(seen) == 301
    assert judge(best) == min(losses) < 0.2 * losses[0]
    assert 0 < (seen[1][0] != 1.0).sum() < 10


def test_sizes_are_multiples_where_asked_for(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    costs = flops(model)
    budgets, multiples = [0.8 * costs.whole, 0.6 * costs.whole], {"ffn": 3}
    for small in ziplm(model, encoded, loss, costs, at_most=budgets, multiples=multiples, trials=2):
        assert {sizes_of(small)[f"layer_{i}/ffn"] for i in range(2)} <= {0, 3, 6, 7}


def marked(model: Model) -> Model:
    """As if something had been learned: a bias is larger."""
    arrays = flatten(model.params)
    arrays[BIAS] = jnp.asarray(arrays[BIAS]) + 1.0
    return model.replace(params=unflatten(arrays))


def test_each_is_made_of_the_one_before_as_recovered(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    costs, given = flops(model), []

    def recover(small: Model) -> Model:
        given.append(small)
        return marked(small)

    budgets = [0.8 * costs.whole, 0.6 * costs.whole, 0.59999 * costs.whole]
    options = {"at_most": budgets, "trials": 2}
    family = ziplm_gradual(model, encoded, loss, costs, recover=recover, **options)
    for small, budget in zip(family, budgets, strict=True):
        assert costs.at(sizes_of(small)) <= budget
    first, second = given
    # By hand, from the model that has learned something.
    left = flops(marked(first))
    (want,) = ziplm(marked(first), encoded, loss, left, at_most=budgets[1:2], trials=2)
    assert second.config == want.config
    for path, array in flatten(want.params).items():
        np.testing.assert_allclose(flatten(second.params)[path], array, atol=1e-6)
    bias = np.asarray(flatten(model.params)[BIAS])
    for count, small in zip((1, 2, 2), family, strict=True):
        np.testing.assert_allclose(flatten(small.params)[BIAS], bias + count, atol=1e-6)
    # Where nothing more has to go, nothing is done.
    assert family[2] is family[1]


@pytest.mark.slow
def test_recovery_by_distillation(
    model: Model, encoded: Encoded, loss: Callable, tmp_path: Path
) -> None:
    """As the module's docstring does it, without dropout."""
    model = model.replace(config=model.config.replace(dropout=0.0, attention_dropout=0.0))
    soft, tokens = SoftTargets(temperature=2.0), HiddenMSE(project=False)
    objective = Weighted(soft=(1.0, soft), tokens=(1.0, tokens))
    training = Training(epochs=20, batch_size=16, learning_rate=3e-3)
    begun = []

    def recover(small: Model) -> Model:
        begun.append(small)
        folder, teachers = tmp_path / str(small.num_params), {"teacher": model}
        options: Any = {"seed": 0, "folder": folder, "teachers": teachers}
        return fit(small, encoded, objective, training, **options).model

    def off(small: Model) -> float:
        shares = [jax.nn.softmax(jnp.asarray(predict(x, encoded))) for x in (small, model)]
        return float(jnp.square(shares[0] - shares[1]).mean())

    costs = flops(model)
    options: Any = {"at_most": [0.4 * costs.whole], "recover": recover, "trials": 2}
    (small,) = ziplm_gradual(model, encoded, loss, costs, **options)
    assert small.config == begun[0].config and off(small) < 0.5 * off(begun[0])


def test_costs_of_a_smaller_model_are_part_of_the_costs(model: Model) -> None:
    sizes = {"layer_0/heads": 2, "layer_0/ffn": 0, "layer_1/heads": 3, "layer_1/ffn": 4}
    small = shrink(model, {name: np.arange(size) for name, size in sizes.items()})
    for count in (flops, parameter_costs):
        found, want = count(model).of_smaller(gated(small)), count(small)
        assert found.unit == want.unit and found.base == want.base
        assert found.whole == want.whole
        for name, costs in want.of.items():
            np.testing.assert_allclose(found.of[name], costs)
        assert {name: len(x) - 1 for name, x in found.of.items()} == sizes


def test_what_cannot_be_met_is_one_line(model: Model, loss: Callable, encoded: Encoded) -> None:
    """Before anything is computed: there are no examples to calibrate with."""
    costs, none = flops(model), replace(encoded, idx=encoded.idx[:0])
    base, whole = costs.base, costs.whole
    wrong = {
        "no model costs .* FLOPs or less": (costs, [0.8 * whole, 0.9 * base]),
        "there is nothing to remove": (costs, [whole, 0.8 * whole]),
        "the costs have no 'layer_0/heads', which": (replace(costs, of={}), [base]),
        "the costs are of 2 of 'layer_0/heads'; this model has 3": (
            costs.of_smaller({"layer_0/heads": 2}),
            [base],
        ),
    }
    for message, (given, budgets) in wrong.items():
        calls: list[tuple[Any, dict]] = [(ziplm, {}), (ziplm_gradual, {"recover": marked})]
        for function, options in calls:
            with pytest.raises(ValueError, match=message) as caught:
                function(model, none, loss, given, at_most=budgets, **options)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"at_most is \[1.0, 2.0\]; expected budgets from large"):
        ziplm_gradual(model, none, loss, costs, at_most=[1.0, 2.0], recover=marked)
