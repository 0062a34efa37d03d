"""Attention that takes no maximum off: what late division gives, where and only where it may."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from effjax.layers import unshifted
from effjax.layers.attention import SelfAttention
from effjax.layers.softmax import shifted_attention
from effjax.layers.unshifted import CLIPPED, exponentials, unshifted_attention
from effjax.types import Array

ROWS, HEADS, LENGTH, SIZE = 2, 8, 12, 4
SHAPE = (ROWS, HEADS, LENGTH, SIZE)


def arrays(dtype: str = "float32", scale: float = 1.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, of that size, keys and values; heads are more than one group of them."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(3))
    return q * jnp.asarray(scale, dtype), k, v


def masks() -> dict[str, jax.Array]:
    """One of padding behind, and one of rows of three segments, the last of them padding."""
    token = np.arange(LENGTH) < np.array([LENGTH, 7])[:, None]
    segment = np.array([[1] * 5 + [2] * 7, [1] * 3 + [2] * 4 + [0] * 5])
    packed = (segment[:, :, None] == segment[:, None, :]) & token[:, None, :]
    return {"padded": jnp.asarray(token[:, None, None]), "packed": jnp.asarray(packed[:, None])}


def is_query(mask: Array) -> np.ndarray:
    """[B, 1, L, 1] where a query has a key."""
    rows = jnp.broadcast_to(mask, (ROWS, 1, LENGTH, LENGTH))
    return np.asarray(rows.any(-1, keepdims=True))


def by_late_division(found: Array, want: Array) -> list[bool]:
    """Of which groups of heads the bits are those of late division."""
    cuts = [unshifted.HEADS]
    pairs = zip(np.split(found, cuts, axis=1), np.split(want, cuts, axis=1), strict=True)
    return [np.array_equal(ours, theirs) for ours, theirs in pairs]


@pytest.mark.parametrize(("dtype", "error"), [(jnp.float32, 3e-7), (jnp.bfloat16, 2**-8 + 1e-4)])
def test_the_exponentials_are_exp(dtype: jnp.dtype, error: float) -> None:
    dtype, all_of_them = jnp.dtype(dtype), np.array([True])

    def found(scores: np.ndarray, mask: np.ndarray = all_of_them) -> np.ndarray:
        return np.asarray(exponentials(scores.astype(np.float32), mask, dtype), np.float64)

    x = np.linspace(*CLIPPED, 100_001, dtype=np.float32)
    np.testing.assert_allclose(found(x), np.exp(x.astype(np.float64)), rtol=error)
    np.testing.assert_array_equal(found(np.array([-1e30, 1e30])), found(np.array(CLIPPED)))
    np.testing.assert_array_equal(found(np.array([3.0, 0.0]), np.array([False, True])), [0, 1])
    assert np.isnan(found(np.array([np.nan]))).all()


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_it_is_attention(kind: str, biased: bool) -> None:
    """And padding among the queries sends nothing to late division, which the bits would show."""
    (q, k, v), mask = arrays(), masks()[kind]
    rng = np.random.default_rng(1)
    bias = jnp.asarray(rng.normal(size=(1, HEADS, LENGTH, LENGTH)), jnp.float32)
    given = (q, k, v, mask, bias if biased else None)
    found, query = unshifted_attention(*given), is_query(mask)
    want = shifted_attention(*given)
    want = np.where(query, want, 0)
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert by_late_division(found, want) == [False, False]
    assert query.any() and (kind == "padded") == query.all()


def test_in_bfloat16_it_is_as_near_as_late_division() -> None:
    given, mask = arrays("bfloat16"), masks()["padded"]
    q, k, v = (x.astype(jnp.float32) for x in given)
    want = shifted_attention(q, k, v, mask)
    found = unshifted_attention(*given, mask)
    assert found.dtype == jnp.bfloat16
    near, other = (
        float(jnp.linalg.norm(x.astype(jnp.float32) - want) / jnp.linalg.norm(want))
        for x in (found, shifted_attention(*given, mask, None))
    )
    assert near < 1.2 * other < 5e-3


@pytest.mark.parametrize("score", [70.0, -45.0])
def test_what_has_room_needs_no_maximum(score: float) -> None:
    """All scores of a row are shifted alike by a bias, which a softmax does not see."""
    (q, k, v), mask = arrays(), masks()["padded"]
    bias = jnp.full((1, HEADS, LENGTH, LENGTH), score)
    found, want = unshifted_attention(q, k, v, mask, bias), shifted_attention(q, k, v, mask, bias)
    np.testing.assert_allclose(found, want, atol=2e-6)
    assert by_late_division(found, want) == [False, False]


@pytest.mark.parametrize("score", [85.0, 1e4, -60.0, -1e4])
def test_what_has_no_room_is_by_late_division(score: float) -> None:
    """One row of one head is enough for the heads of its group."""
    (q, k, v), mask = arrays(), masks()["padded"]
    bias = jnp.zeros((1, HEADS, LENGTH, LENGTH)).at[0, 1, 2].set(score)
    given = (q, k, v, mask, bias)
    found, want = unshifted_attention(*given), shifted_attention(*given)
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert by_late_division(found, want) == [True, False]


def test_large_scores_and_small_ones_in_one_row() -> None:
    given = (*arrays(scale=100.0), masks()["padded"])
    found, want = unshifted_attention(*given), shifted_attention(*given)
    assert by_late_division(found, want) == [True, True]


def test_nan_stays_nan() -> None:
    q, k, v = arrays()
    found = unshifted_attention(q.at[0, 0, 0, 0].set(jnp.nan), k, v, masks()["padded"])
    assert np.isnan(found[0, 0, 0]).all()


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_gradients_are_those_of_late_division(kind: str) -> None:
    given, mask = arrays(), masks()[kind]
    bias = jnp.ones((1, HEADS, LENGTH, LENGTH))

    def gradients(form) -> tuple[Array, ...]:
        def loss(q: Array, k: Array, v: Array, bias: Array) -> Array:
            return jnp.sin(form(q, k, v, mask, bias)).sum()

        return jax.grad(loss, (0, 1, 2, 3))(*given, bias)

    found, want = gradients(unshifted_attention), gradients(shifted_attention)
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.asarray(ours).any()


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_an_encoder_on_a_cpu_has_it_and_no_other(platform: str) -> None:
    module = SelfAttention(16, 4, 4, 0.1, "late-division", "float32", nn.initializers.normal())
    x, mask = jnp.ones((2, 8, 16)), jnp.ones((2, 1, 1, 8), bool)
    variables = module.init(jax.random.key(0), x, {"mask": mask}, None, True)

    def lowered(deterministic: bool) -> str:
        def run(variables: dict, key: jax.Array) -> jax.Array:
            rngs = {"dropout": key}
            return module.apply(variables, x, {"mask": mask}, None, deterministic, rngs=rngs)[0]

        traced = jax.jit(run).trace(variables, jax.random.key(0))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert ("round_nearest_even" in lowered(True)) == (platform == "cpu")
    assert "round_nearest_even" not in lowered(False)


def test_heads_are_laid_out_once_for_both_ways() -> None:
    """Of the first group, in the shape of late division, there is the context alone."""

    def attend(q: Array, k: Array, v: Array) -> Array:
        heads = q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2)
        return unshifted_attention(*heads, masks()["padded"])

    given = [x.swapaxes(1, 2) for x in arrays()]
    program = jax.jit(attend).lower(*given).compile().as_text() or ""
    main = program[program.index("ENTRY") :]
    apart = f"f32[{ROWS},{unshifted.HEADS},{LENGTH},{SIZE}]"
    made = [line for line in main.splitlines() if f"= {apart}" in line and " fusion(" in line]
    assert len(made) == 1
