"""DeBERTa-v2 and -v3: attention that scores contents and relative positions apart.

Source: arXiv 2006.03654 (DeBERTa; v2 as released), 2111.09543 (v3, which is the same encoder
pretrained otherwise). There are no absolute positions: the distance of two tokens of a segment is
the same wherever in a packed row it lies. v2's larger sizes add a convolution to the first layer's
output (`conv_kernel_size`), which does not read padding: padding is zeroed where it is embedded.

Hugging Face has two masked-LM heads: `legacy`, by default, whose weights no checkpoint of the
authors has, and theirs, always tied to the word embedding. Deviation: the outputs for padding,
which nothing reads, are others.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.convolution import neighbours, of_one_segment
from effjax.layers.disentangled import (
    DisentangledAttention,
    RelativeEmbedding,
    SeparatePositions,
    relative_rows,
)
from effjax.layers.embedding import NormLastEmbedding
from effjax.layers.feedforward import ACTIVATIONS
from effjax.layers.heads import DenseClassifier, MaskedLMHead, TokenClassifier
from effjax.layers.linear import Linear
from effjax.layers.norm import LayerNorm
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig, LayerSpec, LayerTrace
from effjax.models.deberta_v2_config import (
    DEFAULTS,
    FIELDS,
    REQUIRES,
    SIZES,
    DebertaConfig,
    DebertaLayer,
    layers_from,
    layers_to,
    today,
)
from effjax.models.encoder import initializer, is_token
from effjax.models.postnorm import (
    PostNormBlock,
    PostNormEncoder,
    axes,
    embedding_axis,
    layer_rows,
    word_rows,
)
from effjax.table import Axis, Row, embedding, linear, norm, vector
from effjax.types import Array, Float, Gates, Shared

ATTENTION = "deberta.encoder.layer.{i}.attention"

NAMES = {
    **{name: hf.replace("bert.", "deberta.", 1) for name, hf in bert.NAMES.items()},
    "projection": "deberta.embeddings.embed_proj",
    "relative": "deberta.encoder.rel_embeddings.weight",
    "relative_norm": "deberta.encoder.LayerNorm",
    "query": f"{ATTENTION}.self.query_proj",
    "key": f"{ATTENTION}.self.key_proj",
    "value": f"{ATTENTION}.self.value_proj",
    "position_key": f"{ATTENTION}.self.pos_key_proj",
    "position_query": f"{ATTENTION}.self.pos_query_proj",
    "convolution": "deberta.encoder.conv.conv",
    "convolution_norm": "deberta.encoder.conv.LayerNorm",
}


class DebertaBlock(PostNormBlock):
    """A post-norm layer of disentangled attention. Where it has a convolution, of its input, the
    output is LayerNorm(y + activation(convolution(x))).
    """

    config: DebertaConfig
    spec: DebertaLayer

    def setup(self) -> None:
        super().setup()
        if self.spec.kernel_width:
            inputs, outputs = (self.spec.kernel_width, self.config.hidden), (self.config.hidden,)
            dtype, kernel_init = self.runtime.dtype, initializer(self.config)
            self.convolution = Linear(inputs, outputs, dtype, kernel_init=kernel_init)
            self.convolution_norm = LayerNorm(self.config.norm_eps)

    def make_attention(self) -> nn.Module:
        config, given = self.config, self.attention_fields
        kind = DisentangledAttention if config.share_att_key else SeparatePositions
        terms = tuple(config.terms.split("|"))
        return kind(**given, terms=terms, position_dropout=config.dropout)

    def __call__(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, gates: Gates, deterministic: bool
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        y_BLD, trace = super().__call__(x_BLD, shared, gates, deterministic)
        if not self.spec.kernel_width:
            return y_BLD, trace
        around = neighbours(x_BLD, self.spec.kernel_width, shared.get("neighbours"))
        convolved_BLD = self.drop(self.convolution(jnp.stack(around, axis=2)), deterministic)
        activation = ACTIVATIONS[self.config.conv_activation]
        y_BLD = self.convolution_norm(y_BLD + activation(convolved_BLD))
        return y_BLD, dataclasses.replace(trace, hidden=y_BLD)


class DebertaEncoder(PostNormEncoder):
    """An encoder of such layers and a table of relative positions."""

    config: DebertaConfig

    block = DebertaBlock

    def setup(self) -> None:
        super().setup()
        config, init = self.config, initializer(self.config)
        size = config.relative_positions
        self.relative = RelativeEmbedding(size, config.hidden, config.norm_eps, init)

    def make_embedding(self) -> nn.Module:
        config = self.config
        return NormLastEmbedding(
            config.vocab_size,
            0,
            config.token_types,
            config.embedding_size,
            config.hidden if config.factorised else None,
            config.norm_eps,
            config.dropout,
            self.runtime.dtype,
            initializer(config),
        )

    def embed(self, fields: Mapping[str, Array], deterministic: bool) -> Float[Array, "B L D"]:
        """The embedding, with zeros for padding."""
        x_BLD = super().embed(fields, deterministic)
        return x_BLD * is_token(fields)[..., None].astype(x_BLD.dtype)

    def share(self, fields: Mapping[str, Array]) -> Shared:
        """The mask, the rows of relative positions within the reach of this length, and which of
        them each distance has: the same in all segments of all rows.
        """
        shared, config = super().share(fields), self.config
        length = fields["input_ids"].shape[1]
        rows = relative_rows(length, config.buckets, config.longest)
        relative_RD = self.relative()[rows.min() : rows.max() + 1]
        shared = {**shared, "relative": relative_RD, "distances": jnp.asarray(rows - rows.min())}
        width = max(layer.kernel_width for layer in config.layers)
        if not width or "segment_ids" not in fields:
            return shared
        return {**shared, "neighbours": of_one_segment(fields["segment_ids"], width)}


def encoder_rows(config: EncoderConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding, relative positions and layers."""
    assert isinstance(config, DebertaConfig)
    D, R = axes(config)[0], Axis("R", config.relative_positions)
    rows = embedding_rows(config, decoder)
    rows += embedding("relative/embedding", R, D, hf=NAMES["relative"])
    rows += norm("relative/norm", D, hf=NAMES["relative_norm"])
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        names = {name: hf.format(i=i) for name, hf in NAMES.items()}
        rows += layer_rows(layer, spec, D, config.head_size, names)
        rows += position_rows(layer, spec, config, names)
        rows += convolution_rows(layer, spec, config)
    return projecting_positions(rows) if config.share_att_key else rows


