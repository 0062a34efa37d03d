"""Means over an example's tokens."""

import jax.numpy as jnp
import numpy as np

from effjax.layers.pooling import mean_of_tokens

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)


def test_padding_has_no_part_and_no_tokens_are_zero() -> None:
    token = jnp.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    found = mean_of_tokens(jnp.asarray(X), token, None, None)
    np.testing.assert_allclose(found, [X[0, :3].mean(0), np.zeros(3)], atol=1e-6)


def test_packed_the_mean_is_of_the_segment_in_its_row() -> None:
    """Also where each row numbers its segments anew."""
    segment = jnp.array([[1, 1, 2, 2, 2], [1, 1, 1, 2, 0]])
    starts = jnp.array([2, 5, 0, 8, 2])
    found = mean_of_tokens(jnp.asarray(X), segment > 0, segment, starts)
    want = [X[0, 2:].mean(0), X[1, :3].mean(0), X[0, :2].mean(0), X[1, 3], X[0, 2:].mean(0)]
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_starts_of_choices_are_taken_in_order() -> None:
    segment, starts = jnp.array([[1, 1, 2, 2, 0]] * 2), jnp.array([[0, 2], [5, 7]])
    found = mean_of_tokens(jnp.asarray(X), segment > 0, segment, starts)
    assert found.shape == (4, 3)
    np.testing.assert_allclose(found[3], X[1, 2:4].mean(0), atol=1e-6)
