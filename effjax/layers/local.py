"""Local attention: every token attends to those at most `reach` places away.

    queries      | block n - 1 |   block n   | block n + 1 |
    keys of n    [------------- 3 blocks of keys ----------]

Blocks are as long as the reach, so that what a query of block n may see is in blocks n - 1, n and
n + 1. For L tokens there are so 3 L reach scores to compute, not L^2, and neither scores nor mask
ever have two axes of length L.

Source: arXiv 2004.05150, section 3.1, the sliding window, in blocks of queries and keys.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from effjax.layers.attention import FROM_SCORES, SelfAttention
from effjax.layers.softmax import MASKED, dot_products
from effjax.types import Array, Bool, Float, Int, Shared

BLOCKS = 8
"""From so many blocks on the band is computed; for shorter inputs full scores under a mask, which a
CPU has about as soon.
"""


def block_size(reach: int) -> int:
    """Queries of one block."""
    return max(1, reach)


def has_band(length: int, reach: int) -> bool:
    """Whether inputs of this length are computed block by block."""
    return length >= BLOCKS * block_size(reach)


def local_key(reach: int) -> str:
    """Where the layers of an encoder find the mask of this reach."""
    return f"local_{reach}"


def local_mask(
    token_BL: Bool[Array, "B L"], segment_BL: Int[Array, "B L"] | None, reach: int
) -> Bool[Array, "..."]:
    """Who may attend to whom: [B, 1, L, M], or of a band [B, 1, N, L, M], for each of N blocks its
    own queries and three blocks of keys.

    Args:
        token_BL: where there is a token, and not padding.
        segment_BL: of packed rows; only those of one segment attend to each other.
    """
    if not has_band(token_BL.shape[1], reach):
        return full_mask(token_BL, segment_BL, reach)
    size = block_size(reach)
    query, key = np.arange(size)[:, None], np.arange(3 * size) - size
    near_LM = jnp.asarray(np.abs(query - key) <= reach)
    mask_BNLM = near_LM & neighbours(blocks(token_BL, size))[:, :, None, :]
    if segment_BL is not None:
        segment_BNL = blocks(segment_BL, size)
        mask_BNLM &= segment_BNL[..., None] == neighbours(segment_BNL)[:, :, None, :]
    return mask_BNLM[:, None]


def full_mask(
    token_BL: Bool[Array, "B L"], segment_BL: Int[Array, "B L"] | None, reach: int
) -> Bool[Array, "B 1 L M"]:
    """The same for all keys at once."""
    place = np.arange(token_BL.shape[1])
    near_LM = jnp.asarray(np.abs(place[:, None] - place) <= reach)
    mask_BLM = near_LM & token_BL[:, None, :]
    if segment_BL is not None:
        mask_BLM &= segment_BL[:, :, None] == segment_BL[:, None, :]
    return mask_BLM[:, None]


def blocks(x: Array, size: int) -> Array:
    """[B, L, ...] as [B, N, size, ...], filled up with zeros."""
    count = -(-x.shape[1] // size)
    padding = [(0, 0), (0, count * size - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
    return jnp.pad(x, padding).reshape(x.shape[0], count, size, *x.shape[2:])


def neighbours(x: Array) -> Array:
    """[B, N, size, ...] as [B, N, 3 size, ...]: each block between the two beside it."""
    padded = jnp.pad(x, [(0, 0), (1, 1)] + [(0, 0)] * (x.ndim - 2))
    return jnp.concatenate([padded[:, :-2], x, padded[:, 2:]], axis=2)


def heads_and_blocks(x_BHLK: Float[Array, "B H L K"], size: int) -> Float[Array, "BH N size K"]:
    """Each head of each row in blocks; heads and rows are one axis."""
    rows, heads, length, width = x_BHLK.shape
    return blocks(x_BHLK.reshape(rows * heads, length, width), size)


class LocalAttention(SelfAttention):
    """Self-attention to what is at most `reach` places away.

    Dropout of weights draws other numbers for the band than it would for full scores. Between them
    only queries that may attend to nothing, which are padding, have other outputs. The fused
    kernel has no band: where there is one, its blocks are computed with late division.
    """

    reach: int

    def attend(
        self, trace: Mapping[str, Array], shared: Shared, deterministic: bool
    ) -> Float[Array, "B H L K"]:
        mask = shared[local_key(self.reach)]
        if not has_band(trace["q"].shape[2], self.reach):
            return super().attend(trace, {**shared, "mask": mask}, deterministic)
        return self.attend_in_blocks(trace, mask, deterministic)

    def attend_in_blocks(
        self,
        trace: Mapping[str, Array],
        mask_B1NLM: Bool[Array, "B 1 N size keys"],
        deterministic: bool,
    ) -> Float[Array, "B H L K"]:
        """softmax(scores + mask) V of every block. The scores of the trace are not looked at, so
        that they are only computed if someone else does.
        """
        (rows, heads, length, width), size = trace["q"].shape, block_size(self.reach)
        q, k, v = (heads_and_blocks(trace[name], size) for name in "qkv")
        k, v = neighbours(k), neighbours(v)
        scores = dot_products(q, k) / jnp.sqrt(self.head_size)
        scores = scores.reshape(rows, heads, *scores.shape[1:])
        masked = jnp.where(mask_B1NLM, scores, MASKED).reshape(rows * heads, *scores.shape[2:])
        drop = self.drop(masked.shape, deterministic)
        context = FROM_SCORES[self.kernel](masked, v, drop)
        return context.reshape(rows, heads, -1, width)[:, :, :length]
