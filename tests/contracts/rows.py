"""One row per architecture: how its tiny model differs from the others', and what it cannot do.

The tiny model has the odd sizes of `SIZES`, as far as the architecture has such fields; a row gives
further fields of config.json. `UNSUPPORTED` is the whole list of what an architecture does not
support: everything that is not on it must work, and what is on it must fail as it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
        noise: standard deviation of what is added to every parameter of the tiny model; where no
            norm bounds the hidden states they grow with it, and rounding with them.
        lengths: tokens in each row of the tiny batch.
        attentions: what torch calls so: softmax(scores + mask), or SqueezeBERT's scores + mask.
        published: parameters of the bare encoder by size: embeddings and layers, with the pooler
            where the model has one, without any head.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    unusual: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.2
    lengths: tuple[int, ...] = (11, 7, 1)
    attentions: Literal["weights", "scores"] = "weights"
    published: Mapping[str, int] = field(default_factory=dict)


CONTRACTS = {
    "bert": Contract(published={"base": 109_482_240, "minilm-l6-h384": 22_713_216}),
    "distilbert": Contract(published={"base": 66_362_880}),
    "roberta": Contract(published={"base": 124_645_632}),
    "xlm-roberta": Contract(),
    "mobilebert": Contract(
        fields={
            "embedding_size": 14,
            "intra_bottleneck_size": 30,
            "num_feedforward_networks": 3,
            "hidden_act": "gelu",  # a unit of relu may answer to no token of so small a batch
        },
        unusual={
            "embedding": 17,
            "bottleneck": 20,
            "bottleneck_attention": True,
            "shared_bottleneck": False,
            "networks": 2,
            "normalization": "layer_norm",
            "classifier_activation": False,
        },
        noise=0.1,
        published={"uncased": 24_581_888, "tiny": 15_485_696},
    ),
    "squeezebert": Contract(
        fields={
            "embedding_size": 36,
            "q_groups": 2,
            "k_groups": 3,
            "v_groups": 4,
            "intermediate_groups": 2,
            "output_groups": 2,
        },
        unusual={
            "embedding": 36,
            "query_groups": 2,
            "key_groups": 3,
            "value_groups": 6,
            "output_groups": 2,
            "up_groups": 2,
            "down_groups": 1,
        },
        attentions="scores",
        published={"uncased": 51_089_664},
    ),
}

UNSUPPORTED: Mapping[tuple[str, str], str] = {
    ("mobilebert", "extra padding"): "a row's last token reads the vector of the padding behind it",
    ("squeezebert", "pruning"): "the products around it are in equal groups",
}
"""By architecture and contract, a part of the message or the reason."""
