"""Multi-head self-attention."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import dropout_mask
from effjax.layers.linear import Linear, exchanged
from effjax.layers.softmax import (
    MASKED,
    biased,
    dot_products,
    fused_attention,
    late_division_attention,
    textbook_attention,
)
from effjax.layers.unshifted import unshifted_attention
from effjax.types import Array, Float, Shared

FROM_SCORES = {
    "textbook": textbook_attention,
    "late-division": late_division_attention,
    "fused": late_division_attention,
}
"""What a kernel makes of scores that are in memory: for dropout, or because q and k alone do not
say them.
"""

FROM_PRODUCTS = {"late-division": unshifted_attention, "fused": fused_attention}
"""What a kernel makes of q and k. It has scores of its own; those of the trace are computed beside
them where somebody reads those.
"""

PROJECTIONS = ("query", "key", "value")


class SelfAttention(nn.Module):
    """Concat_h(gate_h * softmax(Q_h K_h^T / sqrt(K) + mask) V_h) W_O + b_O.

    What another attention does differently it says in `compare`, or in its parts `project` and
    `scores`, in `score_bias`, `attend` or `linear`. All of them get what the layers of an encoder
    share; `shared["mask"]` [B, 1, #L, M] says who may attend to whom. The output is `hidden` wide,
    the input as wide as it comes.

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
        """q k^T / sqrt(K), with the bias."""
        return biased(
            dot_products(q_BHLK, k_BHMK) / jnp.sqrt(self.head_size), self.score_bias(shared)
        )

    def score_bias(self, shared: Shared) -> Float[Array, "1 H L M"] | None:
        """What is added to the scores."""
        del shared
        return None

    def attend(
        self, trace: Mapping[str, Array], shared: Shared, deterministic: bool
    ) -> Float[Array, "B H L K"]:
        """softmax(scores + mask) V, or what dropout leaves of it."""
        drop_BHLM = self.drop(trace["scores"].shape, deterministic)
        if drop_BHLM is not None or self.kernel not in FROM_PRODUCTS:
            return self.weigh(trace, shared, drop_BHLM)
        q_BHLK, k_BHMK, v_BHMK = (trace[name] for name in "qkv")
        attention, bias_1HLM = FROM_PRODUCTS[self.kernel], self.score_bias(shared)
        return attention(q_BHLK, k_BHMK, v_BHMK, shared["mask"], bias_1HLM)

    def weigh(
        self, trace: Mapping[str, Array], shared: Shared, drop_BHLM: Float[Array, "B H L M"] | None
    ) -> Float[Array, "B H L K"]:
        """The same from the scores of the trace."""
        masked_BHLM = jnp.where(shared["mask"], trace["scores"], MASKED)
        return FROM_SCORES[self.kernel](masked_BHLM, trace["v"], drop_BHLM)

    def drop(self, shape: tuple[int, ...], deterministic: bool) -> Float[Array, "B H L M"] | None:
        """What dropout multiplies the weights by, None where it leaves them."""
        if deterministic or not self.dropout:
            return None
        return dropout_mask(self.make_rng("dropout"), self.dropout, shape)

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
