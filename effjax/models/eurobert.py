"""EuroBERT: a multilingual pre-norm encoder with RMSNorm, rotary positions, SwiGLU and grouped
queries, built as LLaMA is but looking both ways.

Source: arXiv 2503.05500, section 2.1 and table of shapes in the appendix. Deviation: an input of
padding alone has a mean of zero, where Hugging Face divides by zero.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.embedding import WordEmbedding
from effjax.layers.feedforward import GatedFeedForward
from effjax.layers.heads import DenseClassifier, TokenClassifier, WordHead
from effjax.layers.norm import RMSNorm
from effjax.layers.pooling import mean_of_tokens
from effjax.layers.rotary import GroupedQueryAttention
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.encoder import initializer, is_token
from effjax.models.layer_fields import OTHERWISE
from effjax.models.postnorm import axes, word_rows
from effjax.models.prenorm import (
    PreNormBlock,
    PreNormConfig,
    PreNormEncoder,
    word_head_rows,
)
from effjax.models.rotary_fields import RotaryLayer, rope_today, rotary_fields, rotary_layers
from effjax.table import Axis, Row, Use, linear, norm
from effjax.types import Array, Float, Gates, Int

LAYER = "model.layers.{i}"

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "head_size": "head_dim",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn": "intermediate_size",
    "rope": "rope_parameters",
    "positions": "max_position_embeddings",
    "activation": "hidden_act",
    "norm_eps": "rms_norm_eps",
    "attention_bias": "attention_bias",
    "ffn_bias": "mlp_bias",
    "attention_dropout": "attention_dropout",
    "pooling": "classifier_pooling",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
    "tie_embeddings": "tie_word_embeddings",
}

BASE = 10_000.0
"""What Hugging Face takes for rotation."""

DEFAULTS = {
    "vocab_size": 128256,
    "hidden_size": 768,
    "head_dim": None,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": None,
    "intermediate_size": 3072,
    "rope_parameters": None,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "classifier_pooling": "late",
    "initializer_range": 0.02,
    "pad_token_id": 128001,
    "tie_word_embeddings": False,
}

REQUIRES = {"is_decoder": False, "hidden_dropout": 0.0, "pretraining_tp": 1}

RELEASED = {"rope_parameters": {"rope_theta": 250_000.0, "rope_type": "default"}}

SIZES = {
    "210m": RELEASED,
    "610m": {
        **RELEASED,
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "num_attention_heads": 18,
        "num_key_value_heads": 6,
        "intermediate_size": 4096,
    },
}


@dataclass(frozen=True, kw_only=True)
class EuroBertLayer(RotaryLayer):
    """One layer.

    Attributes:
        kv_heads: keys and values; as many heads as come to each share it.
    """

    kv_heads: int

    def shrunk(self, name: str, kept: Sequence[int]) -> LayerSpec:
        """The layer with only these groups, each with all its heads, or with only these units."""
        if name != "kv_heads":
            return super().shrunk(name, kept)
        return dataclasses.replace(self, kv_heads=len(kept), heads=len(kept) * self.group)

    @property
    def group(self) -> int:
        """Heads that share a key and a value."""
        return self.heads // self.kv_heads if self.kv_heads else 0


@dataclass(frozen=True, kw_only=True)
class EuroBertConfig(PreNormConfig):
    """A config of such layers.

    Attributes:
        ffn_bias: also of the output projection of the masked LM, as in Hugging Face.
        pooling: an example's class is that of its first token, of the mean of its tokens, or the
            mean of what is said of every token, "late".
    """

    layers: tuple[EuroBertLayer, ...]
    pooling: Literal["bos", "mean", "late"]

    def padded(self) -> EncoderConfig:
        whole, group = super().padded(), max(1, *(layer.group for layer in self.layers))
        layers = (
            dataclasses.replace(layer, kv_heads=layer.heads // group) for layer in whole.layers
        )
        return whole.replace(layers=tuple(layers))


class EuroBertBlock(PreNormBlock):
    """One layer."""

    config: EuroBertConfig
    spec: EuroBertLayer

    def make_norm(self) -> nn.Module:
        return RMSNorm(self.config.norm_eps)

    def make_attention(self) -> nn.Module:
        spec, bias = self.spec, self.config.attention_bias
        rotary = {"rope_base": spec.rope_base, "bias": bias}
        return GroupedQueryAttention(**self.attention_fields, **rotary, groups=spec.kv_heads)

    def make_feedforward(self) -> nn.Module:
        config, dtype = self.config, self.runtime.dtype
        shape = config.hidden, self.spec.ffn, config.activation
        return GatedFeedForward(*shape, config.ffn_bias, dtype, initializer(config))

    def head_gate(self, gates: Gates) -> Float[Array, "H"] | None:
        """That of its group."""
        gate_G = gates.get("kv_heads")
        return None if gate_G is None else jnp.repeat(gate_G, self.spec.group)


class EuroBertEncoder(PreNormEncoder):
    """Embedding, layers, last norm and head."""

    config: EuroBertConfig

    block = EuroBertBlock

    def make_embedding(self) -> nn.Module:
        config, dtype = self.config, self.runtime.dtype
        return WordEmbedding(config.vocab_size, config.hidden, 0.0, dtype, initializer(config))

    def make_norm(self) -> nn.Module:
        return RMSNorm(self.config.norm_eps)

    def answer(
        self,
        x_BPD: Float[Array, "B P D"],
        vector_BD: Float[Array, "..."],
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
        deterministic: bool,
    ) -> dict[str, Float[Array, "..."]]:
        """Pooled late, every token is classified as the vector of an example would be."""
        late = self.config.head == "sequence-classification" and self.config.pooling == "late"
        given = (x_BPD, x_BLD if late else vector_BD, x_BLD, fields, starts, deterministic)
        answers = super().answer(*given)
        if not late:
            return answers
        segments = fields.get("segment_ids")
        return {"logits": mean_of_tokens(answers["logits"], is_token(fields), segments, starts)}


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The config fields of uniform layers with groups of heads.

    Raises:
        ValueError: heads, groups or rotation do not fit.
    """
    rest = dict(sizes)
    groups = rest.pop("kv_heads")
    made = rotary_layers(rest, where)
    heads = made["layers"][0].heads
    if heads % groups:
        raise ValueError(
            f"{where}: num_key_value_heads is {groups}; expected a divisor of {heads} heads"
        )
    layers = tuple(EuroBertLayer(**vars(spec), kv_heads=groups) for spec in made["layers"])
    return {**made, "layers": layers}


