"""Encoders of layers with a bottleneck: config, block, module and table of MobileBERT and its
teacher.

r = N(W_r x + b_r),  f_0 = N(Attention(...) + r),  f_j = N(FFN_j(f_{j-1}) + f_{j-1})
y = N(W_o f_n + b_o + x)

x and y are `hidden` wide, r and f_j `bottleneck`. N is an element-wise affine function ("no_norm")
or LayerNorm. The teacher's bottleneck is inverted: wider within. What attention reads differs:

    "shared"      MobileBERT: queries and keys N(W_s x + b_s), values x
    "bottleneck"  MobileBERT_TINY: r
    "hidden"      IB-BERT_LARGE: x

Source: arXiv 2004.02984, sections 3.1 to 3.4 and table 1.
Deviation: as in Hugging Face, the eps of LayerNorm is 1e-5 after the embedding and after the last
feed-forward network of each layer, whatever `norm_eps` is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from flax import linen as nn

from effjax.layers.attention import PROJECTIONS, SelfAttention
from effjax.layers.dropout import Dropout
from effjax.layers.feedforward import FeedForward
from effjax.layers.heads import FirstToken
from effjax.layers.linear import Linear
from effjax.layers.norm import LayerNorm, NoNorm
from effjax.layers.trigram import TrigramEmbedding
from effjax.models.base import EncoderConfig, LayerSpec, LayerTrace
from effjax.models.encoder import Block, Encoder, initializer
from effjax.models.postnorm import axes, word_rows
from effjax.table import Axis, Row, embedding, linear, norm
from effjax.types import Array, Float, Gates, Shared

OTHER_EPS = 1e-5
"""Of the norms to which Hugging Face does not hand the config's."""


@dataclass(frozen=True, kw_only=True)
class MobileBertLayer(LayerSpec):
    """A layer whose feed-forward network of width `ffn` comes after others.

    Attributes:
        ffns: widths of those others, in their order; with 0 an output bias and a norm remain.
    """

    ffns: tuple[int, ...] = ()

    @property
    def networks(self) -> dict[str, int]:
        """The width of every feed-forward network by what its axis instance is called."""
        return {**{f"ffn_{j}": width for j, width in enumerate(self.ffns)}, "ffn": self.ffn}

    def shrunk(self, name: str, kept: Sequence[int]) -> LayerSpec:
        """The layer with only these of what "layer_3/<name>" counts: heads, ffn_0, ..., ffn."""
        _, _, number = name.partition("_")
        if not number:
            return super().shrunk(name, kept)
        before, after = self.ffns[: int(number)], self.ffns[int(number) + 1 :]
        return dataclasses.replace(self, ffns=(*before, len(kept), *after))

    def padded(self, heads: int, ffn: int) -> LayerSpec:
        return dataclasses.replace(self, heads=heads, ffn=ffn, ffns=(ffn,) * len(self.ffns))

    def __str__(self) -> str:
        return f"{self.heads} heads, ffn {' + '.join(map(str, self.networks.values()))}"


def path_of(network: str) -> str:
    """Where the parameters of a feed-forward network are in their layer, given its instance."""
    return network.replace("ffn", "feedforward")


@dataclass(frozen=True, kw_only=True)
class MobileBertConfig(EncoderConfig):
    """A config of MobileBERT.

    Attributes:
        bottleneck: width within a layer.
        attention_reads: what queries, keys and values are made of, see the module.
        normalization: of everything but the masked-LM head, which has LayerNorm.
        classifier_activation: whether the pooled output is tanh(W h_[CLS] + b), not h_[CLS].
    """

    layers: tuple[MobileBertLayer, ...]
    bottleneck: int
    attention_reads: Literal["shared", "bottleneck", "hidden"]
    normalization: Literal["no_norm", "layer_norm"] = "no_norm"
    classifier_activation: bool = True

    @property
    def whole_heads(self) -> int:
        return self.bottleneck // self.head_size

    def filled_by(self, heads: int) -> int:
        return self.hidden

    @property
    def widest_ffn(self) -> int:
        return max(width for layer in self.layers for width in layer.networks.values())


def norm_of(
    config: MobileBertConfig, eps: float | None = None, name: str | None = None
) -> nn.Module:
    """A new norm of the config's kind, with its eps unless given."""
    if config.normalization == "no_norm":
        return NoNorm(name=name)
    return LayerNorm(config.norm_eps if eps is None else eps, name=name)


