"""Dropout from 8-bit random numbers, four to a random word."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.types import Array, Float, UInt8


def dropout_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """1 / keep where kept and 0 elsewhere; rate and keep are rounded to multiples of 1/256.

    Source: JMLR 15 (2014) 1929-1958, inverted. Deviation: a rate of 0.1 acts as 26/256 = 0.1016;
    the expectation is exact."""
    dropped = round(rate * 256)
    kept = random_bytes(key, shape) >= jnp.uint8(dropped)
    return jnp.where(kept, 256 / (256 - dropped), 0.0)


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> UInt8[Array, "..."]:
    """Uniform bytes; `jax.random.bits` would draw a whole word for each."""
    words = jax.random.bits(key, (*shape[:-1], -(-shape[-1] // 4)), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*shape[:-1], -1)[..., : shape[-1]]


class Dropout(nn.Module):
    """Multiplies by a `dropout_mask` from the stream "dropout", or by nothing."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], deterministic: bool) -> Float[Array, "..."]:
        if deterministic or self.rate == 0:
            return x
        return x * dropout_mask(self.make_rng("dropout"), self.rate, x.shape).astype(x.dtype)
