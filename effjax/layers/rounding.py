"""Rounding to bfloat16, as a CPU does it fast."""

import jax
import jax.numpy as jnp

from effjax.types import Array, Float

NAN = 0x7FC0
"""Bits of bfloat16."""


@jax.custom_jvp
def rounded(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x, of float32, in bfloat16: the nearest number, of two the even one, as `astype` has it.

    A CPU does it in integers: XLA's own conversion makes the loops slower that end in it, those of
    biases and of GELU.
    """
    return jax.lax.platform_dependent(x, cpu=_in_integers, default=_converted)


def _converted(x: Array) -> Array:
    return x.astype(jnp.bfloat16)


def _in_integers(x: Array) -> Array:
    """Half of what the lower 16 bits can hold is added, less one where that makes it even."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    upper = jnp.where(jnp.isnan(x), NAN, upper).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(upper, jnp.bfloat16)


@rounded.defjvp
def _derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return rounded(*primals), _converted(*tangents)
