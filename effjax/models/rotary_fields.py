"""Layers with rotary positions, and what a config.json says of them.

transformers 5 has `rope_parameters`, one object with `rope_theta` and `rope_type`; transformers 4
had `rope_theta` and `rope_scaling`. Only plain rotation is supported, without any scaling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from effjax.layers.rotary import rotation, rotation_key
from effjax.models.base import EncoderConfig, LayerSpec
from effjax.models.layer_fields import sized_fields, uniform_layers
from effjax.types import Array, Float, Int

KNOWN = {"rope_theta", "rope_type", "type"}
"""What an object of `rope_parameters` may hold."""


@dataclass(frozen=True, kw_only=True)
class RotaryLayer(LayerSpec):
    """A layer whose attention knows places by rotation.

    Attributes:
        rope_base: of the angles' frequencies; the larger, the slower the slowest pair turns.
    """

    rope_base: float


@dataclass(frozen=True, kw_only=True)
class RotaryConfig(EncoderConfig):
    """A config of such layers."""

    layers: tuple[RotaryLayer, ...]


def rotations(
    config: RotaryConfig, position_ids: Int[Array, "B L"]
) -> dict[str, Float[Array, "..."]]:
    """The table of every base that there is in the layers, once."""
    bases = sorted({spec.rope_base for spec in config.layers})
    size = config.head_size
    return {rotation_key(base): rotation(position_ids, size, base) for base in bases}


def rotary_layers(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Config fields with one `RotaryLayer` for all layers, whose base is that of `rope`.

    Raises:
        ValueError: the heads do not fit, or rotation is not plain.
    """
    rest = dict(sizes)
    base = rope_base(rest.pop("rope"), f"{where}: rope_parameters")
    made = uniform_layers(rest, where)
    check_pairs(made["head_size"], where)
    layers = tuple(RotaryLayer(**vars(spec), rope_base=base) for spec in made["layers"])
    return {**made, "layers": layers}


def rotary_fields(name: str, config: RotaryConfig) -> dict[str, Any]:
    """The way back. Raises as `sized_fields`."""
    fields = sized_fields(name, config)
    return {**fields, "rope": rope_parameters(config.layers[0].rope_base)}


def check_pairs(head_size: int, where: str) -> None:
    """Raises a ValueError for heads that are not of pairs."""
    if head_size % 2:
        raise ValueError(
            f"{where}: heads of {head_size}; rotary positions turn pairs, so even ones"
        )


def rope_base(parameters: Any, where: str) -> float:
    """The base in an object of `rope_parameters`.

    Raises:
        ValueError: it is no such object, or asks for more than plain rotation.
    """
    if not isinstance(parameters, Mapping):
        raise ValueError(f"{where} is {parameters!r}; expected an object with rope_theta")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    unknown = sorted(name for name in set(parameters) - KNOWN if parameters[name] is not None)
    if kind != "default" or unknown:
        asked = f"rope_type {kind!r}" + (f" with {', '.join(unknown)}" if unknown else "")
        raise ValueError(f"{where} asks for {asked}; supported: rope_type 'default', rope_theta")
    base = parameters.get("rope_theta")
    if isinstance(base, bool) or not isinstance(base, int | float) or base <= 0:
        raise ValueError(f"{where}: rope_theta is {base!r}; expected a positive number")
    return float(base)


def rope_parameters(base: float) -> dict[str, Any]:
    """The object that transformers 5 reads as this base."""
    return {"rope_theta": base, "rope_type": "default"}


def rope_today(fields: Mapping[str, Any], default: float) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` brought to `rope_parameters`, as transformers 5 does it."""
    rest = dict(fields)
    theta, scaling = rest.pop("rope_theta", default), rest.pop("rope_scaling", None)
    given = scaling or rest.get("rope_parameters") or {}
    if isinstance(given, Mapping):
        given = {"rope_theta": theta, **given}
    return {**rest, "rope_parameters": given}
