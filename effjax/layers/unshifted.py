"""Softmax without its maximum: exp(s) V / sum exp(s).

A softmax takes the largest score of a row off all of them, so that no exponential overflows. On a
CPU that is a pass over all scores and one more array of them, and scores are what the time of
attention goes into. But scores are seldom large. So it is left out, and whether that was right is
seen in the sums, which are there anyway: if one is out of bounds, all is computed again with it.
"""

import math

import jax
import jax.numpy as jnp

from effjax.layers.rounding import rounded
from effjax.layers.softmax import biased, exact_attention, wide_einsum
from effjax.types import Array, Bool, Float

SUMS = (1e-20, 1e33)
"""Between which a sum says that no part of it was lost: what is clipped below, with each term
e^-87, is beyond the precision of the first, and the second leaves room for values up to 10^5.
"""

CLIPPED = (-87.0, 88.0)
"""What the exponential of is a normal float32."""

HEADS = 6
"""So many at a time, for their scores to stay in cache."""

SERIES = tuple(1 / math.factorial(term) for term in range(8))
"""Of exp: on [-ln(2) / 2, ln(2) / 2] what follows is below 6e-9 of it."""

MANTISSA = 23
"""Bits of a float32."""

WHOLE = 1.5 * 2**MANTISSA
"""What is added to it is in the last bits of the sum, as a whole number, without a conversion."""

LN2 = (0.693359375, math.log(2) - 0.693359375)
"""ln(2) in two parts, so that a multiple of the first, which has 9 bits, is exact."""


@jax.custom_vjp
def unshifted_attention(
    q_BHLK: Float[Array, "B H L K"],
    k_BHMK: Float[Array, "B H M K"],
    v_BHMK: Float[Array, "B H M K"],
    mask_B1LM: Bool[Array, "B 1 #L M"],
    bias_1HLM: Float[Array, "1 H L M"] | None = None,
) -> Float[Array, "B H L K"]:
    """softmax(q k^T / sqrt(K) + bias + mask) v, on a CPU without the maximum where that is exact.

    Elsewhere, and where a gradient is asked for, it is by late division. Without the maximum, the
    sum that divides is in bfloat16 that of the rounded exponentials, as the product with v is, and
    a query that may attend to nothing, which is padding, has zeros.
    """
    arrays = q_BHLK, k_BHMK, v_BHMK, mask_B1LM, bias_1HLM
    return jax.lax.platform_dependent(*arrays, cpu=_in_groups, default=exact_attention)


unshifted_attention.defvjp(
    lambda *arrays: jax.vjp(exact_attention, *arrays), lambda pullback, dcontext: pullback(dcontext)
)


def _in_groups(q: Array, k: Array, v: Array, mask: Array, bias: Array | None) -> Array:
    contexts = []
    for first in range(0, q.shape[1], HEADS):
        heads = slice(first, first + HEADS)
        some_bias = None if bias is None else bias[:, heads]
        contexts.append(_checked(q[:, heads], k[:, heads], v[:, heads], mask, some_bias))
    return jnp.concatenate(contexts, axis=1)


def _checked(q: Array, k: Array, v: Array, mask: Array, bias: Array | None) -> Array:
    context_BHLK, total_BHL1 = _unshifted(q, k, v, mask, bias)
    low, high = SUMS
    nothing_lost = (total_BHL1 == 0) | ((low < total_BHL1) & (total_BHL1 < high))
    return jax.lax.cond(
        nothing_lost.all(),
        lambda context, *_: context,
        lambda _, *arrays: exact_attention(*arrays),
        *(context_BHLK, q, k, v, mask, bias),
    )


def _unshifted(
    q: Array, k: Array, v: Array, mask: Array, bias: Array | None
) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L 1"]]:
    """The context and the sums, which are 0 only where a query may attend to nothing."""
    scores_BHLM = biased(wide_einsum("bhlk,bhmk->bhlm", q, k) / jnp.sqrt(q.shape[-1]), bias)
    e_BHLM = jnp.where(mask, exponential(scores_BHLM), 0)
    e_BHLM = rounded(e_BHLM) if v.dtype == jnp.bfloat16 else e_BHLM
    total_BHL1 = e_BHLM.astype(jnp.float32).sum(-1, keepdims=True)
    context_BHLK = wide_einsum("bhlm,bhmk->bhlk", e_BHLM, v)
    divisor_BHL1 = jnp.where(total_BHL1 == 0, 1, total_BHL1)
    return (context_BHLK / divisor_BHL1).astype(v.dtype), total_BHL1


def exponential(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """exp(x) for x in `CLIPPED`, as 2^n exp(r) with x = n ln(2) + r and the nearest whole number n.

    In operations that XLA puts into one loop with those before and after; of its own exp it makes
    a loop apart. Without derivatives.
    """
    x = jnp.clip(x, *CLIPPED)
    n = jnp.round(x / math.log(2))
    r = x - n * LN2[0] - n * LN2[1]
    series = jnp.full_like(r, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series = series * r + coefficient
    exponent = jax.lax.bitcast_convert_type(n + WHOLE, jnp.int32) << MANTISSA
    bits = jax.lax.bitcast_convert_type(series, jnp.int32) + exponent
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
