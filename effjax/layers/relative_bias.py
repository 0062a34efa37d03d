"""Relative positions as a bias of attention scores: a number per head for each range of distances.

Source: arXiv 1910.10683 (T5), section 2.1.
"""

import math

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.attention import SelfAttention
from effjax.layers.embedding import positions_from_start
from effjax.types import Array, Float, Int, Shared


def bucket_starts(buckets: int, longest: int) -> tuple[int, ...]:
    """The shortest distance of each bucket but the first, on one side.

    Half of them hold one distance each, the others ranges that grow by an equal factor up to
    `longest`: with 16 and 128, they begin at 1, ..., 8 and 12, 16, 23, 32, 46, 64, 91.
    """
    exact = buckets // 2
    factor = (longest / exact) ** (1 / (buckets - exact))
    # A hair less before rounding up: what is a whole number, as 32, may be 32.000...1 in floats.
    ranges = (math.ceil(exact * factor**k - 1e-6) for k in range(1, buckets - exact))
    return (*range(1, exact + 1), *ranges)


def distance_buckets(distance: Int[Array, "*B"], buckets: int, longest: int) -> Int[Array, "*B"]:
    """The bucket of each distance, key minus query: the upper half of them is for keys that follow.

    Counted against where buckets begin, since a logarithm would round differently from one machine
    to the next.
    """
    starts = np.array(bucket_starts(buckets // 2, longest), np.int32)
    far = (jnp.abs(distance)[..., None] >= starts).sum(-1, dtype=jnp.int32)
    return far + jnp.where(distance > 0, buckets // 2, 0)


class RelativeBias(nn.Module):
    """b[h, bucket(key - query)] for a row of tokens, the same for all rows.

    In packed rows too: two tokens of one segment are as far apart in the row as in the segment.
    """

    buckets: int
    longest: int
    heads: int
    kernel_init: Initializer

    def setup(self) -> None:
        self.embedding = self.param("embedding", self.kernel_init, (self.buckets, self.heads))

    def __call__(self, input_ids: Int[Array, "B L"]) -> Float[Array, "1 H L M"]:
        place_L = positions_from_start(input_ids[:1])[0]
        distance_LM = place_L[None, :] - place_L[:, None]
        buckets_LM = distance_buckets(distance_LM, self.buckets, self.longest)
        bias_LMH = jnp.take(self.embedding, buckets_LM, axis=0)
        return jnp.moveaxis(bias_LMH, -1, 0)[None]


class BiasedAttention(SelfAttention):
    """softmax(Q K^T / sqrt(K) + B + mask) V, with B of `shared["bias"]` [1, all heads, L, M].

    Attributes:
        columns: which of all heads each one is; a layer may have lost some.
    """

    columns: tuple[int, ...] = ()

    def score_bias(self, shared: Shared) -> Float[Array, "1 H L M"]:
        """That of the heads of this layer."""
        bias_1HLM = shared["bias"]
        if len(self.columns) == bias_1HLM.shape[1]:
            return bias_1HLM
        return bias_1HLM[:, np.array(self.columns)]
