"""One vector per example out of those of its tokens."""

import jax.numpy as jnp

from effjax.types import Array, Bool, Float, Int


def first_of_tokens(
    x_BLD: Float[Array, "B L D"], starts: Int[Array, "..."] | None
) -> Float[Array, "examples D"]:
    """The vector of each example's first token; `starts` as in `mean_of_tokens`."""
    if starts is None:
        return x_BLD[:, 0]
    return x_BLD.reshape(-1, x_BLD.shape[-1])[starts.ravel()]


def mean_of_tokens(
    x_BLD: Float[Array, "B L D"],
    token_BL: Bool[Array, "B L"],
    segment_BL: Int[Array, "B L"] | None,
    starts: Int[Array, "..."] | None,
) -> Float[Array, "examples D"]:
    """The mean over each example's tokens, in float32; zeros for an example without any.

    Args:
        token_BL: where there is a token, and not padding.
        segment_BL: of packed rows, as is `starts`: where in all rows laid end to end each example
            begins.
    """
    if segment_BL is None or starts is None:
        weight_BL = token_BL.astype(jnp.float32)
        return weighted_mean(x_BLD, weight_BL[:, None])[:, 0].astype(x_BLD.dtype)
    row_N, place_N = jnp.divmod(starts.ravel(), token_BL.shape[1])
    own_NL = segment_BL[row_N] == segment_BL[row_N, place_N][:, None]
    of_row_NB = row_N[:, None] == jnp.arange(len(segment_BL))
    weight_NBL = (of_row_NB[..., None] & own_NL[:, None]).astype(jnp.float32)
    flat_1TD = x_BLD.reshape(1, -1, x_BLD.shape[-1])
    return weighted_mean(flat_1TD, weight_NBL.reshape(1, len(row_N), -1))[0].astype(x_BLD.dtype)


def weighted_mean(
    x_BLD: Float[Array, "B L D"], weight_BNL: Float[Array, "B N L"]
) -> Float[Array, "B N D"]:
    """sum_l w_nl x_l / sum_l w_nl, float32."""
    total_BND = jnp.einsum("bnl,bld->bnd", weight_BNL, x_BLD.astype(jnp.float32))
    return total_BND / jnp.maximum(weight_BNL.sum(-1, keepdims=True), 1)