def layers_to(name: str, config: EuroBertConfig) -> dict[str, Any]:
    """The way back.

    Raises:
        ValueError: Hugging Face has no words for this model.
    """
    fields = rotary_fields(name, config)
    if config.hidden % fields["heads"]:
        raise ValueError(
            f"{name} in Hugging Face wants heads that divide the hidden size; "
            f"this model has {fields['heads']} heads, hidden {config.hidden}; {OTHERWISE}"
        )
    return {**fields, "kv_heads": config.layers[0].kv_heads}


def today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json of transformers 4, for which the checkpoints brought code of their own."""
    rest = rope_today(fields, BASE)
    rest["num_key_value_heads"] = rest["num_key_value_heads"] or rest["num_attention_heads"]
    if "clf_pooling" in rest:
        rest["classifier_pooling"] = rest.pop("clf_pooling")
    return rest


def masked_lm(config: EuroBertConfig, dtype: str) -> WordHead:
    shape = config.hidden, config.vocab_size, config.tie_embeddings, config.ffn_bias
    return WordHead(*shape, dtype, initializer(config))


def classifier(config: EuroBertConfig, dtype: str) -> DenseClassifier:
    """A dense layer with GELU, then the classes."""
    classes = len(config.labels)
    return DenseClassifier(config.hidden, classes, "gelu", 0.0, 0.0, dtype, initializer(config))


def tokens(config: EuroBertConfig, dtype: str) -> TokenClassifier:
    return TokenClassifier(config.hidden, len(config.labels), 0.0, dtype, initializer(config))


def rows(config: EuroBertConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding, layers and last norm."""
    D = axes(config)[0]
    made = word_rows(config, D, "model.embed_tokens.weight", decoder)
    for i, (layer, spec) in enumerate(zip(config.layer_names, config.layers, strict=True)):
        made += layer_rows(layer, spec, config, LAYER.format(i=i))
    return made + norm("final_norm", D, hf="model.norm", bias=False)


