"""One row per architecture: how its tiny model differs from the others', and what it cannot do.

The tiny model has the odd sizes of `SIZES`, as far as the architecture has such fields; a row gives
further fields of config.json. `UNSUPPORTED` is the whole list of what an architecture does not
support: everything that is not on it must work, and what is on it must fail as it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIZES = {
    "vocab_size": 97,
    "hidden": 36,
    "depth": 3,
    "heads": 3,
    "ffn": 50,
    "positions": 41,
    "token_types": 3,
    "classifier_dropout": 0.3,
}

UNUSUAL = {
    "vocab_size": 97,
    "hidden": 36,
    "depth": 5,
    "heads": 4,
    "ffn": 50,
    "positions": 41,
    "token_types": 3,
    "activation": "relu",
    "norm_eps": 1e-6,
    "dropout": 0.25,
    "attention_dropout": 0.35,
    "classifier_dropout": 0.45,
    "initializer_range": 0.07,
    "pad_token_id": 4,
    "tie_embeddings": False,
}
"""A value for each field that no architecture has by default."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the contracts need to know of an architecture.

    Attributes:
        fields: of the tiny model's config.json, besides those of `SIZES`.
        unusual: as `UNUSUAL`, for names of fields that only this architecture has.
        lengths: tokens in each row of the tiny batch.
        published: parameters of the bare encoder by size: embeddings and layers, with the pooler
            where the model has one, without any head.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    unusual: Mapping[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = (11, 7, 1)
    published: Mapping[str, int] = field(default_factory=dict)


CONTRACTS = {
    "bert": Contract(published={"base": 109_482_240, "minilm-l6-h384": 22_713_216}),
    "distilbert": Contract(published={"base": 66_362_880}),
    "roberta": Contract(published={"base": 124_645_632}),
    "xlm-roberta": Contract(),
    "convbert": Contract(
        fields={
            "num_attention_heads": 6,
            "embedding_size": 28,
            "conv_kernel_size": 5,
        },
        unusual={"hidden": 40, "embedding": 28, "head_ratio": 1, "kernel_width": 7, "groups": 5},
        published={"small": 13_143_768, "medium-small": 17_475_888, "base": 105_680_520},
    ),
    "deberta-v2": Contract(
        fields={
            "relative_attention": True,
            "position_biased_input": False,
            "norm_rel_ebd": "layer_norm",
            "pos_att_type": "p2c|c2p",
            "share_att_key": True,
            "position_buckets": 6,
            "max_relative_positions": 9,
            "embedding_size": 28,
            "conv_kernel_size": 5,
            "pooler_hidden_act": "tanh",
        },
        unusual={
            "embedding": 28,
            "terms": "c2p",
            "share_att_key": True,
            "conv_activation": "relu",
            "pooler_dropout": 0.15,
            "pooler_activation": "tanh",
            "legacy": False,
            "position_buckets": 10,
            "max_relative_positions": 40,
            "conv_kernel_size": 5,
            "attention_head_size": 9,
            "pooler_hidden_size": 36,
        },
        published={
            "v3-xsmall": 70_682_112,
            "v3-small": 141_304_320,
            "v3-base": 183_831_552,
            "v2-xlarge": 884_593_152,
        },
    ),
}

UNSUPPORTED: Mapping[tuple[str, str], str] = {
    ("convbert", "no-heads"): "every head of the span convolution reads the queries of all heads",
    ("convbert", "extra padding"): "its convolution reads padding, in Hugging Face too",
}
"""By architecture and contract, a part of the message or the reason."""
