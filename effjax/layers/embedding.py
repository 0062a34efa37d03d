"""Token, position and token-type embeddings."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.linear import FACTORS, READ, Linear, product, stored_factors
from effjax.layers.norm import LayerNorm
from effjax.types import Array, Float, Int


class Embedding(nn.Module):
    """A table of `size` rows of `width` numbers, read by index.

    Parameters that hold two factors of the table make it a narrow table and a product in `dtype`.
    """

    size: int
    width: int
    kernel_init: Initializer = nn.initializers.normal(0.02)
    dtype: str = "float32"

    def setup(self) -> None:
        both = stored_factors(self)
        whole = (self.size, self.width)
        self.embedding = both or self.param("embedding", self.kernel_init, whole)

    def __call__(self, index: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        if not isinstance(self.embedding, tuple):
            return jnp.take(self.embedding, index, axis=0)
        left_VZ, right_ZD = self.embedding
        narrow = jnp.take(left_VZ, index, axis=0)
        self.sow(READ, FACTORS[1], narrow)
        return product(narrow, right_ZD, 1, self.dtype)


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
    """LayerNorm(word + position + token type), then dropout, and a projection to `hidden`, unless
    that is None.

    A model without positions or token types has 0 of them.

    Source: arXiv 1810.04805, figure 2; the projection is arXiv 1909.11942, section 3.1.
    """

    vocab_size: int
    positions: int
    token_types: int
    width: int
    hidden: int | None
    norm_eps: float
    dropout: float
    dtype: str
    kernel_init: Initializer

    def setup(self) -> None:
        self.word = Embedding(self.vocab_size, self.width, self.kernel_init, self.dtype)
        if self.positions:
            self.position = Embedding(self.positions, self.width, self.kernel_init)
        if self.token_types:
            self.token_type = Embedding(self.token_types, self.width, self.kernel_init)
        self.norm = LayerNorm(self.norm_eps)
        self.drop = Dropout(self.dropout)
        if self.hidden is not None:
            self.projection = self.make_projection(self.hidden)

    def make_projection(self, hidden: int) -> Linear:
        """The product from the width of the vectors to the hidden size."""
        return Linear((self.width,), (hidden,), self.dtype, kernel_init=self.kernel_init)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        x_BLE = self.summed(input_ids, position_ids, token_type_ids)
        x_BLE = self.drop(self.norm(x_BLE).astype(self.dtype), deterministic)
        return x_BLE if self.hidden is None else self.projection(x_BLE)

    def summed(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
    ) -> Float[Array, "B L E"]:
        """Word + position + token type, as far as there are tables of them."""
        x_BLE = self.word(input_ids)
        if self.positions:
            x_BLE += self.position(position_ids)
        if self.token_types:
            x_BLE += self.token_type(
                jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            )
        return x_BLE


class NormLastEmbedding(TextEmbedding):
    """LayerNorm(W (word + position + token type)), then dropout; W has no bias, and there is none
    if `hidden` is None. Source: arXiv 2006.03654, as released.
    """

    def make_projection(self, hidden: int) -> Linear:
        widths = (self.width,), (hidden,)
        return Linear(*widths, self.dtype, bias=False, kernel_init=self.kernel_init)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        x_BLD = self.summed(input_ids, position_ids, token_type_ids)
        if self.hidden is not None:
            x_BLD = self.projection(x_BLD)
        return self.drop(self.norm(x_BLD).astype(self.dtype), deterministic)


class WordEmbedding(nn.Module):
    """The word alone, then dropout: where a token stands, attention is told by rotation."""

    vocab_size: int
    width: int
    dropout: float
    dtype: str
    kernel_init: Initializer

    def setup(self) -> None:
        self.word = Embedding(self.vocab_size, self.width, self.kernel_init, self.dtype)
        self.drop = Dropout(self.dropout)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        del position_ids, token_type_ids
        return self.drop(self.read(input_ids).astype(self.dtype), deterministic)

    def read(self, input_ids: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """The vectors of these words."""
        return self.word(input_ids)


class NormedWordEmbedding(WordEmbedding):
    """LayerNorm(word), then dropout."""

    norm_eps: float
    norm_bias: bool

    def setup(self) -> None:
        super().setup()
        self.norm = LayerNorm(self.norm_eps, self.norm_bias)

    def read(self, input_ids: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        return self.norm(self.word(input_ids))
