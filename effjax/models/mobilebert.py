"""MobileBERT, and the teacher that it learns from, IB-BERT_LARGE: config.json, table and heads.

Source: arXiv 2004.02984, table 1; the sizes are the configs that its authors released. What the
layers compute is in `effjax.models.bottleneck`.

As in Hugging Face, the trigram of a padded row's last token reads the vector of the padding behind
it. Without padding it reads zeros there; so it does at the end of every packed segment. Hugging
Face's class cannot run the teacher (its queries are made for inputs as wide as the bottleneck, and
it hands them the hidden states), so `config_to_hf` refuses it.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from effjax.layers.heads import Pretraining, WideMaskedLMHead
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig
from effjax.models.bottleneck import (
    SPLIT,
    MobileBertConfig,
    MobileBertEncoder,
    MobileBertLayer,
    encoder_rows,
    word_axis,
)
from effjax.models.layer_fields import same_layer, size_of_heads
from effjax.models.postnorm import axes
from effjax.table import Axis, Row, linear, norm

LAYER = "mobilebert.encoder.layer.{i}"

NAMES = {
    "word": "mobilebert.embeddings.word_embeddings.weight",
    "position": "mobilebert.embeddings.position_embeddings.weight",
    "token_type": "mobilebert.embeddings.token_type_embeddings.weight",
    "projection": "mobilebert.embeddings.embedding_transformation",
    "embedding_norm": "mobilebert.embeddings.LayerNorm",
    "bottleneck": f"{LAYER}.bottleneck.input",
    "attention_bottleneck": f"{LAYER}.bottleneck.attention",
    "query": f"{LAYER}.attention.self.query",
    "key": f"{LAYER}.attention.self.key",
    "value": f"{LAYER}.attention.self.value",
    "attention_output": f"{LAYER}.attention.output.dense",
    "attention_norm": f"{LAYER}.attention.output.LayerNorm",
    "earlier_feedforward": f"{LAYER}.ffn.{{j}}",
    "feedforward": LAYER,
    "output": f"{LAYER}.output.bottleneck.dense",
    "output_norm": f"{LAYER}.output.bottleneck.LayerNorm",
    "pooler": "mobilebert.pooler.dense",
}

FIELDS = {
    **bert.FIELDS,
    "embedding": "embedding_size",
    "bottleneck": "intra_bottleneck_size",
    "bottleneck_attention": "use_bottleneck_attention",
    "shared_bottleneck": "key_query_shared_bottleneck",
    "networks": "num_feedforward_networks",
    "normalization": "normalization_type",
    "classifier_activation": "classifier_activation",
}

LAYER_FIELDS = {"networks": int, "bottleneck_attention": bool, "shared_bottleneck": bool}

DEFAULTS = {
    **bert.DEFAULTS,
    "hidden_size": 512,
    "num_hidden_layers": 24,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.0,
    "embedding_size": 128,
    "intra_bottleneck_size": 128,
    "use_bottleneck_attention": False,
    "key_query_shared_bottleneck": True,
    "num_feedforward_networks": 4,
    "normalization_type": "no_norm",
    "classifier_activation": True,
}

SIZES = {
    "uncased": {"classifier_activation": False},
    "tiny": {
        "use_bottleneck_attention": True,
        "key_query_shared_bottleneck": False,
        "num_feedforward_networks": 2,
        "classifier_activation": False,
    },
    "ib-bert-large": {
        "intra_bottleneck_size": 1024,
        "intermediate_size": 4096,
        "num_feedforward_networks": 1,
        "key_query_shared_bottleneck": False,
        "normalization_type": "layer_norm",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
    },
}

READS = {(False, True): "shared", (True, False): "bottleneck", (False, False): "hidden"}
"""`attention_reads` by use_bottleneck_attention and key_query_shared_bottleneck."""

MAX_NETWORKS = 100
"""Feed-forward networks in a layer; a config.json that asks for more is taken to be damaged."""


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Config fields: layers, the size of their heads, and what attention reads.

    Raises:
        ValueError: sizes do not fit each other, or ask for what no model of this kind has.
    """
    rest = dict(sizes)
    depth, networks, heads, ffn = (rest.pop(n) for n in ("depth", "networks", "heads", "ffn"))
    reads = rest.pop("bottleneck_attention"), rest.pop("shared_bottleneck")
    if reads not in READS:
        raise ValueError(
            f"{where}: use_bottleneck_attention and key_query_shared_bottleneck are both true; "
            "the attention reads one bottleneck or the other"
        )
    if rest["embedding"] >= rest["hidden"]:
        raise ValueError(
            f"{where}: embedding_size is {rest['embedding']}; expected less than "
            f"hidden_size, {rest['hidden']}"
        )
    if networks > MAX_NETWORKS:
        raise ValueError(
            f"{where}: num_feedforward_networks is {networks}; expected at most {MAX_NETWORKS}"
        )
    head_size = size_of_heads(rest["bottleneck"], heads, where, "intra_bottleneck_size")
    layer = MobileBertLayer(heads=heads, ffn=ffn, ffns=(ffn,) * (networks - 1))
    layers = (layer,) * depth
    return {**rest, "attention_reads": READS[reads], "head_size": head_size, "layers": layers}


