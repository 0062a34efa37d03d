"""Local attention in a band: what full scores under a mask give, without ever having them."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from effjax.layers.attention import SelfAttention
from effjax.layers.local import (
    LocalAttention,
    full_mask,
    has_band,
    local_key,
    local_mask,
)

HIDDEN, HEADS, SIZE = 12, 3, 4
EDGES = [
    *((1, 8), (5, 44)),
    *(
        pytest.param(*edge, marks=pytest.mark.slow)
        for edge in ((1, 9), (3, 24), (3, 25), (3, 26), (3, 27))
    ),
]


def attention(reach: int, dtype: str = "float32", dropout: float = 0.0) -> LocalAttention:
    init = nn.initializers.normal(0.5)
    return LocalAttention(HIDDEN, HEADS, SIZE, dropout, "late-division", dtype, init, reach)


def plain(dtype: str = "float32") -> SelfAttention:
    init = nn.initializers.normal(0.5)
    return SelfAttention(HIDDEN, HEADS, SIZE, 0.0, "late-division", dtype, init)


def rows(length: int, packed: bool) -> tuple[Any, Any]:
    """Where tokens are, and segments: of a full and a ragged row, or of rows of several examples,
    with padding behind.
    """
    token = np.arange(length) < np.array([length, max(1, length - 3)])[:, None]
    if not packed:
        return jnp.asarray(token), None
    cuts = np.array([[length // 3, length // 2], [1, 2]])
    place = np.arange(length)
    segment = 1 + (place >= cuts[:, :1]).astype(int) + (place >= cuts[:, 1:])
    return jnp.asarray(token), jnp.asarray(np.where(token, segment, 0))


@pytest.mark.parametrize(
    "packed", [pytest.param(False, marks=pytest.mark.slow), True], ids=["padded", "packed"]
)
@pytest.mark.parametrize(("reach", "length"), EDGES)
def test_a_band_gives_what_full_scores_give(reach: int, length: int, packed: bool) -> None:
    """Outputs of tokens, and every gradient, at lengths around the edges of blocks."""
    token, segment = rows(length, packed)
    assert has_band(length, reach)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, length, HIDDEN)), jnp.float32)
    band = {local_key(reach): local_mask(token, segment, reach)}
    full = {"mask": full_mask(token, segment, reach)}
    variables = plain().init(jax.random.key(0), x, full, None, True)

    def loss(variables: Any, x: jax.Array, module: SelfAttention, shared: Any) -> Any:
        y = module.apply(variables, x, shared, None, True)[0]
        return jnp.where(token[..., None], jnp.sin(y), 0).sum() / y.size, y

    found, ours = jax.grad(loss, (0, 1), has_aux=True)(variables, x, attention(reach), band)
    want, theirs = jax.grad(loss, (0, 1), has_aux=True)(variables, x, plain(), full)
    np.testing.assert_allclose(ours[token], theirs[token], atol=1e-5)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("reach", "length"), [(1, 3), (3, 11), (5, 7), (0, 3)])
def test_short_inputs_take_full_scores(reach: int, length: int) -> None:
    token, segment = rows(length, packed=True)
    mask = local_mask(token, segment, reach)
    assert mask.shape == (2, 1, length, length)
    near = np.abs(np.arange(length)[:, None] - np.arange(length)) <= reach
    want = near & (segment[:, :, None] == segment[:, None]) & token[:, None]
    np.testing.assert_array_equal(mask[:, 0], want)


def test_a_reach_of_nothing_is_a_token_alone() -> None:
    token, _ = rows(9, packed=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, HIDDEN)), jnp.float32)
    shared = {local_key(0): local_mask(token, None, 0)}
    (_, trace), variables = attention(0).init_with_output(jax.random.key(0), x, shared, None, True)
    found = attention(0).apply(variables, trace, shared, True, method=LocalAttention.attend)
    ours, want = (np.asarray(x).swapaxes(1, 2)[token] for x in (found, trace["v"]))
    np.testing.assert_allclose(ours, want, atol=1e-6)


def test_in_bfloat16_the_band_is_near_full_scores_in_float32() -> None:
    token, _ = rows(24, packed=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, HIDDEN)), jnp.float32)
    full = {"mask": full_mask(token, None, 3)}
    variables = plain().init(jax.random.key(0), x, full, None, True)
    band = {local_key(3): local_mask(token, None, 3)}

    def loss(x: jax.Array, module: SelfAttention, shared: Any) -> Any:
        y = module.apply(variables, x, shared, None, True)[0].astype(jnp.float32)
        return jnp.where(token[..., None], jnp.square(y), 0).sum()

    found = jax.grad(loss)(x, attention(3, "bfloat16"), band)
    want = jax.grad(loss)(x, plain(), full)
    assert jnp.linalg.norm(found - want) / jnp.linalg.norm(want) < 2e-2


def test_nothing_in_the_program_has_two_axes_of_length_l() -> None:
    """Forward and backward, compiled, the mask too; and the work grows with L."""
    flops = {}
    for length in (52, 104):
        token, segment = rows(length, packed=True)
        x = jnp.ones((2, length, HIDDEN))
        shared = {local_key(4): local_mask(token, segment, 4)}
        variables = attention(4).init(jax.random.key(0), x, shared, None, True)

        def loss(variables: Any, x: jax.Array, token: Any, segment: Any) -> Any:
            shared = {local_key(4): local_mask(token, segment, 4)}
            return jnp.sin(attention(4).apply(variables, x, shared, None, True)[0]).sum()

        step = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x, token, segment).compile()
        text, analysis = step.as_text(), step.cost_analysis()
        assert text is not None and analysis is not None
        assert re.search(rf"[\[,]{length}[\],]", text)
        assert not re.search(rf"[\[,]{length},{length}[\],]", text)
        flops[length] = analysis["flops"]
    assert flops[104] / flops[52] == pytest.approx(2, rel=0.1)


def test_dropout_of_a_band_keeps_the_expectation() -> None:
    token, _ = rows(16, packed=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, HIDDEN)), jnp.float32)
    shared, module = {local_key(2): local_mask(token, None, 2)}, attention(2, dropout=0.5)
    variables = module.init(jax.random.key(0), x, shared, None, True)
    want = module.apply(variables, x, shared, None, True)[0]

    @jax.jit
    @jax.vmap
    def drawn(key: jax.Array) -> jax.Array:
        return module.apply(variables, x, shared, None, False, rngs={"dropout": key})[0]

    found = drawn(jax.random.split(jax.random.key(1), 4000))
    error = np.abs(found.mean(0) - want)[token] / (np.asarray(found.std(0))[token] + 1e-6)
    assert found.std(0)[token].max() > 0.1
    assert error.max() < 5 / np.sqrt(4000)
