"""SqueezeBERT: BERT whose products per token are in groups, as a convolution's.

Source: arXiv 2006.11316, section 3. Hugging Face keeps hidden states as [B, C, L] and multiplies
by convolutions of width 1; here they are [B, L, C] and the products `GroupedLinear`, or `Linear`
with one group, of the same numbers.

As in Hugging Face, the eps of a layer's norms is 1e-12, whatever `norm_eps` is; the classifier
drops out as the hidden states do; every model has a pooler, also where no head reads it.

Heads and feed-forward units cannot shrink between products in groups: each group reads and gives an
equal part, and one of them would become smaller than the others.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flax import linen as nn

from effjax.layers.attention import SelfAttention
from effjax.layers.feedforward import FeedForward
from effjax.layers.linear import GroupedLinear
from effjax.layers.norm import LayerNorm
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.encoder import initializer
from effjax.models.layer_fields import uniform_layers
from effjax.models.postnorm import PostNormBlock, PostNormEncoder, axes, embedding_rows
from effjax.table import Axis, Row, grouped, linear, norm
from effjax.types import Array

LAYER = "transformer.encoder.layers.{i}"

NAMES = {
    "word": "transformer.embeddings.word_embeddings.weight",
    "position": "transformer.embeddings.position_embeddings.weight",
    "token_type": "transformer.embeddings.token_type_embeddings.weight",
    "embedding_norm": "transformer.embeddings.LayerNorm",
    "query": f"{LAYER}.attention.query",
    "key": f"{LAYER}.attention.key",
    "value": f"{LAYER}.attention.value",
    "output": f"{LAYER}.post_attention.conv1d",
    "attention_norm": f"{LAYER}.post_attention.layernorm",
    "up": f"{LAYER}.intermediate.conv1d",
    "down": f"{LAYER}.output.conv1d",
    "feedforward_norm": f"{LAYER}.output.layernorm",
    "pooler": "transformer.pooler.dense",
}

FIELDS = {
    **{ours: theirs for ours, theirs in bert.FIELDS.items() if ours != "classifier_dropout"},
    "embedding": "embedding_size",
    "query_groups": "q_groups",
    "key_groups": "k_groups",
    "value_groups": "v_groups",
    "output_groups": "post_attention_groups",
    "up_groups": "intermediate_groups",
    "down_groups": "output_groups",
}

DEFAULTS = {
    **{name: value for name, value in bert.DEFAULTS.items() if name != "classifier_dropout"},
    "embedding_size": 768,
    "q_groups": 4,
    "k_groups": 4,
    "v_groups": 4,
    "post_attention_groups": 1,
    "intermediate_groups": 4,
    "output_groups": 4,
}

LAYER_EPS = 1e-12
"""Of the norms to which Hugging Face does not hand the config's."""

ATTENTION, FEEDFORWARD = ("query", "key", "value", "output"), ("up", "down")


@dataclass(frozen=True, kw_only=True)
class SqueezeBertConfig(EncoderConfig):
    """A config of SqueezeBERT: in how many groups each product is; with 1, all of its outputs read
    all of its inputs. `output_groups` is of the attention's output.
    """

    query_groups: int
    key_groups: int
    value_groups: int
    output_groups: int
    up_groups: int
    down_groups: int

    def groups(self, products: tuple[str, ...]) -> dict[str, int]:
        """Those of these products."""
        return {name: getattr(self, f"{name}_groups") for name in products}


