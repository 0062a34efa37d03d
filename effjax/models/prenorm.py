"""Pre-norm transformers: the block and the encoder that ModernBERT and EuroBERT share.

a_i = x_i + Attention(Norm(x_i)),  x_{i+1} = a_i + FFN(Norm(a_i)),  h = Norm(x_N)

Source: arXiv 2002.04745, figure 1 (b). What its norm, attention and feed-forward network are, each
architecture says. No norm is on the way from x_0 to x_N, where all is summed up: these sums are
float32, whatever products are computed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.dropout import Dropout
from effjax.layers.pooling import mean_of_tokens
from effjax.models.base import EncoderConfig, LayerTrace
from effjax.models.encoder import Block, Encoder, is_token
from effjax.models.rotary_fields import RotaryConfig, rotations
from effjax.table import Axis, Row, vector
from effjax.types import Array, Float, Gates, Int, Shared


@dataclass(frozen=True, kw_only=True)
class PreNormConfig(RotaryConfig):
    """A config of pre-norm layers with rotary positions.

    Attributes:
        attention_bias, ffn_bias: whether all products of one, or the other, have a bias.
        pooling: how an example is classified; with "mean", from the mean of its tokens.
    """

    attention_bias: bool
    ffn_bias: bool
    pooling: str


class PreNormBlock(Block):
    """One layer: attention and feed-forward network, each of normed states and added to these."""

    def setup(self) -> None:
        self.attention_norm = self.make_norm()
        self.attention = self.make_attention()
        self.feedforward_norm = self.make_norm()
        self.feedforward = self.make_feedforward()
        self.drop = Dropout(self.attended_dropout)

    def make_norm(self) -> nn.Module:
        """A norm as this architecture has them."""
        raise NotImplementedError

    def make_attention(self) -> nn.Module:
        """A `SelfAttention`."""
        raise NotImplementedError

    def make_feedforward(self) -> nn.Module:
        """A `GatedFeedForward`, or another network that is called like one."""
        raise NotImplementedError

    @property
    def attended_dropout(self) -> float:
        """The share of the attention's output that training drops."""
        return self.config.dropout

    def attention_input(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """What attention reads."""
        return self.attention_norm(x_BLD)

    def head_gate(self, gates: Gates) -> Float[Array, "H"] | None:
        """A multiplier for every head."""
        return gates.get("heads")

    def __call__(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, gates: Gates, deterministic: bool
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        read_BLD = self.attention_input(x_BLD)
        attended_BLD, trace = self.attention(read_BLD, shared, self.head_gate(gates), deterministic)
        x_BLD = x_BLD + self.drop(attended_BLD, deterministic)
        fed_BLD = self.feedforward(self.feedforward_norm(x_BLD), gates.get("ffn"), deterministic)
        x_BLD = x_BLD + fed_BLD
        return x_BLD, LayerTrace(hidden=x_BLD, **trace)


class PreNormEncoder(Encoder):
    """An encoder of such blocks, with a last norm behind them."""

    config: PreNormConfig

    block = PreNormBlock

    def setup(self) -> None:
        super().setup()
        self.final_norm = self.make_norm()

    def make_norm(self) -> nn.Module:
        """The norm of the last hidden states."""
        raise NotImplementedError

    def embed(self, fields: Mapping[str, Array], deterministic: bool) -> Float[Array, "B L D"]:
        return super().embed(fields, deterministic).astype(jnp.float32)

    def finish(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return self.final_norm(x_BLD).astype(self.runtime.dtype)

    def share(self, fields: Mapping[str, Array]) -> Shared:
        return {**super().share(fields), **rotations(self.config, fields["position_ids"])}

    def example_vectors(
        self,
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
    ) -> Float[Array, "examples D"]:
        """That of each example's first token, or the mean of all its tokens."""
        if self.config.pooling == "mean":
            return mean_of_tokens(x_BLD, is_token(fields), fields.get("segment_ids"), starts)
        return super().example_vectors(x_BLD, fields, starts)


def word_head_rows(config: EncoderConfig, reads: Axis, *, hf: str, bias: bool) -> list[Row]:
    """The rows of a `WordHead` itself: its bias, and the output projection unless that is tied."""
    V = Axis("V", config.vocab_size, "vocabulary")
    made = vector("head/bias", "bias", (V,), hf=f"{hf}.bias") if bias else []
    if not config.tie_embeddings:
        kernel, name = (V, reads), (f"{hf}.weight",)
        pattern = f"V {reads.letter}"
        made.append(Row("head/decoder", "embedding", kernel, 0, name, pattern, ("token",)))
    return made
