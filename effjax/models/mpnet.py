"""MPNet: BERT's encoder with a bias of relative positions, one table for all layers.

    scores = Q K^T / sqrt(K) + b[head, bucket(key - query)]

Positions begin after the padding index, as in RoBERTa, whose heads these are too. Hugging Face has
the padding index, the 32 buckets and the longest distance, 128, in its code; other values in
config.json are refused.

Source: arXiv 2004.09297, as released, without the two streams that it was pretrained with; the bias
is that of T5, arXiv 1910.10683, section 2.1.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from effjax.layers.relative_bias import BiasedAttention, RelativeBias
from effjax.models import bert, roberta
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.encoder import initializer
from effjax.models.layer_fields import uniform_layers
from effjax.models.postnorm import PostNormBlock, PostNormEncoder, encoder_rows
from effjax.table import Axis, Row, embedding
from effjax.types import Array, Shared

LAYER = "mpnet.encoder.layer.{i}"

NAMES = {
    "word": "mpnet.embeddings.word_embeddings.weight",
    "position": "mpnet.embeddings.position_embeddings.weight",
    "embedding_norm": "mpnet.embeddings.LayerNorm",
    "query": f"{LAYER}.attention.attn.q",
    "key": f"{LAYER}.attention.attn.k",
    "value": f"{LAYER}.attention.attn.v",
    "attention_output": f"{LAYER}.attention.attn.o",
    "attention_norm": f"{LAYER}.attention.LayerNorm",
    "up": f"{LAYER}.intermediate.dense",
    "down": f"{LAYER}.output.dense",
    "feedforward_norm": f"{LAYER}.output.LayerNorm",
    "pooler": "mpnet.pooler.dense",
}

BUCKETS, LONGEST = 32, 128

ABSENT = ("token_types", "classifier_dropout")
"""Fields of BERT's that MPNet does without."""

FIELDS = {ours: theirs for ours, theirs in bert.FIELDS.items() if ours not in ABSENT}

DEFAULTS = {
    **{theirs: bert.DEFAULTS[theirs] for theirs in FIELDS.values()},
    "vocab_size": 30527,
    "pad_token_id": 1,
}

SIZES = {
    "base": {**bert.size(768, 12), "max_position_embeddings": 514, "layer_norm_eps": 1e-5},
}


@dataclass(frozen=True, kw_only=True)
class MPNetLayer(LayerSpec):
    """A layer whose heads have a bias each.

    Attributes:
        columns: the column of the table of biases that is each head's.
    """

    columns: tuple[int, ...]

    tied = ("heads",)

    def shrunk(self, name: str, kept: Sequence[int]) -> LayerSpec:
        small = super().shrunk(name, kept)
        if name != "heads":
            return small
        return dataclasses.replace(small, columns=tuple(self.columns[i] for i in kept))

    def padded(self, heads: int, ffn: int) -> LayerSpec:
        return dataclasses.replace(self, heads=heads, ffn=ffn, columns=tuple(range(heads)))

    def places(self, name: str, count: int) -> Sequence[int]:
        return self.columns if name == "heads" else range(count)


@dataclass(frozen=True, kw_only=True)
class MPNetConfig(EncoderConfig):
    """A config with a table of biases.

    Attributes:
        table_heads: columns of that table; a layer may have fewer heads.
    """

    layers: tuple[MPNetLayer, ...]
    table_heads: int


class MPNetBlock(PostNormBlock):
    """One layer; its attention reads the biases that all layers share."""

    spec: MPNetLayer

    def make_attention(self) -> nn.Module:
        return BiasedAttention(**self.attention_fields, columns=self.spec.columns)


class MPNetEncoder(PostNormEncoder):
    """An encoder of such blocks."""

    block = MPNetBlock

    def setup(self) -> None:
        super().setup()
        config = self.config
        assert isinstance(config, MPNetConfig)
        heads, init = config.table_heads, initializer(config)
        self.relative_bias = RelativeBias(BUCKETS, LONGEST, heads, init)

    def share(self, fields: Mapping[str, Array]) -> Shared:
        return {**super().share(fields), "bias": self.relative_bias(fields["input_ids"])}


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The layers, with the biases of all heads; as of `Architecture.layers_from`."""
    fields = uniform_layers(sizes, where)
    heads = fields["layers"][0].heads
    layer = MPNetLayer(**vars(fields["layers"][0]), columns=tuple(range(heads)))
    return {**fields, "layers": (layer,) * len(fields["layers"]), "table_heads": heads}


def rows(config: EncoderConfig, decoder: str | None) -> list[Row]:
    """The rows of the encoder. The table of biases has a column for every head that there ever was:
    heads go layer by layer, and it is one for all of them.
    """
    assert isinstance(config, MPNetConfig)
    table = embedding(
        "relative_bias/embedding",
        Axis("R", BUCKETS),
        Axis("H", config.table_heads),
        hf="mpnet.encoder.relative_attention_bias.weight",
    )
    return [*table, *encoder_rows(config, NAMES, decoder)]


MPNET = Architecture(
    name="mpnet",
    hf_prefix="mpnet.",
    heads=roberta.heads("MPNet"),
    sizes=SIZES,
    config=MPNetConfig,
    fields=FIELDS,
    layers_from=layers_from,
    constants={"first_position": "after-padding", "token_types": 0},
    defaults=DEFAULTS,
    requires={"relative_attention_num_buckets": BUCKETS, "pad_token_id": 1},
    module=MPNetEncoder,
    rows=rows,
)
