"""Latency tables: how long a model takes on this device, by how much is left of its layers.

    table = latency_table(model, batch=8, length=128)         # minutes, once per device
    keep = select(scores, table.costs(model), at_most=0.5 * table.whole)

A table holds what each axis instance adds to the time of a whole forward pass, measured on models
that have less of it in all layers that are alike; what lies between two measured sizes is
interpolated.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from effjax.cache import folder
from effjax.files import write_json
from effjax.measure.costs import alike_instances, layer_instances
from effjax.measure.latency import BUSY, compare
from effjax.measure.machine import machine
from effjax.models.base import EncoderConfig
from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.tree import flatten, unflatten

AT_ONCE = 6
"""Smaller models that are in memory, and timed in turns with the whole one."""

SCORES_WORDS = ("masked-lm", "pretraining")
"""Heads whose time grows with the vocabulary."""

DEVICE = ("cpu", "cores", "device", "jaxlib")
"""What of a machine a latency depends on."""


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Seconds of one forward pass of models that are made of one.

    Attributes:
        of: what model, shape and device it is of, by name.
        whole: seconds of the model with nothing removed.
        seconds: what a size of an axis instance adds, by instance and size.
        other_cores: cores that other processes kept busy at the most; None where unknown. Above
            `BUSY` the table is not to be trusted.
    """

    of: Mapping[str, str]
    whole: float
    seconds: Mapping[str, Mapping[int, float]]
    other_cores: float | None

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, length)."""
        return int(self.of["batch"]), int(self.of["length"])

    @property
    def busy(self) -> bool:
        """Whether other processes were at work."""
        return self.other_cores is not None and self.other_cores > BUSY

    def costs(self, model: Model) -> Costs:
        """The seconds that every head and unit of this model adds.

        Raises:
            ValueError: the table is of another model or device, or of another precision.
        """
        batch, length = self.shape
        check_same(self.of, described(model, batch=batch, length=length))
        of = {
            instance: np.interp(
                np.arange(max(seconds) + 1), sorted(seconds), [seconds[n] for n in sorted(seconds)]
            )
            for instance, seconds in self.seconds.items()
        }
        base = self.whole - sum(float(costs[-1]) for costs in of.values())
        return Costs(unit="seconds", base=base, of=of)

    def __str__(self) -> str:
        lines = [f"{1e3 * self.whole:.2f} ms for {self.of['batch']} x {self.of['length']} tokens"]
        for instance, seconds in self.seconds.items():
            added = ", ".join(f"{size}: {1e3 * x:.2f}" for size, x in seconds.items())
            lines.append(f"  {instance}, ms by size: {added}")
        if self.busy:
            lines.append(f"others kept {self.other_cores:.1f} cores busy: not kept, measure again")
        return "\n".join(lines)

    def save(self, file: str | Path) -> None:
        """Writes it as JSON."""
        write_json(Path(file), dataclasses.asdict(self))

    @classmethod
    def load(cls, file: str | Path) -> "LatencyTable":
        """Reads it. Raises a ValueError for a file that holds none."""
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
            seconds = {
                name: {int(size): float(x) for size, x in sizes.items()}
                for name, sizes in found["seconds"].items()
            }
            whole, others = float(found["whole"]), found["other_cores"]
            return cls(of=dict(found["of"]), whole=whole, seconds=seconds, other_cores=others)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file}: holds no latency table") from error


def latency_table(
    model: Model,
    *,
    batch: int = 1,
    length: int = 128,
    samples: int = 15,
    points: int = 12,
    progress: Callable[[int, int], None] = lambda i, n: None,
) -> LatencyTable:
    """The table of a model on this device: that in the user's cache folder, or a new one, which is
    kept there if nothing else was at work.

    Args:
        samples: rounds in which each model is timed.
        points: sizes of each axis instance, 0 and all of it included, or all where there are fewer.
        progress: called with (models timed, models).

    Raises:
        ValueError: the model cannot run that shape.
    """
    of = described(model, batch=batch, length=length)
    cached = file_of(of)
    if cached is not None and cached.exists():
        return LatencyTable.load(cached)
    tried = [
        (alike, size)
        for alike in alike_instances(model)
        for size in ladder(layer_instances(model)[alike[0]], points)
    ]
    shares, wholes = dict[tuple[tuple[str, ...], int], float](), list[float]()
    others: float | None = None
    for begin in range(0, len(tried), AT_ONCE):
        block = tried[begin : begin + AT_ONCE]
        models = {str(i): smaller(model, *which) for i, which in enumerate(block)}
        found = compare({"whole": model, **models}, batch=batch, length=length, samples=samples)
        times = {name: np.asarray(x.seconds) for name, x in found.latencies.items()}
        wholes += list(times["whole"])
        if (busy := found.latencies["whole"].other_cores) is not None:
            others = max(busy, others or 0.0)
        for i, which in enumerate(block):
            shares[which] = float(np.median(times[str(i)] / times["whole"]))
        progress(begin + len(block), len(tried))
    whole, seconds = float(np.median(wholes)), dict[str, dict[int, float]]()
    for alike in alike_instances(model):
        found = {size: share for (names, size), share in shares.items() if names == alike}
        found[layer_instances(model)[alike[0]]] = 1.0
        added = {n: whole * (found[n] - found[0]) / len(alike) for n in sorted(found)}
        seconds |= {instance: {n: max(x, 0.0) for n, x in added.items()} for instance in alike}
    table = LatencyTable(of=of, whole=whole, seconds=seconds, other_cores=others)
    if cached is not None and not table.busy:
        cached.parent.mkdir(parents=True, exist_ok=True)
        table.save(cached)
    return table


def ladder(size: int, points: int) -> Sequence[int]:
    """The sizes that are timed: some from 0 to below the whole."""
    return sorted({round(x) for x in np.linspace(0, size, min(points, size + 1))} - {size})


def smaller(model: Model, alike: Sequence[str], size: int) -> Model:
    """A model with so much left of these; what its new arrays hold does not matter."""
    config = model.config.shrunk({instance: range(size) for instance in alike})
    arrays, rows = flatten(model.params), model.architecture.table(config)
    params = {
        row.path: arrays[row.path]
        if arrays[row.path].shape == row.shape
        else jnp.zeros(row.shape, arrays[row.path].dtype)
        for row in rows
    }
    return model.replace(config=config, params=unflatten(params))


def described(model: Model, *, batch: int, length: int) -> dict[str, str]:
    """What a latency depends on."""
    here = machine()
    return {
        "model": f"{model.architecture.name} {sizes_of(model.config)}",
        "batch": str(batch),
        "length": str(length),
        "dtype": model.runtime.dtype,
        **{name: str(here[name]) for name in DEVICE},
    }


def sizes_of(config: EncoderConfig) -> str:
    """The sizes of a config, with all that its layers differ in."""
    ranks = f", {config.ranks}" if config.ranks else ""
    words = f", {config.vocab_size} words" if config.head in SCORES_WORDS else ""
    layers = f"{config.layers}{ranks}{words}"
    return f"hidden {config.hidden}, head size {config.head_size}, {config.head}: {layers}"


def check_same(of: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raises a ValueError that names what a table is of and what is asked for."""
    other = [f"{name} {of.get(name)}, here {x}" for name, x in here.items() if of.get(name) != x]
    if other:
        raise ValueError(f"the latency table is of something else: {'; '.join(other)}")


def file_of(of: Mapping[str, str]) -> Path | None:
    """Where a table is kept; nowhere with EFFJAX_CACHE=off."""
    cache, text = folder("latency"), json.dumps(dict(of), sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return None if cache is None else cache / f"{name}.json"
