"""Convolutions over the tokens of a row. They end where it does: beyond the ends, and in packed
rows beyond those of a token's own segment, they read zeros. Padding is a token like any other.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.attention import SelfAttention
from effjax.layers.linear import Linear, exchanged
from effjax.types import Array, Bool, Float, Int, Shaped, Shared


def neighbours(
    x: Shaped[Array, "B L *each"], width: int, same_BLW: Bool[Array, "B L W"] | None = None
) -> Sequence[Shaped[Array, "B L *each"]]:
    """x at the tokens l - W // 2, ..., l + W // 2 around each token l, zero beyond the ends.

    Args:
        width: W, odd.
        same_BLW: in packed rows, which of them are of the token's own segment; others are zeros.
    """
    reach, length, each = width // 2, x.shape[1], [(0, 0)] * (x.ndim - 2)
    padded = jnp.pad(x, [(0, 0), (reach, reach), *each])
    found = [padded[:, w : w + length] for w in range(width)]
    if same_BLW is None:
        return found
    same = same_BLW.reshape(*same_BLW.shape, *[1] * len(each))
    return [jnp.where(same[:, :, w], one, 0) for w, one in enumerate(found)]


def of_one_segment(segment_ids: Int[Array, "B L"], width: int) -> Bool[Array, "B L W"]:
    """Which of the W tokens around each one are of its own segment."""
    around = neighbours(segment_ids, width)
    return jnp.stack([one == segment_ids for one in around], axis=-1)


class DepthwiseConvolution(nn.Module):
    """y_ld = sum_w kernel_wd x_(l + w - W // 2)d: every channel for itself, summed in float32."""

    width: int
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Float[Array, "B L D"], same_BLW: Bool[Array, "B L W"] | None
    ) -> Float[Array, "B L D"]:
        kernel_WD = self.param("kernel", self.kernel_init, (self.width, x_BLD.shape[-1]))
        around = neighbours(x_BLD.astype(jnp.float32), self.width, same_BLW)
        y_BLD = sum(kernel_D * one for kernel_D, one in zip(kernel_WD, around, strict=True))
        return jnp.asarray(y_BLD, self.dtype)


class SpanConvolution(nn.Module):
    """Every head of every token weighs the W values around it, by what is written there:

    k = W_k depthwise(x) + b_k,  a = softmax_W(W_a (q * k) + b_a),  y_lh = sum_w a_lhw v_(l + w)h

    The weights a of one head follow from q and k of all of them.

    Source: arXiv 2008.02496, section 3.2, equation 5.
    """

    heads: int
    head_size: int
    width: int
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        q_BLHK: Float[Array, "B L H K"],
        same_BLW: Bool[Array, "B L W"] | None,
    ) -> Float[Array, "B L H K"]:
        hidden, heads = x_BLD.shape[-1:], (self.heads, self.head_size)
        depthwise = DepthwiseConvolution(self.width, self.dtype, self.kernel_init, name="depthwise")
        k_BLHK = self.linear("key", hidden, heads)(depthwise(x_BLD, same_BLW))
        both_BLI = (q_BLHK * k_BLHK).reshape(*x_BLD.shape[:2], -1)
        inputs, outputs = both_BLI.shape[-1:], (self.heads, self.width)
        scores_BLHW = self.linear("weights", inputs, outputs)(both_BLI)
        weights_BLHW = jax.nn.softmax(scores_BLHW.astype(jnp.float32))
        v_BLHK = self.linear("value", hidden, heads)(x_BLD)
        around = neighbours(v_BLHK, self.width, same_BLW)
        y_BLHK = sum(weights_BLHW[..., w, None] * v for w, v in enumerate(around))
        return jnp.asarray(y_BLHK, self.dtype)

    def linear(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Linear:
        """One of the products of this layer."""
        return Linear(inputs, outputs, self.dtype, kernel_init=self.kernel_init, name=name)


class MixedAttention(SelfAttention):
    """Concat(gate_h * attention_h, ..., gate_h * convolution_h, ...) W_O + b_O: half of what the
    output reads is attention, half a span convolution that shares its queries.

    In packed rows `shared["neighbours"]` [B, L, W] says which tokens around each are of its own
    segment.

    Source: arXiv 2008.02496, section 3.2, figure 3(c).
    """

    width: int

    @nn.compact
    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        shared: Shared,
        gate_H: Float[Array, "H"] | None,
        deterministic: bool,
    ) -> tuple[Float[Array, "B L D"], dict[str, Float[Array, "..."]]]:
        """Returns the output and the trace of the attention: q, k, v and scores."""
        trace = self.compare(x_BLD, shared, deterministic)
        attended_BLHK = exchanged(self.attend(trace, shared, deterministic))
        convolution = SpanConvolution(
            self.heads,
            self.head_size,
            self.width,
            self.dtype,
            self.kernel_init,
            name="convolution",
        )
        q_BLHK, same_BLW = trace["q"].swapaxes(1, 2), shared.get("neighbours")
        both_BLSHK = jnp.stack([attended_BLHK, convolution(x_BLD, q_BLHK, same_BLW)], axis=2)
        if gate_H is not None:
            both_BLSHK = both_BLSHK * gate_H[:, None].astype(both_BLSHK.dtype)
        output = self.linear("output", (2, self.heads, self.head_size), (self.hidden,))
        return output(both_BLSHK), trace