class ConvolutionAttention(SelfAttention):
    """Attention whose products are in groups, of whole heads or of parts of them.

    Attributes:
        groups: of query, key, value and output.
    """

    groups: Mapping[str, int]

    def linear(
        self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> Callable[..., Array]:
        """One of the products of this layer."""
        if self.groups[name] == 1:
            return super().linear(name, inputs, outputs)
        sizes = (self.groups[name], math.prod(inputs), math.prod(outputs))
        product = GroupedLinear(*sizes, self.dtype, self.kernel_init, name=name)

        def call(x: Array) -> Array:
            batch = x.shape[: x.ndim - len(inputs)]
            return product(x.reshape(*batch, -1)).reshape(*batch, *outputs)

        return call


class ConvolutionFeedForward(FeedForward):
    """A feed-forward network whose products are in groups.

    Attributes:
        groups: of up and down.
    """

    groups: Mapping[str, int]

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Module:
        """One of the two products."""
        if self.groups[name] == 1:
            return super().linear(name, inputs, outputs)
        sizes = (self.groups[name], inputs, outputs)
        return GroupedLinear(*sizes, self.dtype, self.kernel_init, name=name)


class SqueezeBertBlock(PostNormBlock):
    """BERT's layer of such products."""

    config: SqueezeBertConfig

    def make_norm(self) -> nn.Module:
        return LayerNorm(LAYER_EPS)

    def make_attention(self) -> nn.Module:
        return ConvolutionAttention(**self.attention_fields, groups=self.config.groups(ATTENTION))

    def make_feedforward(self) -> nn.Module:
        config = self.config
        sizes = (config.hidden, self.spec.ffn, config.activation)
        how = (self.runtime.dtype, initializer(config))
        return ConvolutionFeedForward(*sizes, *how, config.groups(FEEDFORWARD))


class SqueezeBertEncoder(PostNormEncoder):
    """An encoder of such blocks."""

    block = SqueezeBertBlock


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """As `uniform_layers`.

    Raises:
        ValueError: sizes do not fit each other.
    """
    hidden, ffn = sizes["hidden"], sizes["ffn"]
    if sizes["embedding"] != hidden:
        raise ValueError(
            f"{where}: embedding_size is {sizes['embedding']}; expected hidden_size, {hidden}"
        )
    for name in (*ATTENTION, *FEEDFORWARD):
        widths = (hidden, ffn) if name in FEEDFORWARD else (hidden,)
        if any(width % sizes[f"{name}_groups"] for width in widths):
            raise ValueError(
                f"{where}: {FIELDS[f'{name}_groups']} is {sizes[f'{name}_groups']}; expected a "
                f"divisor of {' and '.join(map(str, widths))}"
            )
    return uniform_layers(sizes, where)


def encoder_rows(config: SqueezeBertConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding, layers and pooler; `decoder` as of `embedding_rows`."""
    D, Y = axes(config)
    rows = embedding_rows(config, NAMES, decoder)
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        names = {name: hf.format(i=i) for name, hf in NAMES.items()}
        rows += layer_rows(layer, spec, config, names)
    if config.pooler:
        rows += linear("pooler/dense", (D,), (Y,), hf=NAMES["pooler"], use="sequence")
    return rows


def layer_rows(
    layer: str, spec: LayerSpec, config: SqueezeBertConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of the layer of this name."""
    D, groups = axes(config)[0], config.groups((*ATTENTION, *FEEDFORWARD))
    heads = (
        Axis("H", spec.heads, f"{layer}/heads", why_fixed(config.groups(ATTENTION))),
        Axis("K", config.head_size),
    )
    F = Axis("F", spec.ffn, f"{layer}/ffn", why_fixed(config.groups(FEEDFORWARD)))

    def rows(part: str, name: str, inputs: tuple[Axis, ...], outputs: tuple[Axis, ...]) -> list:
        return convolution(f"{layer}/{part}/{name}", inputs, outputs, groups[name], names[name])

    return [
        *(row for name in ATTENTION[:3] for row in rows("attention", name, (D,), heads)),
        *rows("attention", "output", heads, (D,)),
        *norm(f"{layer}/attention_norm", D, hf=names["attention_norm"]),
        *rows("feedforward", "up", (D,), (F,)),
        *rows("feedforward", "down", (F,), (D,)),
        *norm(f"{layer}/feedforward_norm", D, hf=names["feedforward_norm"]),
    ]


def why_fixed(groups: Mapping[str, int]) -> str:
    """Why an axis between these products cannot shrink; nothing where none is in groups."""
    if max(groups.values()) == 1:
        return ""
    counts = ", ".join(f"{name} {n}" for name, n in groups.items())
    return f"the products around it are in equal groups ({counts}), which it would leave unequal"


def convolution(
    path: str, inputs: tuple[Axis, ...], outputs: tuple[Axis, ...], groups: int, hf: str
) -> list[Row]:
    """The rows of a product that is a convolution of width 1 in Hugging Face."""
    if groups == 1:
        letters = (" ".join(axis.letter for axis in side) for side in (outputs, inputs))
        pattern = " ".join(f"({side})" for side in letters)
        return linear(path, inputs, outputs, hf=hf, hf_axes=f"{pattern} 1")
    return grouped(path, flat(inputs), flat(outputs), groups, hf=hf, hf_axes="(G O) I 1")


def flat(axes: tuple[Axis, ...]) -> Axis:
    """Heads and their size as one axis."""
    return dataclasses.replace(axes[0], size=math.prod(axis.size for axis in axes))


HEADS = {
    None: HeadSpec(hf_class="SqueezeBertModel", pooler=True),
    "masked-lm": HeadSpec(
        hf_class="SqueezeBertForMaskedLM",
        module=bert.masked_lm,
        rows=partial(bert.masked_lm_rows, **bert.BERT_LM),
        pooler=True,
        decoder=bert.BERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="SqueezeBertForSequenceClassification",
        module=bert.pooled,
        rows=partial(bert.output_rows, hf="classifier"),
        pooler=True,
    ),
    **{
        head: dataclasses.replace(spec, pooler=True)
        for head, spec in bert.family_heads("SqueezeBert").items()
    },
}

SQUEEZEBERT = Architecture(
    name="squeezebert",
    hf_prefix="transformer.",
    heads=HEADS,
    sizes={"uncased": {}},
    config=SqueezeBertConfig,
    fields=FIELDS,
    layers_from=layers_from,
    defaults=DEFAULTS,
    requires={"is_decoder": False},
    module=SqueezeBertEncoder,
    rows=encoder_rows,
)
