"""softmax(Q K^T / sqrt(K)) V as the textbook has it, as a CPU likes it and as a GPU likes it."""

import jax
import jax.numpy as jnp

from effjax.layers.linear import turned
from effjax.types import Array, Bool, Float

MASKED = -1e30
"""Takes the place of masked scores; finite, so that a row of padding alone stays a number."""


def textbook_attention(
    scores_BHLM: Float[Array, "B H L M"],
    v_BHMK: Float[Array, "B H M K"],
    drop_BHLM: Float[Array, "B H L M"] | None,
) -> Float[Array, "B H L K"]:
    """softmax(scores) V. Source: arXiv 1706.03762, equation 1."""
    weights_BHLM = jax.nn.softmax(scores_BHLM, axis=-1)
    if drop_BHLM is not None:
        weights_BHLM = weights_BHLM * drop_BHLM
    return jnp.einsum("bhlm,bhmk->bhlk", weights_BHLM.astype(v_BHMK.dtype), v_BHMK)


@jax.custom_vjp
def late_division_attention(
    scores_BHLM: Float[Array, "B H L M"],
    v_BHMK: Float[Array, "B H M K"],
    drop_BHLM: Float[Array, "B H L M"] | None,
) -> Float[Array, "B H L K"]:
    """(exp(s - max s) V) / sum exp(s - max s): the same, with K divisions per query, not M.

    Its products are computed in V's dtype, those of the backward pass too. That keeps e, its sum t
    and the context c, and has ds = e (dropped(dc V^T) - rowsum(dc * c)) / t.
    """
    return _late_division(scores_BHLM, v_BHMK, drop_BHLM)[0]


def _late_division(scores_BHLM: Array, v_BHMK: Array, drop_BHLM: Array | None) -> tuple:
    e_BHLM = jnp.exp(scores_BHLM - scores_BHLM.max(-1, keepdims=True))
    total_BHL1 = e_BHLM.sum(-1, keepdims=True)
    context_BHLK = wide_einsum(
        "bhlm,bhmk->bhlk", _dropped(e_BHLM, drop_BHLM).astype(v_BHMK.dtype), v_BHMK
    )
    context_BHLK = (context_BHLK / total_BHL1).astype(v_BHMK.dtype)
    return context_BHLK, (e_BHLM, total_BHL1, v_BHMK, drop_BHLM, context_BHLK)


def _late_division_backward(saved: tuple, dcontext_BHLK: Array) -> tuple[Array, Array, None]:
    e_BHLM, total_BHL1, v_BHMK, drop_BHLM, context_BHLK = saved
    dtype, wide_BHLK = v_BHMK.dtype, dcontext_BHLK.astype(jnp.float32)
    mean_BHL1 = (wide_BHLK * context_BHLK).sum(-1, keepdims=True)
    share_BHLK = (wide_BHLK / total_BHL1).astype(dtype)
    kept_BHLM = _dropped(e_BHLM, drop_BHLM).astype(dtype)
    dv_BHMK = across_queries(kept_BHLM, share_BHLK)
    de_BHLM = _dropped(wide_einsum("bhlk,bhmk->bhlm", share_BHLK, v_BHMK), drop_BHLM)
    dscores_BHLM = e_BHLM * (de_BHLM - mean_BHL1 / total_BHL1)
    return dscores_BHLM, dv_BHMK, None


late_division_attention.defvjp(_late_division, _late_division_backward)


def _dropped(e_BHLM: Array, drop_BHLM: Array | None) -> Array:
    return e_BHLM if drop_BHLM is None else e_BHLM * drop_BHLM


@jax.custom_vjp
def dot_products(
    q_BHLK: Float[Array, "B H L K"], k_BHMK: Float[Array, "B H M K"]
) -> Float[Array, "B H L M"]:
    """q k^T, float32; the products of the backward pass are in the dtype of q and k."""
    return wide_einsum("bhlk,bhmk->bhlm", q_BHLK, k_BHMK)


def _dot_products_backward(saved: tuple[Array, Array], dscores_BHLM: Array) -> tuple[Array, Array]:
    q_BHLK, k_BHMK = saved
    low_BHLM = dscores_BHLM.astype(q_BHLK.dtype)
    dq_BHLK = wide_einsum("bhlm,bhmk->bhlk", low_BHLM, k_BHMK)
    dk_BHMK = across_queries(low_BHLM, q_BHLK)
    return dq_BHLK.astype(q_BHLK.dtype), dk_BHMK.astype(k_BHMK.dtype)


dot_products.defvjp(lambda q, k: (dot_products(q, k), (q, k)), _dot_products_backward)


def across_queries(
    w_BHLM: Float[Array, "B H L M"], y_BHLK: Float[Array, "B H L K"]
) -> Float[Array, "B H M K"]:
    """w^T y as (y^T w)^T: a CPU lays out two transposes of L x K numbers, not one of L x M."""
    y_BHKL = turned(y_BHLK)
    return turned(wide_einsum("bhkl,bhlm->bhkm", y_BHKL, w_BHLM).astype(y_BHLK.dtype))


def wide_einsum(equation: str, x: Array, y: Array) -> Array:
    """An einsum that is accumulated, and returned, in float32."""
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def fused_attention(
    q_BHLK: Float[Array, "B H L K"],
    k_BHMK: Float[Array, "B H M K"],
    v_BHMK: Float[Array, "B H M K"],
    mask_B1LM: Bool[Array, "B 1 #L M"],
    bias_1HLM: Float[Array, "1 H L M"] | None = None,
) -> Float[Array, "B H L K"]:
    """softmax(q k^T / sqrt(K) + bias + mask) v. On a GPU it is cuDNN's kernel, which keeps no
    scores and wants bfloat16; elsewhere JAX's own formula. Source: arXiv 2205.14135, algorithm 1.
    """
    q, k, v = (x.swapaxes(1, 2) for x in (q_BHLK, k_BHMK, v_BHMK))
    implementation = "cudnn" if jax.default_backend() == "gpu" else "xla"
    bias = None if bias_1HLM is None else bias_1HLM.astype(q.dtype)
    rows = (*mask_B1LM.shape[:2], q.shape[1], k.shape[1])  # cuDNN broadcasts no row of a mask
    context = jax.nn.dot_product_attention(
        q, k, v, bias=bias, mask=jnp.broadcast_to(mask_B1LM, rows), implementation=implementation
    )
    return context.swapaxes(1, 2)


def shifted_attention(
    q_BHLK: Float[Array, "B H L K"],
    k_BHMK: Float[Array, "B H M K"],
    v_BHMK: Float[Array, "B H M K"],
    mask_B1LM: Bool[Array, "B 1 #L M"],
    bias_1HLM: Float[Array, "1 H L M"] | None = None,
) -> Float[Array, "B H L K"]:
    """softmax(q k^T / sqrt(K) + bias + mask) v, by late division: the maximum is taken off."""
    scores_BHLM = biased(dot_products(q_BHLK, k_BHMK) / jnp.sqrt(q_BHLK.shape[-1]), bias_1HLM)
    return late_division_attention(jnp.where(mask_B1LM, scores_BHLM, MASKED), v_BHMK, None)


def biased(
    scores_BHLM: Float[Array, "B H L M"], bias_1HLM: Float[Array, "1 H L M"] | None
) -> Float[Array, "B H L M"]:
    """The scores with the bias, if there is one."""
    return scores_BHLM if bias_1HLM is None else scores_BHLM + bias_1HLM
