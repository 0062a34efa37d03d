"""Structural shrinking: what is not kept is removed from the arrays, through the parameter table.

An axis instance is what the table calls it: "layer_3/heads", "layer_3/ffn", "vocabulary", "hidden".
Every array that has the axis shrinks with it, whatever the architecture.
"""

import json

import jax.numpy as jnp
import numpy as np

from effjax.models.base import EncoderConfig
from effjax.models.model import Model
from effjax.table import Row, Table
from effjax.tree import flatten, unflatten
from effjax.types import Array, Keep


def shrink(model: Model, keep: Keep) -> Model:
    """A model of the kept indices only; elsewhere it is the same model.

    Kept token ids are renumbered 0, 1, ... in their order. A layer of which no head, or no
    feed-forward unit, is kept loses those arrays; the bias of their output and the norm stay.

    Args:
        keep: ascending indices by axis instance; what is not named is kept whole.

    Raises:
        ValueError: an instance is unknown or cannot shrink, or its indices are out of range or not
            ascending.
    """
    table = model.table
    check_instances(keep, table)
    keep = {
        instance: checked(instance, kept, table.instances[instance])
        for instance, kept in keep.items()
    }
    config = shrunk_config(model.config, keep)
    arrays, rows = flatten(model.params), model.architecture.table(config)
    params = {row.path: take(arrays[row.path], table.by_path[row.path], keep) for row in rows}
    return model.replace(config=config, params=unflatten(params))


def check_instances(keep: Keep, table: Table) -> None:
    """Raises a ValueError for an axis instance that this model has not, or that cannot shrink."""
    for instance in keep:
        if instance in table.fixed:
            raise ValueError(
                f"keep names {instance!r}, which cannot shrink: {table.fixed[instance]}"
            )
        if instance not in table.instances:
            there = ", ".join(sorted(table.instances))
            raise ValueError(f"keep names {instance!r}, which this model has not; it has {there}")


def checked(instance: str, kept: Array, size: int) -> np.ndarray:
    """The indices to keep of one instance, as integers."""
    indices = np.asarray(kept)
    if indices.ndim != 1 or (indices.size and not np.issubdtype(indices.dtype, np.integer)):
        raise ValueError(
            f"keep[{instance!r}] is {indices.dtype} of shape {indices.shape}; expected integers [n]"
        )
    indices = indices.astype(np.int64)
    outside = indices[(indices < 0) | (indices >= size)]
    if outside.size:
        raise ValueError(f"keep[{instance!r}] holds {outside[0]}; allowed: 0 to {size - 1}")
    if np.any(np.diff(indices) <= 0):
        raise ValueError(
            f"keep[{instance!r}] is not ascending, or holds an index twice: {indices.tolist()}"
        )
    return indices


def take(array: Array, row: Row, keep: Keep) -> Array:
    """The kept part of one parameter."""
    for number, axis in enumerate(row.axes):
        if axis.instance is not None and axis.instance in keep:
            array = jnp.take(array, keep[axis.instance], axis=number)
    return array


def shrunk_config(config: EncoderConfig, keep: Keep) -> EncoderConfig:
    """The smaller config."""
    config = config.shrunk({instance: kept.tolist() for instance, kept in keep.items()})
    return renumbered(config, keep["vocabulary"]) if "vocabulary" in keep else config


def renumbered(config: EncoderConfig, kept: np.ndarray) -> EncoderConfig:
    """The config with a smaller vocabulary and the new number of every token that it names.

    Raises:
        ValueError: a token that the config names is not kept, or positions that count from the
            padding would move.
    """
    new = {int(old): number for number, old in enumerate(kept)}
    named = named_tokens(config)
    for name, value in named.items():
        if value not in new:
            raise ValueError(f"keep['vocabulary'] lacks {value}, the model's {name}")
    if config.first_position == "after-padding" and new[config.pad_token_id] != config.pad_token_id:
        raise ValueError(
            f"keep['vocabulary'] moves the padding token {config.pad_token_id}, from which this "
            "model's positions count; keep every token before it"
        )
    extra = tuple(
        (name, json.dumps(new[named[name]]) if name in named else value)
        for name, value in config.extra
    )
    return config.replace(vocab_size=len(kept), pad_token_id=new[config.pad_token_id], extra=extra)


def named_tokens(config: EncoderConfig) -> dict[str, int]:
    """The token ids that a config names."""
    fields = {**config.extra_fields, "pad_token_id": config.pad_token_id}
    return {
        name: value
        for name, value in fields.items()
        if name.endswith("_token_id") and isinstance(value, int)
    }
