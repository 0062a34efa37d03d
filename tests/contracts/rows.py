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
        channels_first: whether the modules of torch's layers return [B, C, L].
        attentions: what torch calls so: softmax(scores + mask), or those scores.
        lengths: tokens in each row of the tiny batch.
        published: parameters of the bare encoder by size: embeddings and layers, with the pooler
            where the model has one, without any head.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    unusual: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.2
    channels_first: bool = False
    attentions: Literal["weights", "scores"] = "weights"
    lengths: tuple[int, ...] = (11, 7, 1)
    published: Mapping[str, int] = field(default_factory=dict)


CONTRACTS = {
    "bert": Contract(published={"base": 109_482_240, "minilm-l6-h384": 22_713_216}),
    "distilbert": Contract(published={"base": 66_362_880}),
    "roberta": Contract(published={"base": 124_645_632}),
    "xlm-roberta": Contract(),
    "camembert": Contract(published={"base": 110_621_952}),
    "albert": Contract(
        fields={"embedding_size": 20, "num_hidden_groups": 2, "inner_group_num": 2},
        unusual={"embedding": 20, "groups": 2, "group_size": 3},
        published={"base": 11_683_584, "large": 17_683_968, "xxlarge": 222_595_584},
    ),
    "electra": Contract(
        fields={"embedding_size": 20},
        unusual={"embedding": 20, "summary_dropout": 0.55},
        published={"small": 13_483_008, "base": 108_891_648, "large": 334_092_288},
    ),
    # Distances on both sides of where the buckets of one distance end and three ranges begin.
    "mpnet": Contract(
        unusual={"pad_token_id": 1}, lengths=(25, 12, 1), published={"base": 109_486_464}
    ),
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
    "modernbert": Contract(
        fields={
            "local_attention": 5,
            "global_attn_every_n_layers": 3,
            "embedding_dropout": 0.1,
            "attention_dropout": 0.1,
            "mlp_dropout": 0.1,
            **dict.fromkeys(("bos_token_id", "cls_token_id"), 0),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
        },
        unusual={
            "hidden": 40,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"]
            + ["sliding_attention"] * 2,
            "window": 11,
            "rope": {
                "full_attention": {"rope_theta": 7.0, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 9.5, "rope_type": "default"},
            },
            "norm_bias": True,
            "attention_bias": True,
            "ffn_bias": True,
            "ffn_dropout": 0.15,
            "head_bias": True,
            "head_activation": "silu",
            "decoder_bias": False,
            "pooling": "mean",
        },
        lengths=(17, 9, 1),
        published={
            "base": 149_014_272,
            "large": 394_781_696,
            "ettin-17m": 16_797_440,
            "ettin-32m": 31_883_136,
            "ettin-68m": 68_144_640,
            "ettin-150m": 149_014_272,
        },
    ),
    "nomic_bert": Contract(
        fields={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        unusual={
            "head_size": 14,
            "rope": {"rope_theta": 7.0, "rope_type": "default"},
        },
        published={"base": 136_731_648},
    ),
    "eurobert": Contract(
        fields={
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 10,
            "attention_dropout": 0.1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "mask_token_id": 2,
        },
        unusual={
            "head_size": 14,
            "kv_heads": 2,
            "rope": {"rope_theta": 7.0, "rope_type": "default"},
            "attention_bias": True,
            "ffn_bias": True,
            "pooling": "mean",
        },
        noise=0.1,
        published={"210m": 211_766_016, "610m": 607_874_688},
    ),
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
        channels_first=True,
        attentions="scores",
        published={"uncased": 51_089_664},
    ),
}

UNSUPPORTED: Mapping[tuple[str, str], str] = {
    ("convbert", "no-heads"): "every head of the span convolution reads the queries of all heads",
    ("convbert", "two factors"): "every channel is convolved for itself",
    ("convbert", "compact factors"): "is a convolution in torch",
    ("convbert", "extra padding"): "its convolution reads padding, in Hugging Face too",
    ("deberta-v2", "compact factors"): "is a convolution in torch",
    ("mpnet", "compact heads"): "mpnet has a table of biases for all 3 heads of a layer",
    ("mobilebert", "extra padding"): "its trigrams read padding, in Hugging Face too",
    ("mobilebert", "narrower masked-lm"): "the masked-LM head splits the hidden vector",
    ("mobilebert", "narrower pretraining"): "the masked-LM head splits the hidden vector",
    ("squeezebert", "narrower"): "its . groups tie what it reads to what it gives",
    ("squeezebert", "two factors"): "groups tie what it reads to what it gives",
    ("squeezebert", "compact factors"): "is a convolution in torch",
    ("squeezebert", "pruning"): "the products around it are in equal groups",
    ("convbert", "n of m"): "attention/convolution/depthwise/kernel has 5 along its inputs",
    ("squeezebert", "n of m"): "attention/value/kernel has 9 along its inputs",
    ("convbert", "wanda"): "attention/convolution/depthwise/kernel reads",
    ("squeezebert", "wanda"): "attention/query/kernel reads",
}
"""By architecture and contract, a part of the message or the reason."""
