"""The weighted sum: reduction, gradients, names, parameters."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import (
    Given,
    HiddenCosine,
    HiddenMSE,
    Loss,
    MaskedLM,
    Named,
    Needs,
    Objective,
    Piecewise,
    SoftTargets,
    TaskLoss,
    Term,
    Weighted,
)
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array

Build = Callable[..., Outputs]

TERMS: dict[str, Objective] = {
    "soft": SoftTargets(temperature=2.0),
    "task": TaskLoss(),
    "cos": HiddenCosine(layers="uniform"),
    "mse": HiddenMSE(project=False),
}


def test_the_total_is_the_weighted_sum_of_means(random_outputs: Build) -> None:
    student, teachers = random_outputs(0), {"teacher": random_outputs(1)}
    batch = {"labels": np.array([1, 4])}
    given = Given(teacher=teachers["teacher"], batch=batch)
    found = Weighted(soft=(5.0, TERMS["soft"]), task=(0.5, TERMS["task"]))(
        {}, student, teachers, batch
    )
    want = {name: TERMS[name](student, given).mean() for name in ("soft", "task")}
    np.testing.assert_allclose([*found.terms.values()], [*want.values()])
    np.testing.assert_allclose(found.total, 5 * want["soft"] + 0.5 * want["task"], rtol=1e-6)
    assert found.total.dtype == jnp.float32


@pytest.mark.parametrize("name", TERMS)
def test_no_gradient_reaches_the_teacher_and_some_the_student(
    random_outputs: Build, name: str
) -> None:
    objective, batch = (
        Weighted(terms=(Named(name, 1.0, TERMS[name]),)),
        {"labels": np.array([1, 4])},
    )

    @jax.grad
    def gradient(pair: tuple[Outputs, Outputs]) -> Array:
        masks = {"mask": jnp.ones((2, 3), bool)}
        student, teacher = (dataclasses.replace(outputs, **masks) for outputs in pair)
        return objective({}, student, {"teacher": teacher}, batch).total

    pair = tuple(dataclasses.replace(random_outputs(seed), mask=None) for seed in (0, 1))
    ours, theirs = (jax.tree.leaves(found) for found in gradient(pair))
    assert all(not leaf.any() for leaf in theirs)
    assert any(leaf.any() for leaf in ours)


@pytest.mark.parametrize("name", TERMS)
def test_padding_changes_nothing(random_outputs: Build, name: str) -> None:
    """Extra tokens of padding, holding anything, and an extra row that only fills up the batch."""

    def padded(outputs: Outputs, seed: int) -> Outputs:
        draw = np.random.default_rng(seed).normal

        def states(x: jax.Array) -> jax.Array:
            wide = draw(size=(x.shape[0] + 1, x.shape[1] + 2, x.shape[2])).astype(np.float32)
            wide[: x.shape[0], : x.shape[1]] = x
            return jnp.asarray(wide)

        found = jax.tree.map(states, dataclasses.replace(outputs, logits=None, mask=None))
        assert outputs.logits is not None
        logits = jnp.concatenate([outputs.logits, draw(size=(1, 5)).astype(np.float32)])
        mask = jnp.zeros((3, 5), bool).at[:2, :3].set(True)
        return dataclasses.replace(found, logits=logits, mask=mask)

    objective = Weighted(terms=(Named(name, 1.0, TERMS[name]),))
    student, teacher = random_outputs(0), random_outputs(1)
    labels = np.array([1, 4])
    short = objective({}, student, {"teacher": teacher}, {"labels": labels})
    long = objective(
        {},
        padded(student, 2),
        {"teacher": padded(teacher, 3)},
        {"labels": np.append(labels, 0), "example_mask": np.array([1.0, 1.0, 0.0])},
    )
    np.testing.assert_allclose(long.total, short.total, rtol=1e-5)


def test_sums_are_taken_in_float32() -> None:
    """In bfloat16, 257 ones are 256."""
    ones = jnp.ones(257, jnp.bfloat16)
    assert Term(ones, ones).mean() == 1


def test_a_weight_of_zero_wins_over_a_value_that_is_not_a_number() -> None:
    assert Term(jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([2.0, 0.0, 0.0])).mean() == 1
    assert Term(jnp.array([jnp.nan]), jnp.array([0.0])).mean() == 0


def test_needs_and_parameters_by_name(config: EncoderConfig) -> None:
    student, teacher = config, config.replace(layers=config.layers * 2)
    objective = Weighted(
        soft=(1.0, SoftTargets(teacher="a")),
        mse=(1.0, HiddenMSE(layers=((1, 3),), teacher="a")),
        cos=(1.0, HiddenCosine(teacher="b")),
        mlm=(1.0, MaskedLM()),
    )
    teachers = {"a": teacher, "b": teacher}
    needs = {"a": Needs(logits=True, hidden=(3,)), "b": Needs(hidden=(4,))}
    assert objective.needs(student, teachers) == needs
    aux = objective.init(jax.random.key(0), student, teachers)
    assert {name: set(found) for name, found in aux.items()} == {
        "soft": set(),
        "mse": {"hidden_1_to_3"},
        "cos": set(),
        "mlm": set(),
    }
    alone = Weighted(mse=(1.0, HiddenMSE(layers=((1, 3),), teacher="a")))
    again = alone.init(jax.random.key(0), student, teachers)["mse"]
    np.testing.assert_array_equal(again["hidden_1_to_3"], aux["mse"]["hidden_1_to_3"])
    with pytest.raises(ValueError, match="'cos' reads the teacher 'b'; teachers: a"):
        objective.init(jax.random.key(0), student, {"a": teacher})


class Drawn(Objective):
    """Its value is the first number of its key, its weight how much of the training is over."""

    def __call__(self, student: Outputs, given: Given) -> Term:
        assert given.key is not None
        return Term(jax.random.uniform(given.key, (1,)), jnp.asarray([given.progress], jnp.float32))


def test_each_name_has_a_key_of_its_own(outputs: Build) -> None:
    objective, key = Weighted(a=(1.0, Drawn()), b=(1.0, Drawn())), jax.random.key(0)
    found = objective({}, outputs(), {}, {}, progress=0.5, key=key).terms
    assert found["a"] != found["b"]
    other = Weighted(b=(1.0, Drawn()))({}, outputs(), {}, {}, progress=0.5, key=key).terms
    assert other["b"] == found["b"]


def test_it_is_a_value() -> None:
    made = Weighted(soft=(5.0, SoftTargets(temperature=2.0)), cos=(1, HiddenCosine()))
    assert made.terms == (
        Named("soft", 5.0, SoftTargets(temperature=2.0)),
        Named("cos", 1.0, HiddenCosine()),
    )
    again = dataclasses.replace(made, terms=made.terms)
    assert again == made and hash(again) == hash(made)
    assert "temperature=2.0" in repr(made)


def test_the_loss_passes_through_jit(random_outputs: Build) -> None:
    objective = Weighted(soft=(1.0, SoftTargets()), cos=(1.0, HiddenCosine()))

    @jax.jit
    def loss(student: Outputs, teachers: Mapping[str, Outputs]) -> Loss:
        return objective({}, student, teachers, {})

    student, teachers = random_outputs(0), {"teacher": random_outputs(1)}
    plain, compiled = objective({}, student, teachers, {}), loss(student, teachers)
    np.testing.assert_allclose(compiled.total, plain.total, rtol=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((), "one objective or more"),
        ((Named("a", 1.0, TaskLoss()), Named("a", 2.0, TaskLoss())), "own name; names: a, a"),
    ],
)
def test_names_are_unique_and_not_none(terms: tuple[Named, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Weighted(terms=terms)


@pytest.mark.parametrize("weight", [math.nan, Piecewise(points=((0.0, 1.0), (1.0, math.inf)))])
def test_weights_are_numbers(weight: float | Piecewise) -> None:
    with pytest.raises(ValueError, match=r"'a': the weight is .*(nan|inf)"):
        Weighted(a=(weight, TaskLoss()))


def test_a_weight_may_change_over_training(random_outputs: Build) -> None:
    falling = Piecewise(points=((0.25, 2.0), (0.75, 0.0)))
    shares = [0.0, 0.25, 0.5, 0.625, 0.75, 1.0]
    np.testing.assert_allclose([falling.at(x) for x in shares], [2.0, 2.0, 1.0, 0.5, 0.0, 0.0])
    objective = Weighted(task=(falling, TaskLoss()), soft=(1.0, SoftTargets()))
    student, teachers = random_outputs(0), {"teacher": random_outputs(1)}
    batch = {"labels": np.array([1, 4])}
    for share, weight in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.0)):
        found = objective({}, student, teachers, batch, progress=share)
        want = weight * found.terms["task"] + found.terms["soft"]
        np.testing.assert_allclose(found.total, want, rtol=1e-6)


@pytest.mark.parametrize("points", [(), ((0.5, 1.0), (0.5, 2.0)), ((0.0, 1.0), (2.0, 0.0))])
def test_the_points_of_a_weight_ascend_from_0_to_1(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match=r"Piecewise: points are .*; expected pairs of"):
        Piecewise(points=points)