class Bottleneck(nn.Module):
    """N(W x + b): from the hidden size to the width within a layer."""

    config: MobileBertConfig
    dtype: str

    @nn.compact
    def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L U"]:
        config = self.config
        widths = (config.hidden,), (config.bottleneck,)
        dense = Linear(*widths, self.dtype, kernel_init=initializer(config), name="dense")
        return norm_of(config, name="norm")(dense(x_BLD))


class SharedBottleneckAttention(SelfAttention):
    """Attention whose queries and keys read a bottleneck of their own, and whose values do not."""

    config: MobileBertConfig

    def project(self, x_BLD: Float[Array, "B L D"], shared: Shared) -> tuple[Array, Array, Array]:
        """Queries, keys and values."""
        s_BLU = Bottleneck(self.config, self.dtype, name="bottleneck")(x_BLD)
        return (
            self.projected("query", s_BLU),
            self.projected("key", s_BLU),
            self.projected("value", x_BLD),
        )


class MobileBertBlock(Block):
    """Into the bottleneck, attention, feed-forward networks, and out of it."""

    config: MobileBertConfig
    spec: MobileBertLayer

    def setup(self) -> None:
        config, dtype = self.config, self.runtime.dtype
        self.bottleneck = Bottleneck(config, dtype)
        self.attention = self.make_attention()
        self.attention_norm = norm_of(config)
        networks, norms = [], []
        for name, width in self.spec.networks.items():
            sizes = (config.bottleneck, width, config.activation)
            networks.append(FeedForward(*sizes, dtype, initializer(config), name=path_of(name)))
            eps = OTHER_EPS if name == "ffn" else None
            norms.append(norm_of(config, eps, f"{path_of(name)}_norm"))
        self.networks, self.norms = networks, norms
        widths = (config.bottleneck,), (config.hidden,)
        self.output = Linear(*widths, dtype, kernel_init=initializer(config))
        self.output_norm = norm_of(config)
        self.drop = Dropout(config.dropout)

    def make_attention(self) -> nn.Module:
        given = {**self.attention_fields, "hidden": self.config.bottleneck}
        if self.config.attention_reads == "shared":
            return SharedBottleneckAttention(**given, config=self.config)
        return SelfAttention(**given)

    def __call__(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, gates: Gates, deterministic: bool
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        r_BLU = self.bottleneck(x_BLD)
        read = r_BLU if self.config.attention_reads == "bottleneck" else x_BLD
        attended_BLU, trace = self.attention(read, shared, gates.get("heads"), deterministic)
        f_BLU = self.attention_norm(attended_BLU + r_BLU)
        steps = zip(self.spec.networks, self.networks, self.norms, strict=True)
        for name, network, normalise in steps:
            f_BLU = normalise(network(f_BLU, gates.get(name)) + f_BLU)
        y_BLD = self.output_norm(self.drop(self.output(f_BLU), deterministic) + x_BLD)
        return y_BLD, LayerTrace(hidden=y_BLD, **trace)


class MobileBertEncoder(Encoder):
    """Such layers over trigrams of words."""

    config: MobileBertConfig
    block = MobileBertBlock

    def make_embedding(self) -> nn.Module:
        config = self.config
        return TrigramEmbedding(
            config.vocab_size,
            config.positions,
            config.token_types,
            config.embedding_size,
            config.hidden,
            partial(norm_of, config, OTHER_EPS),
            config.dropout,
            self.runtime.dtype,
            initializer(config),
        )

    def make_pooler(self) -> nn.Module:
        return super().make_pooler() if self.config.classifier_activation else FirstToken()

    def embed(self, fields: Mapping[str, Array], deterministic: bool) -> Float[Array, "B L D"]:
        """Trigrams, which end where a segment does."""
        names = ("input_ids", "position_ids", "token_type_ids", "segment_ids")
        return self.embedding(*(fields.get(name) for name in names), deterministic)


SPLIT = "the masked-LM head splits the hidden vector at the width of a word vector"
"""Why neither can shrink."""


def word_axis(config: EncoderConfig) -> Axis:
    """The axis of word vectors."""
    return Axis("E", config.embedding_size, "embedding", SPLIT)


def encoder_rows(
    config: MobileBertConfig, names: Mapping[str, str], decoder: str | None
) -> list[Row]:
    """The rows of embedding, layers and pooler.

    Args:
        names: Hugging Face's name of each module by ours, "{i}" standing for the layer; "{j}" for
            the number of a feed-forward network before the last.
        decoder: Hugging Face's name of the output projection tied to the word embedding, None if
            there is none.
    """
    D, Y = axes(config)
    rows = embedding_rows(config, names, decoder)
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        assert isinstance(spec, MobileBertLayer)
        own = {name: hf.replace("{i}", str(i)) for name, hf in names.items()}
        rows += layer_rows(layer, spec, config, own)
    if config.pooler and config.classifier_activation:
        rows += linear("pooler/dense", (D,), (Y,), hf=names["pooler"], use="sequence")
    return rows


def embedding_rows(
    config: MobileBertConfig, names: Mapping[str, str], decoder: str | None
) -> list[Row]:
    """The rows of a `TrigramEmbedding`."""
    D, E, W = axes(config)[0], word_axis(config), Axis("W", 3)
    P, T = Axis("P", config.positions), Axis("T", config.token_types)
    return [
        *word_rows(config, E, names["word"], decoder),
        *embedding("embedding/position/embedding", P, D, hf=names["position"]),
        *embedding("embedding/token_type/embedding", T, D, hf=names["token_type"]),
        *linear("embedding/projection", (W, E), (D,), hf=names["projection"]),
        *norm("embedding/norm", D, hf=names["embedding_norm"]),
    ]


def layer_rows(
    layer: str, spec: MobileBertLayer, config: MobileBertConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of the layer of this name."""
    D, U = axes(config)[0], Axis("U", config.bottleneck)
    rows = bottleneck_rows(f"{layer}/bottleneck", D, U, names["bottleneck"])
    rows += attention_rows(layer, spec, config, names)
    for j, (name, width) in enumerate(spec.networks.items()):
        hf = names["feedforward" if name == "ffn" else "earlier_feedforward"].format(j=j)
        F = Axis("F", width, f"{layer}/{name}")
        rows += feedforward_rows(f"{layer}/{path_of(name)}", U, F, hf)
    rows += linear(f"{layer}/output", (U,), (D,), hf=names["output"])
    return [*rows, *norm(f"{layer}/output_norm", D, hf=names["output_norm"])]


def bottleneck_rows(path: str, D: Axis, U: Axis, hf: str) -> list[Row]:
    """The rows of a `Bottleneck`."""
    dense = linear(f"{path}/dense", (D,), (U,), hf=f"{hf}.dense")
    return [*dense, *norm(f"{path}/norm", U, hf=f"{hf}.LayerNorm")]


def attention_rows(
    layer: str, spec: MobileBertLayer, config: MobileBertConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of attention and its norm; without heads nothing reads its bottleneck."""
    D, U = axes(config)[0], Axis("U", config.bottleneck)
    H, K = Axis("H", spec.heads, f"{layer}/heads"), Axis("K", config.head_size)
    path, rows = f"{layer}/attention", []
    if config.attention_reads == "shared" and spec.heads:
        rows += bottleneck_rows(f"{path}/bottleneck", D, U, names["attention_bottleneck"])
    inputs = {"shared": (U, U, D), "bottleneck": (U, U, U), "hidden": (D, D, D)}
    for name, read in zip(PROJECTIONS, inputs[config.attention_reads], strict=True):
        rows += linear(f"{path}/{name}", (read,), (H, K), hf=names[name])
    rows += linear(f"{path}/output", (H, K), (U,), hf=names["attention_output"])
    return [*rows, *norm(f"{layer}/attention_norm", U, hf=names["attention_norm"])]


def feedforward_rows(path: str, U: Axis, F: Axis, hf: str) -> list[Row]:
    """The rows of a feed-forward network and its norm."""
    return [
        *linear(f"{path}/up", (U,), (F,), hf=f"{hf}.intermediate.dense"),
        *linear(f"{path}/down", (F,), (U,), hf=f"{hf}.output.dense"),
        *norm(f"{path}_norm", U, hf=f"{hf}.output.LayerNorm"),
    ]
