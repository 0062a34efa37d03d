"""ModernBERT, and the Ettin encoders, which have its architecture.

A pre-norm encoder with rotary positions, GeGLU and, in two layers out of three, local attention,
whose rotation has a base of its own. Layer 0 has no norm before attention, since the embedding ends
with one.

Source: arXiv 2412.13663, section 2.1 and appendix; sizes of Ettin: arXiv 2507.11412. Deviations:
new weights are all drawn from N(0, initializer_range^2), where the release cuts that off at
`initializer_cutoff_factor` and draws output projections more narrowly; an input of padding alone
has a mean of zero, where Hugging Face divides by zero.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.attention import FusedSelfAttention
from effjax.layers.embedding import NormedWordEmbedding
from effjax.layers.feedforward import FusedGatedFeedForward
from effjax.layers.local import LocalAttention, local_key, local_mask
from effjax.layers.norm import LayerNorm
from effjax.layers.prediction import (
    Transform,
    TransformedClassifier,
    TransformedTokenClassifier,
    TransformedWordHead,
)
from effjax.layers.rotary import RotaryAttention
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.encoder import initializer, is_token
from effjax.models.modernbert_config import (
    DEFAULTS,
    FIELDS,
    SIZES,
    ModernBertConfig,
    ModernBertLayer,
    layers_from,
    layers_to,
    today,
)
from effjax.models.postnorm import axes, word_rows
from effjax.models.prenorm import PreNormBlock, PreNormEncoder, word_head_rows
from effjax.table import Axis, Row, Use, linear, norm
from effjax.types import Array, Float, Int, Shared

LAYER = "model.layers.{i}"


class GlobalAttention(RotaryAttention, FusedSelfAttention):
    """Rotary attention from one product for queries, keys and values."""


class WindowAttention(LocalAttention, GlobalAttention):
    """The same within a window."""


class ModernBertBlock(PreNormBlock):
    """One layer."""

    config: ModernBertConfig
    spec: ModernBertLayer

    window_attention = WindowAttention

    def make_norm(self) -> nn.Module:
        return LayerNorm(self.config.norm_eps, self.config.norm_bias)

    def make_attention(self) -> nn.Module:
        spec, bias = self.spec, self.config.attention_bias
        given = {**self.attention_fields, "rope_base": spec.rope_base, "bias": bias}
        if spec.reach is None:
            return GlobalAttention(**given)
        return self.window_attention(**given, reach=spec.reach)

    def make_feedforward(self) -> nn.Module:
        config = self.config
        return FusedGatedFeedForward(
            config.hidden,
            self.spec.ffn,
            config.activation,
            config.ffn_bias,
            self.runtime.dtype,
            initializer(config),
            config.ffn_dropout,
        )

    @property
    def attended_dropout(self) -> float:
        return self.config.attention_dropout

    def attention_input(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return self.attention_norm(x_BLD) if self.spec.normed else x_BLD


class ModernBertEncoder(PreNormEncoder):
    """Embedding, layers, last norm and head."""

    config: ModernBertConfig

    block = ModernBertBlock

    def make_embedding(self) -> nn.Module:
        config = self.config
        return NormedWordEmbedding(
            config.vocab_size,
            config.hidden,
            config.dropout,
            self.runtime.dtype,
            initializer(config),
            config.norm_eps,
            config.norm_bias,
        )

    def make_norm(self) -> nn.Module:
        return LayerNorm(self.config.norm_eps, self.config.norm_bias)

    def share(self, fields: Mapping[str, Array]) -> Shared:
        """Who may attend to whom, globally and in each kind of window, and the rotations."""
        token_BL, segment_BL = is_token(fields), fields.get("segment_ids")
        reaches = {spec.reach for spec in self.config.layers if spec.reach is not None}
        local = {local_key(r): local_mask(token_BL, segment_BL, r) for r in sorted(reaches)}
        return {**super().share(fields), **local}

    def example_vectors(
        self,
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
    ) -> Float[Array, "examples D"]:
        """The first token of a choice is, as in Hugging Face, the first that is not padding."""
        first = self.config.pooling == "cls" and starts is None
        if first and self.config.head == "multiple-choice":
            first_B = is_token(fields).argmax(-1)
            return jnp.take_along_axis(x_BLD, first_B[:, None, None], axis=1)[:, 0]
        return super().example_vectors(x_BLD, fields, starts)


def transform(config: ModernBertConfig, dtype: str) -> Transform:
    """What every head begins with."""
    return Transform(
        config.hidden,
        config.head_activation,
        config.head_bias,
        config.norm_eps,
        config.norm_bias,
        dtype,
        initializer(config),
    )


def masked_lm(config: ModernBertConfig, dtype: str) -> TransformedWordHead:
    return TransformedWordHead(
        config.hidden,
        config.vocab_size,
        config.tie_embeddings,
        config.decoder_bias,
        dtype,
        initializer(config),
        transform(config, dtype),
    )


def classifier(
    config: ModernBertConfig,
    dtype: str,
    *,
    kind: type[TransformedClassifier] = TransformedClassifier,
    classes: int | None = None,
) -> TransformedClassifier:
    """A classifier of this kind; into the config's labels unless `classes` is given."""
    return kind(
        transform(config, dtype),
        config.hidden,
        classes or len(config.labels),
        config.classifier_dropout or 0.0,
        dtype,
        initializer(config),
    )


