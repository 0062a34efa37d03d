"""Token, position and token-type embeddings."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.linear import Linear
from effjax.layers.norm import LayerNorm
from effjax.types import Array, Float, Int


class Embedding(nn.Module):
    """A table of `size` rows of `width` numbers, read by index."""

    size: int
    width: int
    kernel_init: Initializer = nn.initializers.normal(0.02)

    def setup(self) -> None:
        self.embedding = self.param("embedding", self.kernel_init, (self.size, self.width))

    def __call__(self, index: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        return jnp.take(self.embedding, index, axis=0)


def positions_from_start(input_ids: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """0, 1, 2, ...; written as a cumulative sum, which a symbolic length survives."""
    return jnp.cumsum(jnp.ones_like(input_ids), axis=-1) - 1


def positions_after_padding(input_ids: Int[Array, "B L"], padding: int) -> Int[Array, "B L"]:
    """RoBERTa's positions: tokens count from padding + 1, padding stays at its own index."""
    is_token = (input_ids != padding).astype(jnp.int32)
    return jnp.cumsum(is_token, axis=-1) * is_token + padding


def positions_in_segments(segment_ids: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """0, 1, 2, ... within every segment of a packed row, 0 where there is padding."""
    position = positions_from_start(segment_ids)
    before = jnp.pad(segment_ids, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    begins = jax.lax.cummax(jnp.where(segment_ids != before, position, 0), axis=1)
    return jnp.where(segment_ids > 0, position - begins, 0)


class TextEmbedding(nn.Module):
    """LayerNorm(word + position + token type), then dropout, and where it is not as wide as the
    hidden states, a projection.

    A model without positions or token types has 0 of them.

    Source: arXiv 1810.04805, figure 2; the projection is arXiv 1909.11942, section 3.1.
    """

    vocab_size: int
    positions: int
    token_types: int
    width: int
    hidden: int
    norm_eps: float
    dropout: float
    dtype: str
    kernel_init: Initializer

    def setup(self) -> None:
        self.word = Embedding(self.vocab_size, self.width, self.kernel_init)
        if self.positions:
            self.position = Embedding(self.positions, self.width, self.kernel_init)
        if self.token_types:
            self.token_type = Embedding(self.token_types, self.width, self.kernel_init)
        self.norm = LayerNorm(self.norm_eps)
        self.drop = Dropout(self.dropout)
        if self.width != self.hidden:
            widths = (self.width,), (self.hidden,)
            self.projection = Linear(*widths, self.dtype, kernel_init=self.kernel_init)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        x_BLE = self.word(input_ids)
        if self.positions:
            x_BLE += self.position(position_ids)
        if self.token_types:
            x_BLE += self.token_type(
                jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            )
        x_BLE = self.drop(self.norm(x_BLE).astype(self.dtype), deterministic)
        return self.projection(x_BLE) if self.width != self.hidden else x_BLE


def trigrams(
    x_BLE: Float[Array, "B L E"], segment_ids: Int[Array, "B L"] | None
) -> Float[Array, "B L 3 E"]:
    """The vectors after, at and before each place; zeros beyond the ends of a row, or in packed
    rows of the segment.
    """
    after_BLE = jnp.pad(x_BLE[:, 1:], ((0, 0), (0, 1), (0, 0)))
    before_BLE = jnp.pad(x_BLE[:, :-1], ((0, 0), (1, 0), (0, 0)))
    if segment_ids is not None:
        joined_BL1 = (segment_ids[:, 1:] == segment_ids[:, :-1])[..., None]
        after_BLE *= jnp.pad(joined_BL1, ((0, 0), (0, 1), (0, 0)))
        before_BLE *= jnp.pad(joined_BL1, ((0, 0), (1, 0), (0, 0)))
    return jnp.stack([after_BLE, x_BLE, before_BLE], axis=2)


class TrigramEmbedding(nn.Module):
    """norm(W [word_{i+1}; word_i; word_{i-1}] + b + position + token type), then dropout.

    In a padded row the last token's next word is the first of padding, as it is in Hugging Face;
    at the end of a row and of a packed segment it is zero.

    Source: arXiv 2004.02984, section 3.4.
    """

    vocab_size: int
    positions: int
    token_types: int
    width: int
    hidden: int
    norm_kind: Callable[[], nn.Module]
    dropout: float
    dtype: str
    kernel_init: Initializer

    def setup(self) -> None:
        self.word = Embedding(self.vocab_size, self.width, self.kernel_init)
        self.position = Embedding(self.positions, self.hidden, self.kernel_init)
        if self.token_types:
            self.token_type = Embedding(self.token_types, self.hidden, self.kernel_init)
        widths = (3, self.width), (self.hidden,)
        self.projection = Linear(*widths, self.dtype, kernel_init=self.kernel_init)
        self.norm = self.norm_kind()
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
