"""ALBERT: BERT's encoder with few weights: words have narrow vectors, and layers share theirs.

    layer i:  group = floor(i / (layers / groups)),  which applies its own weight sets in turn

In the released models there is one group of one set, so that all layers are the same one. A layer
here is one application of a weight set, as it is a hidden state in Hugging Face. "layer_<set>" has
the parameters of a set; what shrinks or gates them does so wherever the set comes.

Source: arXiv 1909.11942, sections 3.1 (embedding, sharing, sentence order) and table 1 (sizes); the
groups are those of the release. Deviation: in training, dropout also follows the feed-forward
network, as in Google's code and not in Hugging Face's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from effjax.layers.heads import Pretraining
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.layer_fields import uniform_fields, uniform_layers
from effjax.models.postnorm import PostNormEncoder, encoder_rows
from effjax.table import Row

LAYER = "albert.encoder.albert_layer_groups.{i}"

NAMES = {
    "word": "albert.embeddings.word_embeddings.weight",
    "position": "albert.embeddings.position_embeddings.weight",
    "token_type": "albert.embeddings.token_type_embeddings.weight",
    "embedding_norm": "albert.embeddings.LayerNorm",
    "projection": "albert.encoder.embedding_hidden_mapping_in",
    "query": f"{LAYER}.attention.query",
    "key": f"{LAYER}.attention.key",
    "value": f"{LAYER}.attention.value",
    "attention_output": f"{LAYER}.attention.dense",
    "attention_norm": f"{LAYER}.attention.LayerNorm",
    "up": f"{LAYER}.ffn",
    "down": f"{LAYER}.ffn_output",
    "feedforward_norm": f"{LAYER}.full_layer_layer_norm",
    "pooler": "albert.pooler",
}

FIELDS = {
    **bert.FIELDS,
    "embedding": "embedding_size",
    "groups": "num_hidden_groups",
    "group_size": "inner_group_num",
    "classifier_dropout": "classifier_dropout_prob",
}

DEFAULTS = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "inner_group_num": 1,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "classifier_dropout_prob": 0.1,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}

SIZES = {
    "base": bert.size(768, 12),
    "large": bert.size(1024, 24),
    "xlarge": bert.size(2048, 24, heads=16),
    "xxlarge": bert.size(4096, 12),
}
"""Those of version 2."""


@dataclass(frozen=True, kw_only=True)
class AlbertLayer(LayerSpec):
    """One application of a weight set.

    Attributes:
        weights: the number of the set.
    """

    weights: int


@dataclass(frozen=True, kw_only=True)
class AlbertConfig(EncoderConfig):
    """A config whose layers share weight sets.

    Attributes:
        group_size: weight sets in a group, which follow one another each time that it comes.
    """

    layers: tuple[AlbertLayer, ...]
    group_size: int = 1

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Where the parameters of each layer are."""
        return tuple(f"layer_{layer.weights}" for layer in self.layers)

    @property
    def factorised(self) -> bool:
        """Always: Hugging Face has the projection between equal widths too."""
        return True


def weight_sets(depth: int, groups: int, group_size: int) -> list[int]:
    """The weight set of each layer, when `depth` times a group comes."""
    come = [int(i / (depth / groups)) for i in range(depth)]  # as transformers rounds it
    return [group * group_size + k for group in come for k in range(group_size)]


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The layers of so many groups, as of `Architecture.layers_from`."""
    rest = dict(sizes)
    depth, groups = rest["depth"], rest.pop("groups")
    if not isinstance(groups, int) or not 1 <= groups <= depth:
        raise ValueError(
            f"{where}: num_hidden_groups is {groups!r}; allowed: 1 to {depth}, the layers"
        )
    fields = uniform_layers(rest, where)
    layer = vars(fields["layers"][0])
    sets = weight_sets(depth, groups, rest["group_size"])
    return {**fields, "layers": tuple(AlbertLayer(**layer, weights=i) for i in sets)}


def layers_to(name: str, config: EncoderConfig) -> dict[str, Any]:
    """The way back: depth and groups, as of `Architecture.layers_to`.

    Raises:
        ValueError: layers differ in size, or their weight sets come in another order than that of
            groups.
    """
    assert isinstance(config, AlbertConfig)
    same = config.replace(layers=tuple(dataclasses.replace(x, weights=0) for x in config.layers))
    fields = uniform_fields(name, same)
    sets = in_order(config.layer_names)
    depth, groups = len(sets) // config.group_size, len(set(sets)) // config.group_size
    if not groups or weight_sets(depth, groups, config.group_size) != sets:
        raise ValueError(
            f"{name} in Hugging Face repeats equal groups of {config.group_size} weight sets; "
            f"this model has the sets {', '.join(map(str, sets))}"
        )
    return {**fields, "depth": depth, "groups": groups}


def in_order(names: Sequence[str]) -> list[int]:
    """The same names as numbers in the order in which they first come: 0 for the first."""
    distinct = list(dict.fromkeys(names))
    return [distinct.index(name) for name in names]


def rows(config: EncoderConfig, decoder: str | None) -> list[Row]:
    """The rows of the encoder, each weight set once."""
    assert isinstance(config, AlbertConfig)
    size = config.group_size
    return encoder_rows(config, NAMES, decoder, lambda i: f"{i // size}.albert_layers.{i % size}")


ALBERT_LM = {
    "dense": "predictions.dense",
    "norm_name": "predictions.LayerNorm",
    "bias": "predictions.bias",
    "decoder": "predictions.decoder.weight",
}


def pretraining(config: EncoderConfig, dtype: str) -> Pretraining:
    """Masked words, and whether the two sentences are in order: as many classes as labels."""
    return Pretraining(bert.masked_lm(config, dtype), bert.pooled(config, dtype))


def pretraining_rows(config: EncoderConfig) -> list[Row]:
    order = bert.output_rows(
        config, hf="sop_classifier.classifier", path="head/next_sentence/output"
    )
    return [*bert.masked_lm_rows(config, path="head/masked_lm", **ALBERT_LM), *order]


HEADS = {
    None: HeadSpec(hf_class="AlbertModel"),
    "masked-lm": HeadSpec(
        hf_class="AlbertForMaskedLM",
        module=bert.masked_lm,
        rows=partial(bert.masked_lm_rows, **ALBERT_LM),
        pooler=False,
        decoder=ALBERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="AlbertForSequenceClassification",
        module=bert.pooled,
        rows=partial(bert.output_rows, hf="classifier"),
        pooler=True,
    ),
    **bert.family_heads("Albert"),
    "pretraining": HeadSpec(
        hf_class="AlbertForPreTraining",
        module=pretraining,
        rows=pretraining_rows,
        pooler=True,
        decoder=ALBERT_LM["decoder"],
    ),
}

ALBERT = Architecture(
    name="albert",
    hf_prefix="albert.",
    heads=HEADS,
    sizes=SIZES,
    config=AlbertConfig,
    fields=FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    defaults=DEFAULTS,
    requires={"position_embedding_type": "absolute"},
    module=PostNormEncoder,
    rows=rows,
)
