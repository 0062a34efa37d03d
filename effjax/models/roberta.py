"""RoBERTa, XLM-R and CamemBERT: BERT's encoder with positions that begin after the padding index,
and heads of their own.

Source: arXiv 1907.11692 (RoBERTa), 1911.02116 (XLM-R), 1911.03894 (CamemBERT).
"""

import dataclasses
from functools import partial

from effjax.layers.heads import DenseClassifier
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig
from effjax.models.encoder import initializer
from effjax.models.postnorm import PostNormEncoder, axes, encoder_rows
from effjax.table import Row, linear

NAMES = {name: hf.replace("bert.", "roberta.", 1) for name, hf in bert.NAMES.items()}

DEFAULTS = {**bert.DEFAULTS, "vocab_size": 50265, "pad_token_id": 1}

RELEASED = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}

SIZES = {"base": {**bert.size(768, 12), **RELEASED}, "large": {**bert.size(1024, 24), **RELEASED}}

ROBERTA_LM = {
    "dense": "lm_head.dense",
    "norm_name": "lm_head.layer_norm",
    "bias": "lm_head.bias",
    "decoder": "lm_head.decoder.weight",
}


def classifier(config: EncoderConfig, dtype: str, *, activation: str = "tanh") -> DenseClassifier:
    """The head over <s>: a dense layer with an activation, then the classes."""
    dropout, classes = bert.classifier_dropout(config), len(config.labels)
    return DenseClassifier(
        config.hidden, classes, activation, dropout, dropout, dtype, initializer(config)
    )


def classifier_rows(config: EncoderConfig) -> list[Row]:
    D, Y = axes(config)
    dense = linear("head/dense", (D,), (Y,), hf="classifier.dense", use="sequence")
    return [*dense, *bert.output_rows(config, hf="classifier.out_proj")]


def heads(prefix: str) -> dict:
    """The heads of classes named `prefix`ForX."""
    return {
        None: HeadSpec(hf_class=f"{prefix}Model"),
        "masked-lm": HeadSpec(
            hf_class=f"{prefix}ForMaskedLM",
            module=partial(bert.masked_lm, activation="gelu"),
            rows=partial(bert.masked_lm_rows, **ROBERTA_LM),
            pooler=False,
            decoder=ROBERTA_LM["decoder"],
        ),
        "sequence-classification": HeadSpec(
            hf_class=f"{prefix}ForSequenceClassification",
            module=classifier,
            rows=classifier_rows,
            pooler=False,
        ),
        **bert.family_heads(prefix),
    }


ROBERTA = Architecture(
    name="roberta",
    hf_prefix="roberta.",
    heads=heads("Roberta"),
    sizes=SIZES,
    fields=bert.FIELDS,
    constants={"first_position": "after-padding"},
    defaults=DEFAULTS,
    requires=bert.REQUIRES,
    module=PostNormEncoder,
    rows=lambda config, decoder: encoder_rows(config, NAMES, decoder),
)


def sibling(name: str, prefix: str, words: int) -> Architecture:
    """The same architecture under another model_type, released with a vocabulary of this size."""
    return dataclasses.replace(
        ROBERTA,
        name=name,
        heads=heads(prefix),
        sizes={size: {**fields, "vocab_size": words} for size, fields in SIZES.items()},
        defaults={**DEFAULTS, "vocab_size": 30522},
    )


XLM_ROBERTA = sibling("xlm-roberta", "XLMRoberta", 250002)

CAMEMBERT = sibling("camembert", "Camembert", 32005)
