"""ConvBERT: half of the attention heads are a convolution whose kernel follows from the text.

Source: arXiv 2008.02496. The feed-forward network may be grouped (section 3.3); word vectors are
narrow and projected, as ELECTRA's. As Hugging Face and the authors have it, the convolution reads
padding: the last W // 2 tokens before the padding of a row read it in every layer, and through
them all others do, so that a row's outputs depend on how far it is padded, and those of packed
rows are the ones of each example unpadded. Hugging Face's multiple choice reads the last token of
a padded row, padding or not, and so does this one; in packed rows it is the example's last token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flax import linen as nn

from effjax.layers.convolution import MixedAttention, of_one_segment
from effjax.layers.feedforward import GroupedFeedForward
from effjax.layers.heads import DenseClassifier, PooledClassifier
from effjax.models import bert, electra, roberta
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.encoder import initializer
from effjax.models.layer_fields import same_layer, size_of_heads
from effjax.models.postnorm import PostNormBlock, PostNormEncoder, axes, embedding_rows
from effjax.table import Axis, Row, grouped, linear, norm
from effjax.types import Array, Float, Int, Shared

ATTENTION = "convbert.encoder.layer.{i}.attention"
CONVOLUTION = f"{ATTENTION}.self.key_conv_attn_layer"

NAMES = {
    **{name: hf.replace("bert.", "convbert.", 1) for name, hf in bert.NAMES.items()},
    "projection": "convbert.embeddings_project",
    "depthwise": f"{CONVOLUTION}.depthwise.weight",
    "span_key": f"{CONVOLUTION}.pointwise.weight",
    "span_key_bias": f"{CONVOLUTION}.bias",
    "weights": f"{ATTENTION}.self.conv_kernel_layer",
    "span_value": f"{ATTENTION}.self.conv_out_layer",
}

FIELDS = {
    **bert.FIELDS,
    "embedding": "embedding_size",
    "head_ratio": "head_ratio",
    "kernel_width": "conv_kernel_size",
    "groups": "num_groups",
}

DEFAULTS = {
    **bert.DEFAULTS,
    "pad_token_id": 1,
    "embedding_size": 768,
    "head_ratio": 2,
    "conv_kernel_size": 9,
    "num_groups": 1,
}

REQUIRES = {"is_decoder": False, "add_cross_attention": False}

SUMMARY = {"summary_type": "last", "summary_use_proj": False, "summary_activation": None}
"""Fields that only multiple choice reads, with the only values that it is supported with."""

SIZES = {
    "small": {**bert.size(256, 12), "embedding_size": 128},
    "medium-small": {**bert.size(384, 12, heads=8), "embedding_size": 128, "num_groups": 2},
    "base": bert.size(768, 12),
}


@dataclass(frozen=True, kw_only=True)
class ConvBertConfig(EncoderConfig):
    """What only ConvBERT has.

    Attributes:
        head_ratio: how many of Hugging Face's `num_attention_heads` make one head here.
        kernel_width: W, the tokens that the convolution sees, odd.
        groups: of the feed-forward network, which do not mix.
    """

    head_ratio: int = 2
    kernel_width: int = 9
    groups: int = 1

    @property
    def whole_heads(self) -> int:
        return super().whole_heads // 2

    def filled_by(self, heads: int) -> int:
        return 2 * super().filled_by(heads)


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Config fields: a layer has `heads` // `head_ratio` attention heads, at least one, and as many
    of convolution, which share out the hidden size.

    Raises:
        ValueError: they do not, or the groups or the width of the kernel do not fit.
    """
    rest = dict(sizes)
    depth, heads, ffn = (rest.pop(name) for name in ("depth", "heads", "ffn"))
    width, groups, hidden = rest["kernel_width"], rest["groups"], rest["hidden"]
    if width % 2 == 0:
        raise ValueError(f"{where}: conv_kernel_size is {width}; expected an odd number")
    if hidden % groups or ffn % groups:
        raise ValueError(
            f"{where}: num_groups is {groups}; expected a divisor of hidden size {hidden} "
            f"and intermediate size {ffn}"
        )
    spec = LayerSpec(heads=max(heads // rest["head_ratio"], 1), ffn=ffn)
    head_size = size_of_heads(hidden, 2 * spec.heads, where)
    return {**rest, "head_size": head_size, "layers": (spec,) * depth}


def layers_to(name: str, config: EncoderConfig) -> dict[str, Any]:
    """The way back, with heads that `head_ratio` divides: the same model, where it did not.

    Raises:
        ValueError: Hugging Face has no words for the layers.
    """
    assert isinstance(config, ConvBertConfig)
    layer = same_layer(name, config)
    if not layer.ffn:
        raise ValueError(
            f"{name} in Hugging Face wants a feed-forward network; this model has none"
        )
    heads = layer.heads * config.head_ratio
    return {"depth": config.num_layers, "heads": heads, "ffn": layer.ffn}


class ConvBertBlock(PostNormBlock):
    """A post-norm layer of mixed attention and a feed-forward network that may be grouped."""

    config: ConvBertConfig

    def make_attention(self) -> nn.Module:
        return MixedAttention(**self.attention_fields, width=self.config.kernel_width)

    def make_feedforward(self) -> nn.Module:
        config = self.config
        if config.groups == 1:
            return super().make_feedforward()
        return GroupedFeedForward(
            config.hidden,
            self.spec.ffn,
            config.activation,
            self.runtime.dtype,
            initializer(config),
            config.groups,
        )


class ConvBertEncoder(PostNormEncoder):
    """An encoder of such layers."""

    config: ConvBertConfig

    block = ConvBertBlock

    def share(self, fields: Mapping[str, Array]) -> Shared:
        shared = super().share(fields)
        if "segment_ids" not in fields:
            return shared
        same_BLW = of_one_segment(fields["segment_ids"], self.config.kernel_width)
        return {**shared, "neighbours": same_BLW}

    def example_vectors(
        self,
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
    ) -> Float[Array, "examples D"]:
        """The vector of the first token; in multiple choice that of the last, of padded rows even
        if it is padding.
        """
        if self.config.head != "multiple-choice":
            return super().example_vectors(x_BLD, fields, starts)
        if starts is None:
            return x_BLD[:, -1]
        segment_BL = fields["segment_ids"]
        length_BL = (segment_BL[:, :, None] == segment_BL[:, None, :]).sum(-1)
        last = starts.ravel() + length_BL.ravel()[starts.ravel()] - 1
        return x_BLD.reshape(-1, x_BLD.shape[-1])[last]


def encoder_rows(config: EncoderConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding and layers."""
    assert isinstance(config, ConvBertConfig)
    rows = embedding_rows(config, NAMES, decoder)
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        names = {name: hf.format(i=i) for name, hf in NAMES.items()}
        rows += attention_rows(f"{layer}/attention", layer, spec, config, names)
        rows += norm(f"{layer}/attention_norm", axes(config)[0], hf=names["attention_norm"])
        rows += feedforward_rows(layer, spec, config, names)
        rows += norm(f"{layer}/feedforward_norm", axes(config)[0], hf=names["feedforward_norm"])
    return rows


def attention_rows(
    path: str, layer: str, spec: LayerSpec, config: ConvBertConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of a `MixedAttention`.

    No head can go without changing others: the weights of every head of the convolution follow from
    the queries and keys of all of them, and attention shares the queries.
    """
    fixed = "every head of the span convolution reads the queries of all heads"
    D, W, S = axes(config)[0], Axis("W", config.kernel_width), Axis("S", 2)
    H, K = Axis("H", spec.heads, f"{layer}/heads", fixed), Axis("K", config.head_size)
    both, span = Axis("I", spec.heads * config.head_size), f"{path}/convolution"
    rows = [
        row
        for name in ("query", "key", "value")
        for row in linear(f"{path}/{name}", (D,), (H, K), hf=names[name])
    ]
    key, bias = (names["span_key"],), (names["span_key_bias"],)
    depthwise = (names["depthwise"],)
    return [
        *rows,
        Row(
            f"{span}/depthwise/kernel",
            "kernel",
            (W, D),
            1,
            depthwise,
            "D 1 W",
            ("token",),
            whole="every channel is convolved for itself",
        ),
        Row(f"{span}/key/kernel", "kernel", (D, H, K), 1, key, "(H K) D 1", ("token",)),
        Row(f"{span}/key/bias", "bias", (H, K), 0, bias, "(H K) 1", ("none",)),
        *linear(f"{span}/weights", (both,), (H, W), hf=names["weights"]),
        *linear(f"{span}/value", (D,), (H, K), hf=names["span_value"]),
        *linear(f"{path}/output", (S, H, K), (D,), hf=names["attention_output"]),
    ]


def feedforward_rows(
    layer: str, spec: LayerSpec, config: ConvBertConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of the feed-forward network, grouped or not."""
    D, F = axes(config)[0], Axis("F", spec.ffn, f"{layer}/ffn")
    up, down = f"{layer}/feedforward/up", f"{layer}/feedforward/down"
    if config.groups == 1:
        return [
            *linear(up, (D,), (F,), hf=names["up"]),
            *linear(down, (F,), (D,), hf=names["down"]),
        ]
    each = {"groups": config.groups, "hf_axes": "G I O"}
    return [
        *grouped(up, D, F, hf=names["up"], **each),
        *grouped(down, F, D, hf=names["down"], **each),
    ]


def classifier(config: EncoderConfig, dtype: str) -> DenseClassifier:
    """The head over [CLS]: a dense layer with the model's activation, then the classes."""
    return roberta.classifier(config, dtype, activation=config.activation)


def choice(config: EncoderConfig, dtype: str) -> PooledClassifier:
    """The head over the last token."""
    return PooledClassifier(config.hidden, 1, 0.0, dtype, initializer(config))


def choice_rows(config: EncoderConfig) -> list[Row]:
    """Its rows. Raises a ValueError for a config.json that asks for another summary of the row."""
    given = config.extra_fields
    for name, value in SUMMARY.items():
        if given.get(name, value) != value:
            raise ValueError(
                f"{name} is {given[name]!r}; multiple choice of convbert wants {value!r}"
            )
    return bert.output_rows(config, hf="classifier", classes=1)


HEADS = {
    None: HeadSpec(hf_class="ConvBertModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="ConvBertForMaskedLM",
        module=partial(bert.masked_lm, activation="gelu"),
        rows=partial(bert.masked_lm_rows, **electra.ELECTRA_LM),
        pooler=False,
        decoder=electra.ELECTRA_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="ConvBertForSequenceClassification",
        module=classifier,
        rows=roberta.classifier_rows,
        pooler=False,
    ),
    **bert.family_heads("ConvBert"),
    "multiple-choice": HeadSpec(
        hf_class="ConvBertForMultipleChoice", module=choice, rows=choice_rows, pooler=False
    ),
}

CONVBERT = Architecture(
    name="convbert",
    hf_prefix="convbert.",
    heads=HEADS,
    sizes=SIZES,
    config=ConvBertConfig,
    fields=FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    defaults=DEFAULTS,
    requires=REQUIRES,
    module=ConvBertEncoder,
    rows=encoder_rows,
)
