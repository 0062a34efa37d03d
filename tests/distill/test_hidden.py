"""Hidden-state objectives against numbers worked out by hand."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import Given, HiddenCosine, HiddenMSE, Needs, Objective, Term
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array

Build = Callable[..., Outputs]


def term(objective: Objective, student: Outputs, teacher: Outputs, aux: dict | None = None) -> Term:
    return objective(student, Given(teacher=teacher, aux=aux or {}))


ZERO = [[[0.0, 0.0]] * 3]
RIGHT, UP, LEFT, DIAGONAL = [2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 3.0]


def test_cosine_by_hand(outputs: Build) -> None:
    student, teacher = outputs([ZERO, [[RIGHT] * 3]]), outputs([ZERO, [[UP, LEFT, DIAGONAL]]])
    found = term(HiddenCosine(), student, teacher)
    np.testing.assert_allclose(found.values, [[[1.0, 2.0, 1 - 0.5**0.5]]], rtol=1e-6)


def test_cosine_leaves_padding_out(outputs: Build) -> None:
    student = outputs([ZERO, [[RIGHT] * 3]], mask=[[1, 0, 0]])
    found = term(HiddenCosine(), student, outputs([ZERO, [[UP, LEFT, DIAGONAL]]]))
    np.testing.assert_allclose(found.mean(), 1.0, rtol=1e-6)


def test_cosine_of_a_zero_state_has_a_finite_gradient(outputs: Build) -> None:
    def loss(state: jax.Array) -> Array:
        return term(HiddenCosine(), outputs([ZERO, state]), outputs([ZERO, [[UP] * 3]])).mean()

    assert jnp.isfinite(jax.grad(loss)(jnp.zeros((1, 3, 2)))).all()


def test_mse_without_projection_by_hand(outputs: Build) -> None:
    student, teacher = outputs([ZERO, [[RIGHT] * 3]]), outputs([ZERO, [[UP, LEFT, RIGHT]]])
    found = term(HiddenMSE(project=False), student, teacher)
    np.testing.assert_allclose(found.values, [[[14.5, 4.5, 0.0]]], rtol=1e-6)


def test_mse_projects_to_the_teachers_width(outputs: Build) -> None:
    """(2, 0) W with W = [[1, 0, 2], [7, 7, 7]] is (2, 0, 4)."""
    aux = {"hidden_1_to_1": jnp.array([[1.0, 0.0, 2.0], [7.0, 7.0, 7.0]])}
    student = outputs([ZERO, [[RIGHT]]])
    teacher = outputs([ZERO, [[[2.0, 3.0, 4.0]]]])
    found = term(HiddenMSE(), student, teacher, aux)
    np.testing.assert_allclose(found.values, [[[3.0]]], rtol=1e-6)


def test_every_pair_counts_alike(outputs: Build) -> None:
    student = outputs([[[RIGHT]], [[RIGHT]]])
    teacher = outputs([[[UP]], [[LEFT]], [[RIGHT]]])
    found = term(HiddenCosine(layers=((0, 0), (1, 1), (1, 2))), student, teacher)
    np.testing.assert_allclose(found.values[:, 0, 0], [1.0, 2.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found.mean(), 1.0, rtol=1e-6)


@pytest.mark.parametrize("objective", [HiddenCosine(), HiddenMSE(project=False)])
def test_zero_at_student_equal_to_teacher(
    random_outputs: Build, objective: HiddenCosine | HiddenMSE
) -> None:
    same = random_outputs(0)
    assert abs(term(objective, same, same).mean()) < 1e-6


def test_init_makes_a_projection_per_pair(config: EncoderConfig) -> None:
    student, teacher = config, config.replace(hidden=192, layers=config.layers * 2)
    aux = HiddenMSE().init(jax.random.key(0), student, teacher)
    assert {name: value.shape for name, value in aux.items()} == {
        "hidden_1_to_2": (128, 192),
        "hidden_2_to_4": (128, 192),
    }
    assert not np.allclose(aux["hidden_1_to_2"], aux["hidden_2_to_4"])
    assert np.std(aux["hidden_1_to_2"]) == pytest.approx(128**-0.5, rel=0.02)
    assert HiddenMSE().needs(student, teacher) == Needs(hidden=(2, 4))
    with pytest.raises(ValueError, match="have 128 numbers, the teacher's 192"):
        HiddenMSE(project=False).init(jax.random.key(0), student, teacher)
    with pytest.raises(ValueError, match="needs the teacher's config"):
        HiddenMSE().init(jax.random.key(0), student, None)


@pytest.mark.parametrize(
    ("objective", "width", "length", "message"),
    [
        (HiddenCosine(), 6, 3, "HiddenCosine: .* 4 numbers, the teacher's 6"),
        (HiddenMSE(project=False), 6, 3, "HiddenMSE: .* 4 numbers, the teacher's 6"),
        (HiddenMSE(), 6, 3, "no projection hidden_1_to_1"),
        (HiddenCosine(), 4, 5, r"\(2, 3\) tokens, those of the teacher \(2, 5\)"),
    ],
)
def test_states_that_do_not_fit_are_one_line(
    random_outputs: Build, objective: Objective, width: int, length: int, message: str
) -> None:
    teacher = random_outputs(1, width=width, length=length)
    with pytest.raises(ValueError, match=message) as caught:
        term(objective, random_outputs(0), teacher)
    assert "\n" not in str(caught.value)


def test_a_state_that_was_not_kept_says_so(random_outputs: Build) -> None:
    lost = dataclasses.replace(random_outputs(1), embedded=None)
    with pytest.raises(ValueError, match="hidden state 0 was not kept"):
        term(HiddenCosine(layers=((0, 0),)), random_outputs(0), lost)