def embedding_rows(config: DebertaConfig, decoder: str | None) -> list[Row]:
    """The rows of a `NormLastEmbedding`; `decoder` as in `postnorm.embedding_rows`."""
    D, E = axes(config)[0], embedding_axis(config)
    rows = word_rows(config, E, NAMES["word"], decoder)
    if config.token_types:
        types = Axis("T", config.token_types)
        rows += embedding("embedding/token_type/embedding", types, E, hf=NAMES["token_type"])
    if E != D:
        rows += linear("embedding/projection", (E,), (D,), hf=NAMES["projection"], bias=False)
    return [*rows, *norm("embedding/norm", D, hf=NAMES["embedding_norm"])]


def position_rows(
    layer: str, spec: LayerSpec, config: DebertaConfig, names: Mapping[str, str]
) -> list[Row]:
    """The rows of the projections of positions, where these have their own."""
    if config.share_att_key:
        return []
    D, H, K = axes(config)[0], Axis("H", spec.heads, f"{layer}/heads"), Axis("K", config.head_size)
    read = {"c2p": "position_key", "p2c": "position_query"}
    return [
        row
        for term in config.terms.split("|")
        for row in linear(
            f"{layer}/attention/{read[term]}", (D,), (H, K), hf=names[read[term]], use="relative"
        )
    ]


def projecting_positions(rows: list[Row]) -> list[Row]:
    """The rows with a further use of the kernels that project positions as well as contents."""
    kernels = ("/attention/query/kernel", "/attention/key/kernel")
    return [
        dataclasses.replace(row, uses=(*row.uses, "relative"))
        if row.path.endswith(kernels)
        else row
        for row in rows
    ]


