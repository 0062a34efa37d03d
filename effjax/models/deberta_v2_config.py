"""The configuration of DeBERTa-v2 and -v3, and what config.json says of it.

Half of the fields are none of transformers' config class: its model reads them where they are
there. What no released checkpoint has otherwise is required.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from effjax.models import bert
from effjax.models.base import Activation, EncoderConfig, LayerSpec
from effjax.models.layer_fields import uniform_fields, uniform_layers

FIELDS = {
    **{name: hf for name, hf in bert.FIELDS.items() if name != "classifier_dropout"},
    "classifier_dropout": "cls_dropout",
    "embedding": "embedding_size",
    "terms": "pos_att_type",
    "share_att_key": "share_att_key",
    "conv_activation": "conv_act",
    "pooler_dropout": "pooler_dropout",
    "pooler_activation": "pooler_hidden_act",
    "legacy": "legacy",
    # Of these `layers_from` makes others.
    "position_buckets": "position_buckets",
    "max_relative_positions": "max_relative_positions",
    "conv_kernel_size": "conv_kernel_size",
    "attention_head_size": "attention_head_size",
    "pooler_hidden_size": "pooler_hidden_size",
}

DEFAULTS = {
    "vocab_size": 128100,
    "hidden_size": 1536,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "intermediate_size": 6144,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-7,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "cls_dropout": None,
    "embedding_size": None,
    "relative_attention": False,
    "position_biased_input": True,
    "norm_rel_ebd": "none",
    "pos_att_type": None,
    "share_att_key": False,
    "position_buckets": -1,
    "max_relative_positions": -1,
    "conv_kernel_size": 0,
    "conv_groups": 1,
    "conv_act": "tanh",
    "attention_head_size": None,
    "pooler_hidden_size": None,
    "pooler_dropout": 0.0,
    "pooler_hidden_act": "gelu",
    "legacy": True,
}
"""Those of transformers' config, and of its model for what the config has not."""

REQUIRES = {
    "relative_attention": True,
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "conv_groups": 1,
}

RELEASED = {
    **REQUIRES,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "position_buckets": 256,
}

V2 = {"conv_kernel_size": 3, "conv_act": "gelu"}

SIZES = {
    "v3-xsmall": {**bert.size(384, 12), **RELEASED},
    "v3-small": {**bert.size(768, 6), **RELEASED},
    "v3-base": {**bert.size(768, 12), **RELEASED},
    "v3-large": {**bert.size(1024, 24), **RELEASED},
    "v2-xlarge": {**bert.size(1536, 24), **RELEASED, **V2},
    "v2-xxlarge": {**bert.size(1536, 48), **RELEASED, **V2},
}


@dataclass(frozen=True, kw_only=True)
class DebertaLayer(LayerSpec):
    """What only DeBERTa's layers have.

    Attributes:
        kernel_width: of the convolution that is added to the layer's output, odd; 0 for none.
    """

    kernel_width: int = 0


@dataclass(frozen=True, kw_only=True)
class DebertaConfig(EncoderConfig):
    """What only DeBERTa-v2 has.

    Attributes:
        layers: as any model's; the first alone may have a convolution.
        terms: of position in a score: what a content says to a position, "c2p", and a position to a
            content.
        share_att_key: whether positions are projected by the weights that project contents.
        buckets: of distances, on either side; None for one of each distance.
        longest_distance: from which on all are one; None for `positions`.
    """

    layers: tuple[DebertaLayer, ...]
    terms: Literal["p2c|c2p", "c2p|p2c", "c2p", "p2c"]
    share_att_key: bool
    buckets: int | None
    longest_distance: int | None
    conv_activation: Literal[Activation, "tanh"] = "tanh"
    pooler_dropout: float = 0.0
    pooler_activation: Literal[Activation, "tanh"] = "gelu"
    legacy: bool = True

    @property
    def longest(self) -> int:
        """The distance from which on all are one."""
        return self.longest_distance or self.positions

    @property
    def relative_positions(self) -> int:
        """Rows of the table of relative positions."""
        return 2 * (self.buckets or self.longest)


def today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Terms as one string, as older config.json have them; newer ones have a list."""
    terms = fields["pos_att_type"]
    return {**fields, "pos_att_type": "|".join(terms) if isinstance(terms, list) else terms}


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Config fields; a number below 1 says that there are no buckets, or no bound of their own for
    distances.

    Raises:
        ValueError: sizes that Hugging Face has apart do not agree, or distances have no buckets.
    """
    rest = dict(sizes)
    numbers = ("conv_kernel_size", "position_buckets", "max_relative_positions")
    width, buckets, longest = (whole(name, rest.pop(name), where) for name in numbers)
    head_size, pooler_hidden = rest.pop("attention_head_size"), rest.pop("pooler_hidden_size")
    fields = uniform_layers(rest, where)
    for name, value, wanted in (
        ("attention_head_size", head_size, fields["head_size"]),
        ("pooler_hidden_size", pooler_hidden, fields["hidden"]),
    ):
        if value not in (None, wanted):
            raise ValueError(f"{where}: {name} is {value!r}; deberta-v2 is supported with {wanted}")
    if width and (width < 0 or width % 2 == 0):
        raise ValueError(f"{where}: conv_kernel_size is {width}; expected 0 or an odd number")
    fields["buckets"] = buckets if buckets > 0 else None
    fields["longest_distance"] = longest if longest > 0 else None
    check_buckets(fields["buckets"], fields["longest_distance"] or fields["positions"], where)
    layer = DebertaLayer(**vars(fields["layers"][0]))
    first = dataclasses.replace(layer, kernel_width=width)
    return {**fields, "layers": (first, *[layer] * (len(fields["layers"]) - 1))}


def whole(name: str, value: Any, where: str) -> int:
    """The value. Raises a ValueError if it is no whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is {value!r}; expected int")
    return value


def check_buckets(buckets: int | None, longest: int, where: str) -> None:
    """Raises a ValueError for buckets without room for a logarithmic scale."""
    if buckets is not None and not 2 <= buckets < 2 * (longest - 1):
        raise ValueError(
            f"{where}: position_buckets is {buckets}; expected 2 to {2 * longest - 3} for "
            f"distances up to {longest}, or -1"
        )


def layers_to(name: str, config: EncoderConfig) -> dict[str, Any]:
    """The way back. Raises a ValueError where Hugging Face has no words for the layers."""
    assert isinstance(config, DebertaConfig)
    widths = tuple(layer.kernel_width for layer in config.layers)
    if any(widths[1:]):
        raise ValueError(
            f"{name} in Hugging Face has a convolution in layer 0 alone; this model has kernel "
            f"widths {widths}"
        )
    plain = tuple(dataclasses.replace(layer, kernel_width=0) for layer in config.layers)
    return {
        **uniform_fields(name, config.replace(layers=plain)),
        "embedding": config.embedding_size,
        "terms": config.terms.split("|"),
        "position_buckets": config.buckets or -1,
        "max_relative_positions": config.longest_distance or -1,
        "conv_kernel_size": widths[0],
        "attention_head_size": config.head_size,
        "pooler_hidden_size": config.hidden,
    }
