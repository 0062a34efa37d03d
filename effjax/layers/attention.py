"""Multi-head self-attention, as the textbook has it, as a CPU likes it and as a GPU likes it."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import dropout_mask
from effjax.layers.linear import Linear, exchanged, turned
from effjax.types import Array, Bool, Float, Shared

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


ATTENTION = {
    "textbook": textbook_attention,
    "late-division": late_division_attention,
    "fused": late_division_attention,  # of scores that are in memory all the same, for dropout
}


PROJECTIONS = ("query", "key", "value")


class SelfAttention(nn.Module):
    """Concat_h(gate_h * softmax(Q_h K_h^T / sqrt(K) + mask) V_h) W_O + b_O.

    What another attention does differently it says in `compare`, or in its parts `project` and
    `scores`, in `attend`, `fused` or `linear`. All of them get what the layers of an encoder share;
    `shared["mask"]` [B, 1, #L, M] says who may attend to whom. The output is `hidden` wide, the
    input as wide as it comes.

    Source: arXiv 1706.03762, section 3.2; the gate per head is arXiv 1905.10650, section 2.3.
    """

    hidden: int
    heads: int
    head_size: int
    dropout: float
    kernel: str
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        shared: Shared,
        gate_H: Float[Array, "H"] | None,
        deterministic: bool,
    ) -> tuple[Float[Array, "B L Y"], dict[str, Float[Array, "..."]]]:
        """Returns the output and, unless the layer has no heads, the trace: q, k, v and scores."""
        output = self.linear("output", (*self.head_axes, self.head_size), (self.hidden,))
        if not self.heads:
            return output(None, batch=x_BLD.shape[:2]), {}
        trace = self.compare(x_BLD, shared, deterministic)
        context_BHLK = self.attend(trace, shared, deterministic)
        if gate_H is not None:
            context_BHLK = context_BHLK * gate_H[:, None, None].astype(context_BHLK.dtype)
        shape = (*x_BLD.shape[:2], *self.head_axes, self.head_size)
        return output(exchanged(context_BHLK).reshape(shape)), trace

    @property
    def head_axes(self) -> tuple[int, ...]:
        """The axes that heads have in the kernels."""
        return (self.heads,)

    def compare(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, deterministic: bool
    ) -> dict[str, Array]:
        """The trace: q, k, v and the scores of every key for every query."""
        del deterministic
        q_BHLK, k_BHMK, v_BHMK = self.project(x_BLD, shared)
        scores_BHLM = self.scores(q_BHLK, k_BHMK, shared)
        return {"q": q_BHLK, "k": k_BHMK, "v": v_BHMK, "scores": scores_BHLM}

    def project(self, x_BLD: Float[Array, "B L D"], shared: Shared) -> tuple[Array, Array, Array]:
        """Queries, keys and values."""
        q_BHLK, k_BHMK, v_BHMK = (self.projected(name, x_BLD) for name in PROJECTIONS)
        return q_BHLK, k_BHMK, v_BHMK

    def projected(self, name: str, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B H L K"]:
        """One of the three, heads first: each head's product is contiguous."""
        y = self.linear(name, x_BLD.shape[-1:], (*self.head_axes, self.head_size))(x_BLD)
        return exchanged(y.reshape(*x_BLD.shape[:2], self.heads, self.head_size))

    def scores(
        self, q_BHLK: Float[Array, "B H L K"], k_BHMK: Float[Array, "B H M K"], shared: Shared
    ) -> Float[Array, "B H L M"]:
        """q k^T / sqrt(K)."""
        return dot_products(q_BHLK, k_BHMK) / jnp.sqrt(self.head_size)

    def attend(
        self, trace: Mapping[str, Array], shared: Shared, deterministic: bool
    ) -> Float[Array, "B H L K"]:
        """softmax(scores + mask) V, or what dropout leaves of it."""
        drop_BHLM, scores_BHLM = None, trace["scores"]
        if not deterministic and self.dropout:
            drop_BHLM = dropout_mask(self.make_rng("dropout"), self.dropout, scores_BHLM.shape)
        if self.kernel == "fused" and drop_BHLM is None:
            return self.fused(trace, shared)
        masked_BHLM = jnp.where(shared["mask"], scores_BHLM, MASKED)
        return ATTENTION[self.kernel](masked_BHLM, trace["v"], drop_BHLM)

    def fused(self, trace: Mapping[str, Array], shared: Shared) -> Float[Array, "B H L K"]:
        """The same from queries and keys, in one kernel."""
        return fused_attention(trace["q"], trace["k"], trace["v"], shared["mask"])

    def linear(
        self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> Callable[..., Array]:
        """One of the products of this layer."""
        return Linear(inputs, outputs, self.dtype, kernel_init=self.kernel_init, name=name)


class FusedSelfAttention(SelfAttention):
    """The same with queries, keys and values as one product, "qkv"."""

    def project(self, x_BLD: Float[Array, "B L D"], shared: Shared) -> tuple[Array, Array, Array]:
        del shared
        qkv_BLSHK = self.linear("qkv", (self.hidden,), (3, self.heads, self.head_size))(x_BLD)
        q_BHLK, k_BHMK, v_BHMK = map(exchanged, jnp.moveaxis(qkv_BLSHK, 2, 0))
        return q_BHLK, k_BHMK, v_BHMK