def convolution_rows(layer: str, spec: LayerSpec, config: DebertaConfig) -> list[Row]:
    """The rows of the layer's convolution, if it has one."""
    assert isinstance(spec, DebertaLayer)
    if not spec.kernel_width:
        return []
    (D, Y), W = axes(config), Axis("W", spec.kernel_width)
    path, hf = f"{layer}/convolution", NAMES["convolution"]
    weight = (f"{hf}.weight",)
    return [
        Row(f"{path}/kernel", "kernel", (W, D, Y), 2, weight, "Y D W", ("token",)),
        *vector(f"{path}/bias", "bias", (Y,), hf=f"{hf}.bias"),
        *norm(f"{path}_norm", D, hf=NAMES["convolution_norm"]),
    ]


AUTHORS_LM = {
    "dense": "lm_predictions.lm_head.dense",
    "norm_name": "lm_predictions.lm_head.LayerNorm",
    "bias": "lm_predictions.lm_head.bias",
    "decoder": "lm_predictions.lm_head.decoder.weight",
}


def tied(config: EncoderConfig) -> EncoderConfig:
    """The config for the authors' masked-LM head, which has no output projection of its own.

    Raises:
        ValueError: the word vectors are not as wide as the hidden states, which it multiplies.
    """
    if config.embedding_size != config.hidden:
        raise ValueError(
            f"embedding_size is {config.embedding_size}; masked-lm of deberta-v2 with legacy false "
            f"wants the hidden size, {config.hidden}"
        )
    return config.replace(tie_embeddings=True)


def masked_lm(config: EncoderConfig, dtype: str) -> MaskedLMHead:
    assert isinstance(config, DebertaConfig)
    return bert.masked_lm(config if config.legacy else tied(config), dtype)


def masked_lm_rows(config: EncoderConfig) -> list[Row]:
    assert isinstance(config, DebertaConfig)
    if config.legacy:
        return bert.masked_lm_rows(config, **bert.BERT_LM)
    return bert.masked_lm_rows(tied(config), **AUTHORS_LM)


def classifier(config: EncoderConfig, dtype: str, *, classes: int | None = None) -> DenseClassifier:
    """The head over [CLS]: a dense layer with an activation of its own, then the classes."""
    assert isinstance(config, DebertaConfig)
    return DenseClassifier(
        config.hidden,
        classes or len(config.labels),
        config.pooler_activation,
        bert.classifier_dropout(config),
        config.pooler_dropout,
        dtype,
        initializer(config),
    )


def classifier_rows(config: EncoderConfig, *, classes: int | None = None) -> list[Row]:
    D, Y = axes(config)
    dense = linear("head/dense", (D,), (Y,), hf="pooler.dense", use="sequence")
    return [*dense, *bert.output_rows(config, hf="classifier", classes=classes)]


def tokens(config: EncoderConfig, dtype: str) -> TokenClassifier:
    """The head over every token; it drops as hidden states do."""
    return bert.tokens(config.replace(classifier_dropout=None), dtype)


HEADS = {
    None: HeadSpec(hf_class="DebertaV2Model", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="DebertaV2ForMaskedLM",
        module=masked_lm,
        rows=masked_lm_rows,
        pooler=False,
        decoder=bert.BERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="DebertaV2ForSequenceClassification",
        module=classifier,
        rows=classifier_rows,
        pooler=False,
    ),
    **bert.family_heads("DebertaV2"),
    "multiple-choice": HeadSpec(
        hf_class="DebertaV2ForMultipleChoice",
        module=partial(classifier, classes=1),
        rows=partial(classifier_rows, classes=1),
        pooler=False,
    ),
}
HEADS["token-classification"] = dataclasses.replace(HEADS["token-classification"], module=tokens)

DEBERTA_V2 = Architecture(
    name="deberta-v2",
    hf_prefix="deberta.",
    heads=HEADS,
    sizes=SIZES,
    config=DebertaConfig,
    fields=FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    today=today,
    defaults=DEFAULTS,
    requires=REQUIRES,
    unread=("deberta.embeddings.position_embeddings.weight",),
    module=DebertaEncoder,
    rows=encoder_rows,
)
