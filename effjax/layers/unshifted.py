"""Softmax without its maximum: exp(s) V / sum exp(s).

A softmax takes the largest score of a row off all of them, so that no exponential overflows. On a
CPU that is a pass over all scores and one more array of them, and scores are what the time of
attention goes into. But scores are seldom large. So it is left out, and whether that was right is
seen in the sums, which are there anyway: if one is out of bounds, all is computed again with it.
"""

import math

import jax
import jax.numpy as jnp

from effjax.layers.softmax import shifted_attention, wide_einsum
from effjax.types import Array, Bool, Float

SUMS = (1e-20, 1e33)
"""Between which nothing was lost of a sum: terms that were clipped, to e^-87, are beyond the
precision of the first, and the second leaves room for the product with values up to 10^5.
"""

CLIPPED = (-87.0, 88.0)
"""What the exponential of is a normal float32."""

HEADS = 6
"""So many at a time, for their scores to stay in cache."""

TERMS = {"float32": 8, "bfloat16": 5}
"""Of the series of exp: on [-ln(2) / 2, ln(2) / 2] what follows is below 6e-9 and 5e-5 of it."""

SERIES = tuple(1 / math.factorial(term) for term in range(max(TERMS.values())))

MANTISSA = 23
"""Bits of a float32."""

WHOLE = 1.5 * 2**MANTISSA
"""What is added to it is in the last bits of the sum, as a whole number, without a conversion."""

HALF = 0x8000
"""Of the last bit of a bfloat16, in those of a float32."""

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
    return jax.lax.platform_dependent(*arrays, cpu=_in_groups, default=shifted_attention)


unshifted_attention.defvjp(
    lambda *arrays: jax.vjp(shifted_attention, *arrays),
    lambda pullback, dcontext: pullback(dcontext),
)


def _in_groups(q: Array, k: Array, v: Array, mask: Array, bias: Array | None) -> Array:
    contexts = []
    for first in range(0, q.shape[1], HEADS):
        heads = slice(first, first + HEADS)
        some_bias = None if bias is None else bias[:, heads]
        contexts.append(_checked(q[:, heads], k[:, heads], v[:, heads], mask, some_bias))
    return jnp.concatenate(contexts, axis=1)


def _checked(q: Array, k: Array, v: Array, mask: Array, bias: Array | None) -> Array:
    """Without the maximum, or with it if something was lost.

    The heads of all rows are one batch, which XLA cuts in equal parts for the cores; it would cut
    five rows in three and two. Both ways read the same arrays, which the barrier is for: without
    it XLA lays them out once more, in the shape that late division has them in.
    """
    rows, heads = q.shape[:2]

    def apart(x: Array) -> Array:
        return x.reshape(rows, heads, *x.shape[1:])

    def shifted(q_BLK: Array, k_BMK: Array, v_BMK: Array, mask: Array, bias: Array | None) -> Array:
        return shifted_attention(apart(q_BLK), apart(k_BMK), apart(v_BMK), mask, bias)

    together = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    q_BLK, k_BMK, v_BMK = jax.lax.optimization_barrier(tuple(together))
    arrays = q_BLK, k_BMK, v_BMK, mask, bias
    context_BLK, total_BL1 = _unshifted(rows, heads, *arrays)
    low, high = SUMS
    nothing_lost = (total_BL1 == 0) | ((low < total_BL1) & (total_BL1 < high))
    return jax.lax.cond(
        nothing_lost.all(),
        lambda context, *_: context,
        lambda _, *arrays: shifted(*arrays),
        *(apart(context_BLK), *arrays),
    )


def _unshifted(
    rows: int,
    heads: int,
    q_BLK: Float[Array, "BH L K"],
    k_BMK: Float[Array, "BH M K"],
    v_BMK: Float[Array, "BH M K"],
    mask: Bool[Array, "B 1 #L M"],
    bias: Float[Array, "1 H L M"] | None,
) -> tuple[Float[Array, "BH L K"], Float[Array, "BH L 1"]]:
    """The context and the sums, which are 0 only where a query may attend to nothing."""

    def each_head(x: Array) -> Array:
        return jnp.broadcast_to(x, (rows, heads, *x.shape[2:])).reshape(-1, *x.shape[2:])

    scores_BLM = wide_einsum("blk,bmk->blm", q_BLK, k_BMK) / jnp.sqrt(q_BLK.shape[-1])
    scores_BLM = scores_BLM if bias is None else scores_BLM + each_head(bias)
    e_BLM = exponentials(scores_BLM, each_head(mask), v_BMK.dtype)
    total_BL1 = e_BLM.astype(jnp.float32).sum(-1, keepdims=True)
    context_BLK = wide_einsum("blm,bmk->blk", e_BLM, v_BMK)
    context_BLK = context_BLK / jnp.where(total_BL1 == 0, 1, total_BL1)
    return context_BLK.astype(v_BMK.dtype), total_BL1


def exponentials(
    scores: Float[Array, "*B"], mask: Bool[Array, "*#B"], dtype: jnp.dtype
) -> Float[Array, "*B"]:
    """exp(s) in float32 or bfloat16, and 0 where it is masked, as 2^n exp(r) with s = n ln(2) + r
    and the nearest whole number n. Beyond `CLIPPED` it is that of the ends; without derivatives.

    In operations that XLA puts into one loop with those before; of its own exp it makes another.
    """
    s = jnp.clip(scores, *CLIPPED)
    n = jnp.round(s / math.log(2))
    r = s - n * LN2[0] - n * LN2[1]
    series = jnp.full_like(r, 0)
    for coefficient in reversed(SERIES[: TERMS[dtype.name]]):
        series = series * r + coefficient
    exponent = jax.lax.bitcast_convert_type(n + WHOLE, jnp.uint32) << MANTISSA
    bits = jax.lax.bitcast_convert_type(series, jnp.uint32) + exponent
    bits = jnp.where(mask, bits, 0)
    if dtype == jnp.float32:
        return jax.lax.bitcast_convert_type(bits, jnp.float32)
    upper = ((bits + HALF) >> 16).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
