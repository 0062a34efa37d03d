"""Contract: what every distillation objective promises, on the outputs of real models."""

import dataclasses
import functools
import importlib
import pkgutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax import distill
from effjax.data.layouts import packed_batches, padded_batches
from effjax.distill import Given, Objective, Weighted, cache_outputs
from effjax.models.base import Head, Outputs
from tests.contracts.objectives import OBJECTIVES, Row
from tests.contracts.pairs import build
from tests.contracts.test_packing import encoded, run

Batch = dict[str, np.ndarray]

LAYOUTS = {"packed": packed_batches, "padded": padded_batches}
SCALE, STEP = 0.9, 0.003
"""The student's parameters are the teacher's times this; how far from there a loss is taken again.
"""


FIRST = {type(row.objective): name for name, row in reversed(OBJECTIVES.items())}
"""The row of each objective that is not left to the slow tests."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if FIRST[type(row.objective)] == name else pytest.mark.slow)
        for name, row in OBJECTIVES.items()
    ]
)
def row(request: pytest.FixtureRequest) -> Row:
    return OBJECTIVES[request.param]


@functools.cache
def batch_of(head: Head, layout: str) -> Batch:
    """Three examples, the third left out by its weight, and one that only fills up the batch."""
    (batch,) = LAYOUTS[layout](encoded(build("bert", head).batch), np.array([0, 1, 2]), 1, 4, 1)
    return {**batch, "example_mask": np.array([1, 1, 0, 0], np.float32)}


@functools.cache
def student(head: Head, layout: str, scale: float = SCALE) -> Outputs:
    model = build("bert", head).model
    scaled = jax.tree.map(lambda x: scale * x, model.params)
    return run(model.replace(params=scaled), batch_of(head, layout))


def derivative(row: Row, layout: str) -> tuple[float, float]:
    """The loss, and its derivative along the way that the student's outputs take with the scale."""
    ours, above, below = (student(row.head, layout, SCALE + step) for step in (0, STEP, -STEP))
    along = [(x - y) / (2 * STEP) for x, y in zip(numbers(above), numbers(below), strict=True)]
    case = Case(row, layout)
    loss, slope = jax.jvp(lambda x: case.loss(of_numbers(ours, x)), (numbers(ours),), (along,))
    return float(loss), float(slope)


def numbers(outputs: Outputs) -> list[Any]:
    """What there is to differentiate by."""
    return [x for x in jax.tree.leaves(outputs) if x.dtype != bool]


def of_numbers(outputs: Outputs, given: list[Any]) -> Outputs:
    """The outputs with these in the place of their own."""
    left = iter(given)
    return jax.tree.map(lambda x: x if x.dtype == bool else next(left), outputs)


@functools.cache
def teacher(head: Head, layout: str) -> Outputs:
    return run(build("bert", head).model, batch_of(head, layout))


@dataclasses.dataclass(frozen=True)
class Case:
    """An objective alone in a sum, what it learns, and what it is given."""

    row: Row
    layout: str = "padded"

    @property
    def objective(self) -> Weighted:
        return Weighted(it=(1.0, self.row.objective))

    @property
    def aux(self) -> Any:
        config = build("bert", self.row.head).model.config
        return self.objective.init(jax.random.key(0), config, {"teacher": config})

    def loss(self, ours: Outputs, theirs: Outputs | None = None) -> Any:
        theirs = teacher(self.row.head, self.layout) if theirs is None else theirs
        batch = batch_of(self.row.head, self.layout)
        return self.objective(self.aux, ours, {"teacher": theirs}, batch).total


def test_every_objective_with_a_teacher_has_a_row() -> None:
    for module in pkgutil.iter_modules(distill.__path__, "effjax.distill."):
        importlib.import_module(module.name)
    wanted = {
        found
        for found in Objective.__subclasses__()
        if found.__module__.startswith("effjax.distill.") and "teacher" in found.__dict__
    }
    assert {type(row.objective) for row in OBJECTIVES.values()} == wanted


def test_packed_and_padded_have_one_loss_and_one_derivative(row: Row) -> None:
    packed, padded = (derivative(row, layout) for layout in LAYOUTS)
    assert packed[0] == pytest.approx(padded[0], rel=1e-4, abs=1e-7)
    assert packed[1] == pytest.approx(padded[1], rel=1e-3, abs=1e-6)
    assert padded[0] > 1e-5


def test_a_student_like_its_teacher_is_at_zero(row: Row) -> None:
    found = float(Case(row).loss(teacher(row.head, "padded")))
    assert (abs(found) < 1e-6) != row.learned


def test_the_derivative_is_that_of_the_loss(row: Row) -> None:
    _, slope = derivative(row, "padded")
    above, below = (
        float(Case(row).loss(student(row.head, "padded", SCALE + step))) for step in (STEP, -STEP)
    )
    assert slope == pytest.approx((above - below) / (2 * STEP), rel=0.05, abs=1e-4)


def test_no_gradient_reaches_the_teacher(row: Row) -> None:
    theirs, ours = teacher(row.head, "padded"), student(row.head, "padded")
    case = Case(row)
    gradient = jax.grad(lambda x: case.loss(ours, of_numbers(theirs, x)))(numbers(theirs))
    assert len(gradient) > 10 and not any(x.any() for x in gradient)


def test_bfloat16_outputs_are_compared_in_float32(row: Row) -> None:
    def low(outputs: Outputs) -> Outputs:
        return jax.tree.map(lambda x: x if x.dtype == bool else x.astype(jnp.bfloat16), outputs)

    case, theirs, ours = Case(row), teacher(row.head, "padded"), student(row.head, "padded")
    aux, batch = case.aux["it"], batch_of(row.head, "padded")
    found = row.objective(low(ours), Given(teacher=low(theirs), batch=batch, aux=aux))
    assert found.values.dtype == jnp.float32
    assert float(found.mean()) == pytest.approx(float(case.loss(ours)), rel=0.1, abs=1e-4)


def test_a_cached_teacher_says_what_the_teacher_says(row: Row) -> None:
    """In another layout than it was cached in; float16 is what is left of the difference."""
    both, ours = build("bert", row.head), student(row.head, "padded")
    needs = Case(row).objective.needs(both.model.config, {"teacher": both.model.config})["teacher"]
    cached = cache_outputs(both.model, encoded(both.batch), needs, batch_size=2)
    found = float(Case(row).loss(ours, cached(batch_of(row.head, "padded"))))
    assert found == pytest.approx(float(Case(row).loss(ours)), rel=5e-3)


def test_heads_may_come_in_any_order_where_it_says_so(row: Row) -> None:
    """The heads of the student, and those of the teacher, in another order in every layer."""

    def moved(outputs: Outputs, order: list[int]) -> Outputs:
        names = ("q", "k", "v", "scores")
        layers = tuple(
            dataclasses.replace(layer, **{x: getattr(layer, x)[:, np.array(order)] for x in names})
            for layer in outputs.layers
        )
        return dataclasses.replace(outputs, layers=layers)

    ours, theirs, case = student(row.head, "padded"), teacher(row.head, "padded"), Case(row)
    want, order = float(case.loss(ours)), [2, 0, 1]
    together = float(case.loss(moved(ours, order), moved(theirs, order)))
    alone = float(case.loss(moved(ours, order)))
    assert (together == pytest.approx(want, rel=1e-4)) == (row.heads != "split anew")
    assert (alone == pytest.approx(want, rel=1e-4)) == (row.heads == "any order")
