"""What a config.json says of layers, for architectures with one size for all of them.

Most say three numbers: how many layers, how many heads in each, how wide the feed-forward network.
"""

from collections.abc import Mapping
from typing import Any

from effjax.models.base import EncoderConfig, LayerSpec

OTHERWISE = "the layout 'compact' is for other sizes"
"""How a model is written that a stock config.json has no words for."""


def uniform_layers(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of an `EncoderConfig`, made of those that an architecture names: `depth`, `heads`
    and `ffn` become its layers, and heads share out the hidden size unless `head_size` is named.

    Raises:
        ValueError: the heads do not fit.
    """
    rest = dict(sizes)
    depth, layer = rest.pop("depth"), LayerSpec(heads=rest.pop("heads"), ffn=rest.pop("ffn"))
    head_size = rest.get("head_size") or size_of_heads(rest["hidden"], layer.heads, where)
    return {**rest, "head_size": head_size, "layers": (layer,) * depth}


def size_of_heads(width: int, heads: int, where: str, name: str = "hidden size") -> int:
    """The size of each head. Raises a ValueError where they do not share out the width."""
    if width % heads:
        raise ValueError(f"{where}: {name} {width} is not a multiple of {heads} attention heads")
    return width // heads


def uniform_fields(name: str, config: EncoderConfig) -> dict[str, Any]:
    """The way back from `uniform_layers`: `depth`, `heads` and `ffn`.

    Raises:
        ValueError: Hugging Face has no words for this model.
    """
    layer = same_layer(name, config)
    if layer.heads * config.head_size != config.hidden or not layer.ffn:
        raise ValueError(
            f"{name} in Hugging Face wants heads x head size = hidden size "
            "and a feed-forward network; "
            f"this model has {layer.heads} x {config.head_size}, hidden {config.hidden}, "
            f"ffn {layer.ffn}; {OTHERWISE}"
        )
    return {"depth": config.num_layers, "heads": layer.heads, "ffn": layer.ffn}


def sized_fields(name: str, config: EncoderConfig) -> dict[str, Any]:
    """The same where config.json also has the size of a head: heads need not fill the hidden size.

    Raises:
        ValueError: Hugging Face has no words for this model.
    """
    layer = same_layer(name, config)
    if not layer.heads or not layer.ffn:
        raise ValueError(
            f"{name} in Hugging Face wants heads and a feed-forward network; "
            f"this model has {layer.heads} heads, ffn {layer.ffn}; {OTHERWISE}"
        )
    return {"depth": config.num_layers, "heads": layer.heads, "ffn": layer.ffn}


def same_layer(name: str, config: EncoderConfig) -> LayerSpec:
    """The one LayerSpec of all layers.

    Raises:
        ValueError: they differ, for which Hugging Face has no words.
    """
    if len(set(config.layers)) != 1:
        sizes = ", ".join(f"layer {i}: {spec}" for i, spec in enumerate(config.layers))
        raise ValueError(
            f"{name} in Hugging Face has one size for all layers, which the layout 'dense' makes "
            f"of them; this model has {sizes}"
        )
    return config.layers[0]
