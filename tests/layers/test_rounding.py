"""Rounding to bfloat16: bit for bit that of `astype`, on a CPU in integers."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from effjax.layers.feedforward import gelu
from effjax.layers.linear import product, product_with_words
from effjax.layers.rounding import rounded

LOWER = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
"""Of what is rounded off: nothing, a little, and what is next to a half or is one."""


def test_every_number_is_rounded_as_numpy_rounds_it() -> None:
    """Every bfloat16, with what may follow: zeros, subnormal numbers, ties and infinities too."""
    bits = (np.arange(2**16, dtype=np.uint32)[:, None] << 16 | LOWER).ravel()
    x = bits.view(np.float32)
    found, nan = np.asarray(jax.jit(rounded)(x)), np.isnan(x)
    expected = x[~nan].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint16), expected.view(np.uint16))


def test_its_gradient_is_that_of_a_conversion() -> None:
    x = jax.random.normal(jax.random.key(0), (8,))
    g = jax.random.normal(jax.random.key(1), (8,), jnp.bfloat16)
    (found,) = jax.vjp(rounded, x)[1](g)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, g.astype(jnp.float32))


ROUNDED = {
    "gelu": gelu,
    "product": lambda x: product(x, jnp.ones((4, 4)), 1, "bfloat16", jnp.ones(4)),
    "words": lambda x: product_with_words(x, jnp.ones((4, 4)), "bfloat16"),
}


@pytest.mark.parametrize("name", sorted(ROUNDED))
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_cpu_rounds_what_it_computes_in_integers(name: str, platform: str) -> None:
    x = jax.ShapeDtypeStruct((4, 4), jnp.bfloat16)
    text = jax.jit(ROUNDED[name]).trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert ("shift_right_logical" in text) == (platform == "cpu")