def rows(config: ModernBertConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding, layers and last norm."""
    words = "model.embeddings.tok_embeddings.weight"
    D = axes(config)[0]
    made = word_rows(config, D, words, decoder)
    made += norm("embedding/norm", D, hf="model.embeddings.norm", bias=config.norm_bias)
    for i, (layer, spec) in enumerate(zip(config.layer_names, config.layers, strict=True)):
        made += layer_rows(layer, spec, config, LAYER.format(i=i))
    return made + norm("final_norm", D, hf="model.final_norm", bias=config.norm_bias)


def layer_rows(layer: str, spec: ModernBertLayer, config: ModernBertConfig, hf: str) -> list[Row]:
    """The rows of the layer of this name, called `hf` there."""
    D, K = axes(config)[0], Axis("K", config.head_size)
    H, F = Axis("H", spec.heads, f"{layer}/heads"), Axis("F", spec.ffn, f"{layer}/ffn")
    three, two = Axis("S", 3), Axis("S", 2)
    biased, fed = config.attention_bias, config.ffn_bias
    before = norm(f"{layer}/attention_norm", D, hf=f"{hf}.attn_norm", bias=config.norm_bias)
    return [
        *(before if spec.normed else []),
        *linear(f"{layer}/attention/qkv", (D,), (three, H, K), hf=f"{hf}.attn.Wqkv", bias=biased),
        *linear(f"{layer}/attention/output", (H, K), (D,), hf=f"{hf}.attn.Wo", bias=biased),
        *norm(f"{layer}/feedforward_norm", D, hf=f"{hf}.mlp_norm", bias=config.norm_bias),
        *linear(f"{layer}/feedforward/gate_up", (D,), (two, F), hf=f"{hf}.mlp.Wi", bias=fed),
        *linear(f"{layer}/feedforward/down", (F,), (D,), hf=f"{hf}.mlp.Wo", bias=fed),
    ]


def transform_rows(config: ModernBertConfig, use: Use) -> list[Row]:
    """The rows of `transform`, of a product done so often."""
    (D, Y), path = axes(config), "head/transform"
    dense = linear(f"{path}/dense", (D,), (Y,), hf="head.dense", use=use, bias=config.head_bias)
    return [*dense, *norm(f"{path}/norm", Y, hf="head.norm", bias=config.norm_bias)]


def masked_lm_rows(config: ModernBertConfig) -> list[Row]:
    """Transform, output bias and, where it is not tied, the output projection."""
    words = word_head_rows(config, axes(config)[1], hf="decoder", bias=config.decoder_bias)
    return [*transform_rows(config, "token"), *words]


def classifier_rows(
    config: ModernBertConfig, *, classes: int | None = None, use: Use = "sequence"
) -> list[Row]:
    D, C = axes(config)[0], Axis("C", classes or len(config.labels))
    return [
        *transform_rows(config, use),
        *linear("head/output", (D,), (C,), hf="classifier", use=use),
    ]


def head(
    task: str, *, classes: int | None = None, kind: type[TransformedClassifier], use: Use
) -> HeadSpec:
    """The spec of a classifier."""
    return HeadSpec(
        hf_class=f"ModernBertFor{task}",
        module=partial(classifier, kind=kind, classes=classes),
        rows=partial(classifier_rows, classes=classes, use=use),
        pooler=False,
    )


EXAMPLE: dict[str, Any] = {"kind": TransformedClassifier, "use": "sequence"}
TOKEN: dict[str, Any] = {"kind": TransformedTokenClassifier, "use": "token"}

HEADS = {
    None: HeadSpec(hf_class="ModernBertModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="ModernBertForMaskedLM",
        module=masked_lm,
        rows=masked_lm_rows,
        pooler=False,
        decoder="decoder.weight",
    ),
    "sequence-classification": head("SequenceClassification", **EXAMPLE),
    "token-classification": head("TokenClassification", **TOKEN),
    "question-answering": head("QuestionAnswering", classes=2, **TOKEN),
    "multiple-choice": head("MultipleChoice", classes=1, **EXAMPLE),
}

MODERNBERT = Architecture(
    name="modernbert",
    hf_prefix="model.",
    heads=HEADS,
    sizes=SIZES,
    config=ModernBertConfig,
    fields=FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    today=today,
    constants={"token_types": 0},
    defaults=DEFAULTS,
    module=ModernBertEncoder,
    rows=rows,
)
