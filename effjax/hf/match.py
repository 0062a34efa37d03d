"""Which tensor of a checkpoint is which row of the table: all disagreements, not the first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from effjax.hf.tensors import FLOATS, Entry
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig
from effjax.table import Row, in_factors

BUFFERS = ("position_ids", "token_type_ids")
"""Constants that older releases of transformers stored among the weights."""


@dataclass
class Match:
    """What was found for each row.

    Attributes:
        names: the tensor of each path that was found.
        initialised: why a path is to be initialised, for rows of the head and the pooler only.
        ignored: tensors that this model does not have: buffers, the pooler, other heads.
        problems: everything for which the checkpoint cannot be read.
    """

    names: dict[str, str] = field(default_factory=dict)
    initialised: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def match(
    tensors: Mapping[str, Entry],
    architecture: Architecture,
    config: EncoderConfig,
    *,
    resized: bool,
) -> Match:
    """Finds a tensor for every row of a model with this config.

    Args:
        resized: Whether classes may differ in number from the checkpoint's: then they are
            initialised anew, and it is no problem.
    """
    table, result = architecture.table(config), Match()
    replaceable = {row.path for row in optional_rows(architecture, config)}
    used: set[str] = set()
    for row in table:
        names = [name for name in names_of(row, architecture.hf_prefix) if name in tensors]
        used.update(names)
        result.problems += _unequal(tensors, row, names)
        _match_row(tensors, row, names, row.path in replaceable, resized, result)
    rest = sorted(set(tensors) - used)
    foreign = encoder_names(rest, architecture, config)
    result.ignored += [name for name in rest if name not in foreign]
    size = f"{config.num_layers} layers of hidden size {config.hidden}"
    result.problems += [f"{name} has no place in a model of {size}" for name in foreign]
    return result


def _match_row(
    tensors: Mapping[str, Entry],
    row: Row,
    names: list[str],
    replaceable: bool,
    resized: bool,
    result: Match,
) -> None:
    if not names:
        if replaceable:
            result.initialised[row.path] = "absent"
        else:
            result.problems.append(f"{row.hf[0]} is missing")
        return
    entry, wanted = tensors[names[0]], row.hf_shape
    if entry.dtype not in FLOATS:
        result.problems.append(f"{names[0]} is {entry.dtype}, expected {', '.join(FLOATS)}")
    elif entry.shape == wanted:
        result.names[row.path] = names[0]
    elif replaceable and resized and any(axis.letter == "C" for axis in row.axes):
        result.initialised[row.path] = f"{entry.shape} in the checkpoint, {wanted} here"
    else:
        result.problems.append(f"{names[0]} has shape {entry.shape}, expected {wanted}")


def _unequal(tensors: Mapping[str, Entry], row: Row, names: list[str]) -> list[str]:
    """One tensor under several names is fine if it is the same; copies are never looked at."""
    same = [name for name in names if name not in row.copies and tensors[name].dtype in FLOATS]
    if len(same) < 2:
        return []
    first, array = same[0], tensors[same[0]].read()
    differing = [name for name in same[1:] if not np.array_equal(array, tensors[name].read())]
    hint = " (tie_word_embeddings says that they are one)" if row.role == "embedding" else ""
    return [f"{first} and {name} differ, and are one parameter{hint}" for name in differing]


def names_of(row: Row, prefix: str) -> tuple[str, ...]:
    """Every name that a checkpoint may give a row, with and without the base prefix."""
    names = (*row.hf, *row.copies)
    return tuple(
        dict.fromkeys(form for name in names for form in (name, name.removeprefix(prefix)))
    )


def optional_rows(architecture: Architecture, config: EncoderConfig) -> list[Row]:
    """The rows that a checkpoint may lack: those of the head, and the pooler's."""
    bare = architecture.rows(config.replace(pooler=False), None)
    encoder = {row.path for row in in_factors(bare, dict(config.ranks))}
    return [row for row in architecture.table(config) if row.path not in encoder]


def pooler_names(architecture: Architecture, config: EncoderConfig) -> set[str]:
    """Every name of the pooler's tensors; none where no model of the architecture has one."""
    if architecture.head_spec(None).pooler is False:
        return set()
    rows = optional_rows(architecture, config.replace(head=None, pooler=True))
    return {name for row in rows for name in names_of(row, architecture.hf_prefix)}


def encoder_names(
    names: Iterable[str], architecture: Architecture, config: EncoderConfig
) -> list[str]:
    """Those names that would belong to the encoder, were the model another: a further layer, say.

    They are named as the encoder's modules are, and are neither a buffer nor the pooler nor what
    the architecture says is never read.
    """
    prefix = architecture.hf_prefix
    rows = architecture.rows(config.replace(pooler=False), None)
    modules = {row.hf[0].removeprefix(prefix).split(".")[0] for row in rows}
    known = pooler_names(architecture, config)
    known |= {form for name in architecture.unread for form in (name, name.removeprefix(prefix))}
    return [
        name
        for name in names
        if (name.startswith(prefix) or name.split(".")[0] in modules)
        and name.rsplit(".", 1)[-1] not in BUFFERS
        and name not in known
    ]
