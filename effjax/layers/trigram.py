"""Words read with their neighbours."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.convolution import neighbours, of_one_segment
from effjax.layers.dropout import Dropout
from effjax.layers.embedding import Embedding
from effjax.layers.linear import Linear
from effjax.types import Array, Float, Int


def trigrams(
    x_BLE: Float[Array, "B L E"], segment_ids: Int[Array, "B L"] | None
) -> Float[Array, "B L 3 E"]:
    """The vectors after, at and before each token; zeros beyond the ends of a row, or in packed
    rows of the token's segment.
    """
    same_BLW = None if segment_ids is None else of_one_segment(segment_ids, 3)
    before, at, after = neighbours(x_BLE, 3, same_BLW)
    return jnp.stack([after, at, before], axis=2)


class TrigramEmbedding(nn.Module):
    """norm(W [word_{i+1}; word_i; word_{i-1}] + b + position + token type), then dropout.

    The last token of a padded row reads the first word of the padding, as in Hugging Face; at the
    ends of rows and of packed segments there are zeros.

    Source: arXiv 2004.02984, section 3.4.
    """

    vocab_size: int
    positions: int
    token_types: int
    width: int
    hidden: int
    make_norm: Callable[[], nn.Module]
    dropout: float
    dtype: str
    kernel_init: Initializer

    def setup(self) -> None:
        self.word = Embedding(self.vocab_size, self.width, self.kernel_init, self.dtype)
        self.position = Embedding(self.positions, self.hidden, self.kernel_init)
        if self.token_types:
            self.token_type = Embedding(self.token_types, self.hidden, self.kernel_init)
        widths = (3, self.width), (self.hidden,)
        self.projection = Linear(*widths, self.dtype, kernel_init=self.kernel_init)
        self.norm = self.make_norm()
        self.drop = Dropout(self.dropout)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        segment_ids: Int[Array, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        x_BLD = self.projection(trigrams(self.word(input_ids), segment_ids))
        x_BLD += self.position(position_ids)
        if self.token_types:
            x_BLD += self.token_type(
                jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            )
        return self.drop(self.norm(x_BLD).astype(self.dtype), deterministic)
