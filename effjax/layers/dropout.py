"""Dropout from 8-bit random numbers."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.types import Array, Float, UInt8, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Of Threefry-2x32, in bits, by round."""


def dropout_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """1 / keep where kept and 0 elsewhere; rate and keep are rounded to multiples of 1/256.

    Source: JMLR 15 (2014) 1929-1958, inverted. Deviation: a rate of 0.1 acts as 26/256 = 0.1016;
    the expectation is exact."""
    dropped = round(rate * 256)
    kept = random_bytes(key, shape) >= jnp.uint8(dropped)
    return jnp.where(kept, 256 / (256 - dropped), 0.0)


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> UInt8[Array, "..."]:
    """Uniform bytes, eight of each run of threefry. Every place has its own count, so that devices
    which share an array draw their parts of it alone.

    `jax.random.bits` draws a whole word for each byte, from a run for each word, whose rounds it
    keeps apart on a CPU, with the whole array read and written in between.
    """
    counts_shape = (*shape[:-1], -(-shape[-1] // 8))
    count = jnp.uint32(0)
    for axis, size in enumerate(counts_shape):
        place = jax.lax.broadcasted_iota(jnp.uint32, counts_shape, axis)
        count = count * jnp.uint32(size) + place
    words = jnp.concatenate(threefry(jax.random.key_data(key)[:2], count), axis=-1)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*shape[:-1], -1)[..., : shape[-1]]


def threefry(
    key: UInt32[Array, "2"], count: UInt32[Array, "*B"]
) -> tuple[UInt32[Array, "*B"], UInt32[Array, "*B"]]:
    """Two random words for each count.

    Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), section 3.3:
    Threefry-2x32 with 20 rounds, of the counts (count, 0).
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = count + keys[0], jnp.broadcast_to(keys[1], count.shape)
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << turn) | (y >> (32 - turn)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


class Dropout(nn.Module):
    """Multiplies by a `dropout_mask` from the stream "dropout", or by nothing."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], deterministic: bool) -> Float[Array, "..."]:
        if deterministic or self.rate == 0:
            return x
        return x * dropout_mask(self.make_rng("dropout"), self.rate, x.shape).astype(x.dtype)