def layers_to(name: str, config: MobileBertConfig) -> dict[str, Any]:
    """The way back.

    Raises:
        ValueError: Hugging Face has no words for this model, or cannot run it.
    """
    layer = same_layer(name, config)
    assert isinstance(layer, MobileBertLayer)
    one_width = set(layer.networks.values()) == {layer.ffn} and layer.ffn
    if layer.heads * config.head_size != config.bottleneck or not one_width:
        raise ValueError(
            f"{name} in Hugging Face wants heads x head size = intra_bottleneck_size and "
            f"feed-forward networks of one width; this model has {layer}, head size "
            f"{config.head_size}, intra_bottleneck_size {config.bottleneck}"
        )
    if config.attention_reads == "hidden" and config.bottleneck != config.hidden:
        raise ValueError(
            f"{name} in Hugging Face cannot read queries from the hidden states unless they are as "
            f"wide as the bottleneck; this model has {config.hidden} and {config.bottleneck}"
        )
    reads = next(flags for flags, kind in READS.items() if kind == config.attention_reads)
    flags = dict(zip(("bottleneck_attention", "shared_bottleneck"), reads, strict=True))
    counts = {"depth": config.num_layers, "networks": len(layer.networks)}
    return {**counts, "heads": layer.heads, "ffn": layer.ffn, **flags}


def today(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the field that Hugging Face derives from others."""
    return {name: value for name, value in fields.items() if name != "true_hidden_size"}


masked_lm = partial(bert.masked_lm, kind=WideMaskedLMHead)


def masked_lm_rows(config: EncoderConfig, *, path: str = "head") -> list[Row]:
    """Transform, norm, output bias, and both parts of the output projection."""
    D, Y = (dataclasses.replace(axis, fixed=SPLIT) for axis in axes(config))
    V = Axis("V", config.vocab_size, "vocabulary")
    X = Axis("X", config.hidden - config.embedding_size)
    lm, beyond = bert.BERT_LM, "cls.predictions.dense"
    return [
        *linear(f"{path}/dense", (D,), (Y,), hf=lm["dense"]),
        *norm(f"{path}/norm", Y, hf=lm["norm_name"]),
        *bert.decoder_rows(
            config, word_axis(config), path=path, bias=lm["bias"], decoder=lm["decoder"]
        ),
        *linear(f"{path}/beyond_words", (X,), (V,), hf=beyond, bias=False, hf_axes="X V"),
    ]


def pretraining(config: EncoderConfig, dtype: str) -> Pretraining:
    return Pretraining(masked_lm(config, dtype), bert.next_sentence(config, dtype))


def pretraining_rows(config: EncoderConfig) -> list[Row]:
    pair = bert.output_rows(
        config, hf="cls.seq_relationship", classes=2, path="head/next_sentence/output"
    )
    return [*masked_lm_rows(config, path="head/masked_lm"), *pair]


HEADS = {
    None: HeadSpec(hf_class="MobileBertModel"),
    "masked-lm": HeadSpec(
        hf_class="MobileBertForMaskedLM",
        module=masked_lm,
        rows=masked_lm_rows,
        pooler=False,
        decoder=bert.BERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="MobileBertForSequenceClassification",
        module=bert.pooled,
        rows=partial(bert.output_rows, hf="classifier"),
        pooler=True,
    ),
    **bert.family_heads("MobileBert"),
    "next-sentence-prediction": HeadSpec(
        hf_class="MobileBertForNextSentencePrediction",
        module=bert.next_sentence,
        rows=partial(bert.output_rows, hf="cls.seq_relationship", classes=2),
        pooler=True,
    ),
    "pretraining": HeadSpec(
        hf_class="MobileBertForPreTraining",
        module=pretraining,
        rows=pretraining_rows,
        pooler=True,
        decoder=bert.BERT_LM["decoder"],
    ),
}

MOBILEBERT = Architecture(
    name="mobilebert",
    hf_prefix="mobilebert.",
    heads=HEADS,
    sizes=SIZES,
    config=MobileBertConfig,
    fields=FIELDS,
    layer_fields=LAYER_FIELDS,
    layers_from=layers_from,
    layers_to=layers_to,
    today=today,
    defaults=DEFAULTS,
    requires={"use_bottleneck": True, "trigram_input": True, "is_decoder": False},
    module=MobileBertEncoder,
    rows=lambda config, decoder: encoder_rows(config, NAMES, decoder),
)
