"""Disentangled attention: what a key says to a query also follows from the distance between them.

    scores_lm = (q_l . k_m + q_l . K[b(l - m)] + k_m . Q[b(l - m)]) / sqrt(K * (1 + terms))

K and Q are projections of one table of relative positions, b the row of a distance: exact for near
ones, and one row for ever more of the far ones.

Source: arXiv 2006.03654, section 3.1, equations 4 and 5; the buckets are arXiv 2111.09543's, as
released. The published code gathers a score per pair of tokens from scores per row of the table,
which on the way back is a sum in scattered places. Here rows are gathered, one for each distance,
and the scores by distance are moved into place by a slice, whose way back is another.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.attention import SelfAttention
from effjax.layers.dropout import Dropout
from effjax.layers.linear import exchanged
from effjax.layers.norm import LayerNorm
from effjax.layers.softmax import dot_products, wide_einsum
from effjax.types import Array, Float, Shared


def bucket(distance: np.ndarray, buckets: int, longest: int) -> np.ndarray:
    """Distances up to buckets / 2 as they are, those beyond on a logarithmic scale, which reaches
    the last bucket at `longest` - 1. In float32, as torch computes it: the edges depend on it.
    """
    middle = buckets // 2
    far = np.maximum(np.abs(distance), middle).astype(np.float32)
    scale = np.log(np.float32((longest - 1) / middle))
    rounded = np.ceil(np.log(far / np.float32(middle)) / scale * np.float32(middle - 1))
    beyond = np.sign(distance) * (rounded.astype(np.int64) + middle)
    return np.where(np.abs(distance) <= middle, distance, beyond)


def relative_rows(length: int, buckets: int | None, longest: int) -> np.ndarray:
    """The row of the table of each distance between tokens of a row, 1 - `length` to `length` - 1.

    Args:
        buckets: without them every distance has a row of its own.
        longest: the distance from which on all have the last row.
    """
    distance, span = np.arange(1 - length, length), buckets or longest
    found = bucket(distance, buckets, longest) if buckets else distance
    return np.clip(found + span, 0, 2 * span - 1)


class RelativeEmbedding(nn.Module):
    """LayerNorm of a table with a row for each relative position."""

    size: int
    width: int
    norm_eps: float
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> Float[Array, "R D"]:
        table_RD = self.param("embedding", self.kernel_init, (self.size, self.width))
        return LayerNorm(self.norm_eps, name="norm")(table_RD)


@jax.custom_vjp
def position_products(
    x_BHLK: Float[Array, "B H L K"], p_HRK: Float[Array, "H R K"]
) -> Float[Array, "B H L R"]:
    """x p^T, float32, for one p in the whole batch; the products of the backward pass are in the
    dtype of x and p.
    """
    return wide_einsum("bhlk,hrk->bhlr", x_BHLK, p_HRK)


def _position_products_backward(saved: tuple[Array, Array], d_BHLR: Array) -> tuple[Array, Array]:
    x_BHLK, p_HRK = saved
    low_BHLR = d_BHLR.astype(x_BHLK.dtype)
    dx_BHLK = wide_einsum("bhlr,hrk->bhlk", low_BHLR, p_HRK)
    dp_HRK = wide_einsum("bhlr,bhlk->hrk", low_BHLR, x_BHLK)
    return dx_BHLK.astype(x_BHLK.dtype), dp_HRK.astype(p_HRK.dtype)


position_products.defvjp(
    lambda x, p: (position_products(x, p), (x, p)), _position_products_backward
)


def by_pair(scores_BHLR: Float[Array, "B H L R"]) -> Float[Array, "B H L L"]:
    """Scores of every token by distance, R = 2 L - 1, as scores by pair: at [l, m] what was at
    [l, m - l + L - 1].

    Each row begins one place further left than that before it. Laid end to end with one more place
    for each row, that is the same array cut into rows of one place less.
    """
    *batch, length, distances = scores_BHLR.shape
    wider = jnp.pad(scores_BHLR, [*[(0, 0)] * (len(batch) + 1), (0, 1)])
    flat = wider.reshape(*batch, -1)[..., length - 1 :][..., : length * distances]
    return flat.reshape(*batch, length, distances)[..., :length]


class DisentangledAttention(SelfAttention):
    """Self-attention with those scores; positions are projected as contents are, by the same
    weights.

    It reads `shared["relative"]` [R, D], the rows of the table within reach, and
    `shared["distances"]` [2 L - 1], which of them each distance has.

    Attributes:
        terms: "c2p", what a query says to the position of a key, and "p2c", the other way round.
        position_dropout: of the table, in every layer anew.
    """

    terms: tuple[str, ...]
    position_dropout: float

    def compare(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, deterministic: bool
    ) -> dict[str, Array]:
        """q, k, v and the scores."""
        heads = (self.heads, self.head_size)
        query, key = (self.linear(name, (self.hidden,), heads) for name in ("query", "key"))
        q_BHLK, k_BHMK = (exchanged(project(x_BLD)) for project in (query, key))
        relative_RD = Dropout(self.position_dropout)(shared["relative"], deterministic)
        scores_BHLM, distances = dot_products(q_BHLK, k_BHMK), shared["distances"]
        if "c2p" in self.terms:
            keys_RHK = self.positions("position_key", key)(relative_RD)[distances[::-1]]
            scores_BHLM += by_pair(position_products(q_BHLK, keys_RHK.swapaxes(0, 1)))
        if "p2c" in self.terms:
            queries_RHK = self.positions("position_query", query)(relative_RD)[distances]
            scores_BHLM += by_pair(position_products(k_BHMK, queries_RHK.swapaxes(0, 1))).mT
        scores_BHLM /= jnp.sqrt(self.head_size * (1 + len(self.terms)))
        v_BHMK = self.projected("value", x_BLD)
        return {"q": q_BHLK, "k": k_BHMK, "v": v_BHMK, "scores": scores_BHLM}

    def attend(
        self, trace: Mapping[str, Array], shared: Shared, deterministic: bool
    ) -> Float[Array, "B H L K"]:
        """From the scores, since no kernel has a place for those of positions."""
        return self.weigh(trace, shared, self.drop(trace["scores"].shape, deterministic))

    def positions(self, name: str, content: Callable[..., Array]) -> Callable[..., Array]:
        """What projects positions, given what projects contents."""
        del name
        return content


class SeparatePositions(DisentangledAttention):
    """The same with projections of positions of their own."""

    def positions(self, name: str, content: Callable[..., Array]) -> Callable[..., Array]:
        del content
        return self.linear(name, (self.hidden,), (self.heads, self.head_size))
