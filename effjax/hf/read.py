"""Hugging Face checkpoints in: config.json and safetensors become a `Model`, without torch."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import einops
import jax

from effjax.hf.compact import with_sizes
from effjax.hf.match import Match, match, pooler_names
from effjax.hf.source import local_folder, model_folder, read_object
from effjax.hf.tensors import Entry, open_tensors
from effjax.models import registry
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Head, Runtime
from effjax.models.hf_config import config_from_hf, numbered_labels
from effjax.models.model import Model, init_row
from effjax.table import Table
from effjax.tree import unflatten
from effjax.types import Params

log = logging.getLogger("effjax")


@dataclass(frozen=True)
class Report:
    """What came from a checkpoint and what did not.

    Attributes:
        folder: where config.json and the weights lie.
        loaded: the tensor that each parameter came from, by path.
        initialised: why a parameter is new and random, by path.
        ignored: tensors that this model has no use for: buffers, an unused pooler, other heads.
    """

    folder: Path
    loaded: Mapping[str, str]
    initialised: Mapping[str, str]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        new = [f"  new: {path} ({reason})" for path, reason in self.initialised.items()]
        rest = [f"  ignored: {name}" for name in self.ignored]
        counts = f"{len(self.loaded)} loaded, {len(new)} new, {len(rest)} ignored"
        return "\n".join([f"{self.folder}: {counts}", *new, *rest])


def from_pretrained(
    source: str | Path,
    *,
    head: Head | Literal["auto"] | None = "auto",
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    key: jax.Array | None = None,
) -> Model:
    """The model of a folder or hub id; takes and raises what `read` does."""
    return read(source, head=head, num_labels=num_labels, labels=labels, runtime=runtime, key=key)[
        0
    ]


def read(
    source: str | Path,
    *,
    head: Head | Literal["auto"] | None = "auto",
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    key: jax.Array | None = None,
) -> tuple[Model, Report]:
    """The model of a folder or hub id, and the report of what came from where.

    Args:
        source: a folder, one of sentence-transformers too, or a hub id.
        head: "auto" is the head that config.json names, None the bare encoder. A head that the
            checkpoint lacks, or has for another number of labels, is initialised; so is a pooler
            that the head needs. The log says so.
        num_labels: where it differs from the checkpoint's; 1 is a regression.
        labels: their names, if they are to have any.
        runtime: `Runtime.auto()` if None.
        key: for what is initialised; `jax.random.key(0)` if None.

    Raises:
        ValueError: config.json or the weights cannot be read, or do not fit each other; then every
            mismatch is in the message.
    """
    folder = model_folder(local_folder(source))
    file = folder / "config.json"
    fields = read_object(file)
    architecture = architecture_of(fields, file)
    hf_class = named_class(fields)
    wanted = named_head(architecture, hf_class, file) if head == "auto" else head
    own = architecture.head_spec(wanted).hf_class == hf_class
    tensors = open_tensors(folder)
    config = read_config(architecture, fields, wanted, file)
    resized = not own or num_labels is not None or labels is not None
    config = with_labels(config, num_labels, labels)
    if architecture.head_spec(wanted).pooler is None:
        names = pooler_names(architecture, config)  # a pooler without arrays is always there
        config = config.replace(pooler=not names or not names.isdisjoint(tensors))
    found = match(tensors, architecture, config, resized=resized)
    if found.problems:
        problems = "; ".join(found.problems)
        raise ValueError(f"{folder}: the weights do not fit {file.name}: {problems}")
    key = jax.random.key(0) if key is None else key
    params = load(tensors, architecture.table(config), config, found, key)
    report = Report(folder, found.names, found.initialised, tuple(found.ignored))
    if report.initialised:
        log.warning("%s: new and random: %s", folder, ", ".join(report.initialised))
    return Model(architecture, config, params, runtime or Runtime.auto()), report


def read_config(
    architecture: Architecture, fields: Mapping[str, Any], head: Head | None, file: Path
) -> EncoderConfig:
    """The config of a folder, in any of effjax's layouts. Raises as `config_from_hf`."""
    rest = dict(fields)
    if (compact := rest.pop("compact", None)) is None:
        return config_from_hf(architecture, fields, head=head, where=str(file))
    rest.pop("auto_map", None)
    config = config_from_hf(architecture, rest, head=head, where=str(file))
    return with_sizes(config, compact, str(file))


def architecture_of(fields: Mapping[str, Any], file: Path) -> Architecture:
    """The architecture that a config.json names. Raises a ValueError if effjax has none such."""
    name = fields.get("model_type")
    if not isinstance(name, str) or name not in registry.ARCHITECTURES:
        known = ", ".join(registry.ARCHITECTURES)
        raise ValueError(f"{file}: model_type is {name!r}; supported: {known}")
    return registry.get(name)


def named_class(fields: Mapping[str, Any]) -> str | None:
    """The class of transformers that a config.json names first."""
    names = fields.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def named_head(architecture: Architecture, hf_class: str | None, file: Path) -> Head | None:
    """The head that a config.json names, None also where it names no class.

    Raises:
        ValueError: It names a class that effjax does not have.
    """
    heads: dict[str, Head | None] = {
        spec.hf_class: head for head, spec in architecture.heads.items()
    }
    if hf_class is not None and hf_class not in heads:
        raise ValueError(
            f"{file}: architectures names {hf_class}; supported: {', '.join(heads)}; "
            "give a head to read it all the same"
        )
    return heads[hf_class] if hf_class else None


def with_labels(
    config: EncoderConfig, num_labels: int | None, labels: Sequence[str] | None
) -> EncoderConfig:
    """The config for these labels; one alone is the score of a regression.

    Raises:
        ValueError: there are none, two are the same, the two arguments disagree, or the head takes
            none.
    """
    if labels is None and num_labels in (None, len(config.labels)):
        return config
    if config.head == "question-answering":
        raise ValueError("question answering has a start and an end; it takes no labels")
    names = tuple(labels) if labels is not None else numbered_labels(num_labels or 0)
    if not names or len(set(names)) != len(names) or num_labels not in (None, len(names)):
        raise ValueError(
            f"num_labels is {num_labels} and labels are {names}; expected distinct names"
        )
    kind = config.problem_type
    if len(names) != len(config.labels):
        kind = "regression" if len(names) == 1 else None
    return config.replace(labels=names, problem_type=kind)


def load(
    tensors: Mapping[str, Entry], table: Table, config: EncoderConfig, found: Match, key: jax.Array
) -> Params:
    """The parameters: from the checkpoint where a tensor was found, new where none was."""
    params = {}
    for number, row in enumerate(table):
        if row.path in found.names:
            stored = tensors[found.names[row.path]].read()
            array = einops.rearrange(stored, f"{row.hf_axes} -> {row.letters}", **row.sizes)
            params[row.path] = jax.device_put(array)
        else:
            params[row.path] = init_row(row, config, jax.random.split(key, len(table))[number])
    return unflatten(params)
