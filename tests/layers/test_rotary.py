"""Rotary positions and grouped queries against their formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from effjax.layers.attention import SelfAttention
from effjax.layers.rotary import GroupedQueryAttention, rotated, rotation, rotation_key

RNG = np.random.default_rng(0)
BASE, SIZE = 7.0, 6


def turned(x: np.ndarray, place: int) -> np.ndarray:
    """Each pair (i, i + K/2) as a complex number times e^(i m theta)."""
    half = SIZE // 2
    angle = place * BASE ** (-2 * np.arange(half) / SIZE)
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag])


def test_every_pair_is_turned_by_its_angle() -> None:
    x = RNG.normal(size=(2, 3, 5, SIZE)).astype(np.float32)
    places = np.array([[0, 1, 2, 3, 4], [0, 1, 0, 1, 40]])
    found = rotated(jnp.asarray(x), rotation(jnp.asarray(places), SIZE, BASE))
    want = [
        [[turned(x[b, h, m], places[b, m]) for m in range(5)] for h in range(3)] for b in range(2)
    ]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_products_know_the_distance_alone() -> None:
    q, k = (jnp.asarray(RNG.normal(size=(1, 1, 1, SIZE)), jnp.float32) for _ in range(2))

    def product(m: int, n: int) -> float:
        tables = (rotation(jnp.array([[place]]), SIZE, BASE) for place in (m, n))
        left, right = (rotated(x, table) for x, table in zip((q, k), tables, strict=True))
        return float((left * right).sum())

    assert product(5, 2) == pytest.approx(product(23, 20), abs=1e-5)
    assert product(5, 2) != pytest.approx(product(2, 5), abs=1e-3)


def test_angles_of_late_places_are_exact_to_float32() -> None:
    """The largest position of the long models, at the fastest and the slowest pair."""
    table = np.asarray(rotation(jnp.array([[8191]]), 64, 160_000.0))[:, 0, 0, 0]
    angle = 8191 * 160_000.0 ** (-2 * np.arange(32) / 64)
    np.testing.assert_allclose(table, [np.cos(angle), np.sin(angle)], atol=1e-3)


def test_rotation_in_bfloat16_is_rounded_once() -> None:
    x = jnp.asarray(RNG.normal(size=(1, 1, 5, SIZE)), jnp.bfloat16)
    table = rotation(jnp.arange(5)[None], SIZE, BASE)
    found = rotated(x, table)
    assert found.dtype == jnp.bfloat16
    want = rotated(x.astype(jnp.float32), table).astype(jnp.bfloat16)
    np.testing.assert_array_equal(found.astype(jnp.float32), want.astype(jnp.float32))


def grouped(heads: int, groups: int) -> GroupedQueryAttention:
    init = nn.initializers.normal(1.0)
    return GroupedQueryAttention(12, heads, 4, 0.0, "textbook", "float32", init, BASE, True, groups)


def test_a_group_is_heads_with_the_same_key_and_value() -> None:
    """Plain attention with the keys and values written out has the same output."""
    x = jnp.asarray(RNG.normal(size=(2, 5, 12)), jnp.float32)
    still = jnp.stack([jnp.ones((2, 1, 5, 2)), jnp.zeros((2, 1, 5, 2))])
    shared = {"mask": jnp.ones((2, 1, 1, 5), bool), rotation_key(BASE): still}
    module = grouped(6, 2)
    (found, trace), variables = module.init_with_output(jax.random.key(0), x, shared, None, True)
    assert trace["k"].shape == (2, 6, 5, 4)
    params: Any = variables["params"]
    assert params["key"]["kernel"].shape == (12, 2, 4)
    repeated = {
        name: jax.tree.map(lambda a: jnp.repeat(a, 3, axis=a.ndim - 2), params[name])
        for name in ("key", "value")
    }
    flat = {
        "query": jax.tree.map(lambda a: a.reshape(*a.shape[:-3], 6, 4), params["query"]),
        "output": {**params["output"], "kernel": params["output"]["kernel"].reshape(6, 4, 12)},
    }
    plain = SelfAttention(12, 6, 4, 0.0, "textbook", "float32", nn.initializers.normal())
    want, _ = plain.apply({"params": {**repeated, **flat}}, x, shared, None, True)
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_without_groups_the_bias_of_the_output_remains() -> None:
    x, shared = jnp.ones((2, 5, 12)), {"mask": jnp.ones((2, 1, 1, 5), bool)}
    variables = grouped(0, 0).init(jax.random.key(0), x, shared, None, True)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"output": {"bias": (12,)}}
