"""Post-norm transformers: the block, the module and the table that BERT and its kin share.

x_0 = LayerNorm(word + position + token type)
a_i = LayerNorm(x_i + Attention(x_i)),  x_{i+1} = LayerNorm(a_i + FFN(a_i))

Source: arXiv 1706.03762, section 3, with GELU; arXiv 1810.04805. Each architecture adds its Hugging
Face names and its heads; one whose attention or feed-forward network is of another kind overrides
`make_attention`, `make_feedforward` or `make_norm`.
"""

import dataclasses
from collections.abc import Callable, Mapping

from flax import linen as nn

from effjax.layers.attention import PROJECTIONS, SelfAttention
from effjax.layers.dropout import Dropout
from effjax.layers.embedding import TextEmbedding
from effjax.layers.feedforward import FeedForward
from effjax.layers.norm import LayerNorm
from effjax.models.base import EncoderConfig, LayerSpec, LayerTrace
from effjax.models.encoder import Block, Encoder, initializer
from effjax.table import Axis, Row, embedding, linear, norm
from effjax.types import Array, Float, Gates, Shared


class PostNormBlock(Block):
    """One layer: attention and feed-forward, each with a residual connection and a norm."""

    def setup(self) -> None:
        self.attention = self.make_attention()
        self.attention_norm = self.make_norm()
        self.feedforward = self.make_feedforward()
        self.feedforward_norm = self.make_norm()
        self.drop = Dropout(self.config.dropout)

    def make_norm(self) -> nn.Module:
        return LayerNorm(self.config.norm_eps)

    def make_attention(self) -> nn.Module:
        return SelfAttention(**self.attention_fields)

    def make_feedforward(self) -> nn.Module:
        config, width = self.config, self.spec.ffn
        return FeedForward(
            config.hidden, width, config.activation, self.runtime.dtype, initializer(self.config)
        )

    def __call__(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, gates: Gates, deterministic: bool
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        attended_BLD, trace = self.attention(x_BLD, shared, gates.get("heads"), deterministic)
        x_BLD = self.attention_norm(x_BLD + self.drop(attended_BLD, deterministic))
        fed_BLD = self.feedforward(x_BLD, gates.get("ffn"))
        x_BLD = self.feedforward_norm(x_BLD + self.drop(fed_BLD, deterministic))
        return x_BLD, LayerTrace(hidden=x_BLD, **trace)


class PostNormEncoder(Encoder):
    """An encoder of such blocks over a text embedding."""

    block = PostNormBlock

    def make_embedding(self) -> nn.Module:
        config = self.config
        return TextEmbedding(
            config.vocab_size,
            config.positions,
            config.token_types,
            config.embedding_size,
            config.hidden if config.factorised else None,
            config.norm_eps,
            config.dropout,
            self.runtime.dtype,
            initializer(self.config),
        )


def axes(config: EncoderConfig) -> tuple[Axis, Axis]:
    """The hidden axis, and the same as the output of a square product."""
    return Axis("D", config.hidden, "hidden"), Axis("Y", config.hidden, "hidden")


def embedding_axis(config: EncoderConfig) -> Axis:
    """The axis of word vectors: the hidden one, where no projection leads there."""
    if not config.factorised:
        return axes(config)[0]
    return Axis("E", config.embedding_size, "embedding")


def encoder_rows(
    config: EncoderConfig,
    names: Mapping[str, str],
    decoder: str | None,
    hf_layer: Callable[[int], str] = str,
) -> list[Row]:
    """The rows of embedding, layers and pooler.

    Args:
        names: Hugging Face's name of each module by ours, "{i}" standing for the layer.
        decoder: as of `embedding_rows`.
        hf_layer: what stands for the i-th layer, those that share weights counting as one.
    """
    D, Y = axes(config)
    rows = embedding_rows(config, names, decoder)
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        own = {name: hf.format(i=hf_layer(i)) for name, hf in names.items()}
        times = config.layer_names.count(layer)
        rows += used(times, layer_rows(layer, spec, D, config.head_size, own))
    if config.pooler:
        rows += linear("pooler/dense", (D,), (Y,), hf=names["pooler"], use="sequence")
    return rows


def used(times: int, rows: list[Row]) -> list[Row]:
    """The rows of a layer that comes this often."""
    return [dataclasses.replace(row, uses=row.uses * times) for row in rows]


def embedding_rows(
    config: EncoderConfig, names: Mapping[str, str], decoder: str | None
) -> list[Row]:
    """The rows of a `TextEmbedding`; without the table of positions where `names` has none.

    Args:
        decoder: as of `word_rows`.
    """
    E, D = embedding_axis(config), axes(config)[0]
    rows = word_rows(config, E, names["word"], decoder)
    if "position" in names:
        positions = Axis("P", config.positions)
        rows += embedding("embedding/position/embedding", positions, E, hf=names["position"])
    rows += norm("embedding/norm", E, hf=names["embedding_norm"])
    if config.token_types:
        types = Axis("T", config.token_types)
        rows += embedding("embedding/token_type/embedding", types, E, hf=names["token_type"])
    if config.factorised:
        rows += linear("embedding/projection", (E,), (D,), hf=names["projection"])
    return rows


def word_rows(config: EncoderConfig, E: Axis, hf: str, decoder: str | None) -> list[Row]:
    """The row of the word embedding.

    Args:
        E: the axis of a word's vector.
        decoder: Hugging Face's name of the output projection tied to it, None if there is none.
    """
    V, path = Axis("V", config.vocab_size, "vocabulary"), "embedding/word/embedding"
    if decoder is None:
        return embedding(path, V, E, hf=hf)
    return embedding(path, V, E, hf=hf, aliases=(decoder,), uses=("lookup", "token"))


def layer_rows(
    layer: str, spec: LayerSpec, D: Axis, head_size: int, names: Mapping[str, str]
) -> list[Row]:
    """The rows of the layer of this name."""
    H, K = Axis("H", spec.heads, f"{layer}/heads"), Axis("K", head_size)
    F = Axis("F", spec.ffn, f"{layer}/ffn")
    rows = [
        row
        for name in PROJECTIONS
        for row in linear(f"{layer}/attention/{name}", (D,), (H, K), hf=names[name])
    ]
    return [
        *rows,
        *linear(f"{layer}/attention/output", (H, K), (D,), hf=names["attention_output"]),
        *norm(f"{layer}/attention_norm", D, hf=names["attention_norm"]),
        *linear(f"{layer}/feedforward/up", (D,), (F,), hf=names["up"]),
        *linear(f"{layer}/feedforward/down", (F,), (D,), hf=names["down"]),
        *norm(f"{layer}/feedforward_norm", D, hf=names["feedforward_norm"]),
    ]
