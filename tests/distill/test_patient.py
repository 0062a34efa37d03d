"""Patient distillation, and the layer map that is chosen, against numbers worked out by hand."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import Given, NearestHiddenMSE, Needs, PatientMSE
from effjax.models.base import EncoderConfig, Outputs

Build = Callable[..., Outputs]

ZERO = [[[0.0, 0.0]] * 2]


def test_directions_of_first_tokens_are_compared(outputs: Build) -> None:
    """(3, 0) and (0, 7) are sqrt(2) apart in direction; the second token has no part."""
    student = outputs([ZERO, [[[3.0, 0.0], [5.0, 5.0]]]])
    teacher = outputs([ZERO, [[[0.0, 7.0], [1.0, 2.0]]]])
    found = PatientMSE(layers=((1, 1),))(student, Given(teacher=teacher))
    np.testing.assert_allclose(found.values, [[2.0]], rtol=1e-6)


def test_in_packed_rows_every_example_has_a_first_token(outputs: Build) -> None:
    student = outputs([ZERO, [[[3.0, 0.0], [0.0, 5.0]]]])
    teacher = outputs([ZERO, [[[9.0, 0.0], [0.0, -1.0]]]])
    batch = {"starts": np.array([0, 1]), "example_mask": np.array([1.0, 0.5])}
    found = PatientMSE(layers=((1, 1),))(student, Given(teacher=teacher, batch=batch))
    np.testing.assert_allclose(found.values, [[0.0, 4.0]], atol=1e-6)
    np.testing.assert_allclose(found.mean(), 4 / 3, rtol=1e-6)


def test_the_nearest_layer_is_learned_from(outputs: Build) -> None:
    """The teacher's layer is (1, 1); the student's are (0, 0), (1, 2) and (4, 4), so 1/2."""
    student = outputs([ZERO, ZERO, [[[1.0, 2.0]] * 2], [[[4.0, 4.0]] * 2]])
    teacher = outputs([ZERO, [[[1.0, 1.0]] * 2]])
    given = Given(teacher=teacher, aux={"hidden": jnp.eye(2)})
    found = NearestHiddenMSE(teacher_layers=(1,))(student, given)
    np.testing.assert_allclose(found.values, [[[0.5, 0.5]]])


def test_padding_has_no_say_in_which_is_nearest(outputs: Build) -> None:
    student = outputs([ZERO, [[[1.0, 1.0], [9.0, 9.0]]], [[[2.0, 2.0], [1.0, 1.0]]]], mask=[[1, 0]])
    teacher = outputs([ZERO, [[[1.0, 1.0]] * 2]])
    given = Given(teacher=teacher, aux={"hidden": jnp.eye(2)})
    np.testing.assert_allclose(NearestHiddenMSE(teacher_layers=(1,))(student, given).mean(), 0.0)


def test_the_nearest_layer_s_projection(config: EncoderConfig) -> None:
    objective, key = NearestHiddenMSE(teacher_layers=(2, 1)), jax.random.key(0)
    assert objective.needs(config, config) == Needs(hidden=(1, 2))
    for layers in ((7,), (-1,), ()):
        with pytest.raises(ValueError, match=r"teacher_layers is .*; expected .* 0 to 2$"):
            NearestHiddenMSE(teacher_layers=layers).needs(config, config)
    np.testing.assert_array_equal(objective.init(key, config, config)["hidden"], np.eye(128))
    wide = objective.init(key, config, config.replace(hidden=192))["hidden"]
    assert wide.shape == (128, 192)
    assert np.std(wide) == pytest.approx(128**-0.5, rel=0.02)


def test_widths_that_differ_are_one_line(outputs: Build) -> None:
    student = outputs([ZERO, [[[3.0, 0.0]] * 2]])
    teacher = outputs([ZERO, [[[3.0, 0.0, 1.0]] * 2]])
    with pytest.raises(ValueError, match=r"PatientMSE: .* have 2 numbers, the teacher's 3"):
        PatientMSE(layers=((1, 1),))(student, Given(teacher=teacher))
    given = Given(teacher=teacher, aux={"hidden": jnp.eye(2)})
    with pytest.raises(ValueError, match=r"NearestHiddenMSE: .* have 2 numbers, the teacher's 3"):
        NearestHiddenMSE(teacher_layers=(1,))(dataclasses.replace(student, mask=None), given)