def layer_rows(layer: str, spec: EuroBertLayer, config: EuroBertConfig, hf: str) -> list[Row]:
    """The rows of the layer of this name, called `hf` there. Groups of heads are what can go, H is
    the heads of a group.
    """
    D, K = axes(config)[0], Axis("K", config.head_size)
    G, H = Axis("G", spec.kv_heads, f"{layer}/kv_heads"), Axis("H", spec.group)
    F = Axis("F", spec.ffn, f"{layer}/ffn")
    at, fed = f"{layer}/attention", f"{layer}/feedforward"
    biased, wide = config.attention_bias, config.ffn_bias
    return [
        *norm(f"{layer}/attention_norm", D, hf=f"{hf}.input_layernorm", bias=False),
        *linear(f"{at}/query", (D,), (G, H, K), hf=f"{hf}.self_attn.q_proj", bias=biased),
        *linear(f"{at}/key", (D,), (G, K), hf=f"{hf}.self_attn.k_proj", bias=biased),
        *linear(f"{at}/value", (D,), (G, K), hf=f"{hf}.self_attn.v_proj", bias=biased),
        *linear(f"{at}/output", (G, H, K), (D,), hf=f"{hf}.self_attn.o_proj", bias=biased),
        *norm(f"{layer}/feedforward_norm", D, hf=f"{hf}.post_attention_layernorm", bias=False),
        *linear(f"{fed}/gate", (D,), (F,), hf=f"{hf}.mlp.gate_proj", bias=wide),
        *linear(f"{fed}/up", (D,), (F,), hf=f"{hf}.mlp.up_proj", bias=wide),
        *linear(f"{fed}/down", (F,), (D,), hf=f"{hf}.mlp.down_proj", bias=wide),
    ]


def masked_lm_rows(config: EuroBertConfig) -> list[Row]:
    return word_head_rows(config, axes(config)[0], hf="lm_head", bias=config.ffn_bias)


def classifier_rows(config: EuroBertConfig) -> list[Row]:
    """Pooled late, both products are done for every token."""
    D, Y = axes(config)
    use: Use = "token" if config.pooling == "late" else "sequence"
    dense = linear("head/dense", (D,), (Y,), hf="dense", use=use)
    return [*dense, *bert.output_rows(config, hf="classifier", use=use)]


HEADS = {
    None: HeadSpec(hf_class="EuroBertModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="EuroBertForMaskedLM",
        module=masked_lm,
        rows=masked_lm_rows,
        pooler=False,
        decoder="lm_head.weight",
    ),
    "sequence-classification": HeadSpec(
        hf_class="EuroBertForSequenceClassification",
        module=classifier,
        rows=classifier_rows,
        pooler=False,
    ),
    "token-classification": HeadSpec(
        hf_class="EuroBertForTokenClassification",
        module=tokens,
        rows=partial(bert.output_rows, hf="classifier", use="token"),
        pooler=False,
    ),
}

EUROBERT = Architecture(
    name="eurobert",
    hf_prefix="model.",
    heads=HEADS,
    sizes=SIZES,
    config=EuroBertConfig,
    fields=FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    today=today,
    constants={"token_types": 0, "dropout": 0.0},
    defaults=DEFAULTS,
    requires=REQUIRES,
    module=EuroBertEncoder,
    rows=rows,
)
