"""Smaller models: predicted by a latency table and measured, here and in torch.

    python experiments/benchmarks/smaller_models.py

Models of all-MiniLM-L6-v2's shape whose layers have random numbers of heads and feed-forward units,
none of which is in the table, which is measured first. Each is timed in turns with the whole model,
as whose share its time is given, round by round: measured over predicted says how good the table
is. Some are then written in the layout "compact" and timed in torch, in turns with the stock model
of transformers: their speed-up over the ratio of FLOPs says what is left of it. All rows are full.
Writes paper/results/smaller_models.json.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import tyro
from compare_torch import ROOT, commit

from effjax.commands.torch_speed import torch_speed
from effjax.files import write_json
from effjax.hf import save_pretrained
from effjax.measure import compare, latency_table, machine
from effjax.measure.machine import CpuClock, other_cores
from effjax.models import Model, create
from effjax.models.base import Runtime
from effjax.prune import gated, shrink
from effjax.types import Keep

MINILM = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
AT_ONCE = 6
"""Models in memory, and timed in turns with the whole one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        models: how many.
        in_torch: how many of them in torch too.
        samples: calls of each side, in turns.
        points: as of `latency_table`.
        unit: feed-forward units come in multiples of it.
        layers: of the whole model.
    """

    models: int = 30
    in_torch: int = 6
    batch: int = 8
    length: int = 128
    samples: int = 15
    points: int = 12
    unit: int = 32
    layers: int = MINILM["num_hidden_layers"]
    seed: int = 0
    out: Path = ROOT / "paper" / "results" / "smaller_models.json"


def some_left(model: Model, settings: Settings) -> list[Keep]:
    """What is left of each of the models."""
    random, units = np.random.default_rng(settings.seed), {"ffn": settings.unit}
    found = []
    for _ in range(settings.models):
        keep = {}
        for name, size in gated(model).items():
            step = units.get(name.partition("/")[2], 1)
            keep[name] = np.arange(step * random.integers(0, size // step + 1))
        found.append(keep)
    return found


def predicted_and_measured(model: Model, smaller: list[Keep], settings: Settings) -> dict[str, Any]:
    """Every model's time, by the table and by the clock, as a share of the whole one's."""
    shape: Any = {name: getattr(settings, name) for name in ("batch", "length", "samples")}
    table = latency_table(model, **shape, points=settings.points)
    costs, rows, others = table.costs(model), [], [table.other_cores or 0.0]
    for begin in range(0, len(smaller), AT_ONCE):
        block = smaller[begin : begin + AT_ONCE]
        models = {str(i): shrink(model, keep) for i, keep in enumerate(block)}
        found = compare({"whole": model, **models}, **shape)
        others.append(found.latencies["whole"].other_cores or 0.0)
        for i, keep in enumerate(block):
            sizes = {name: len(indices) for name, indices in keep.items()}
            predicted = costs.at(sizes) / costs.whole
            measured = 1 / found.speedup(str(i)).ratio
            off = measured / predicted - 1
            rows.append({"sizes": sizes, "predicted": predicted, "measured": measured, "off": off})
            print(
                f"predicted {predicted:.3f}, measured {measured:.3f}, {100 * off:+.1f}%", flush=True
            )
    off = np.abs([row["off"] for row in rows])
    return {
        "table": table.whole,
        "models": rows,
        "off": {"median": float(np.median(off)), "worst": float(off.max())},
        "within_10_percent": int((off <= 0.1).sum()),
        "other_cores": max(others),
    }


def in_torch(model: Model, smaller: list[Keep], settings: Settings) -> dict[str, Any]:
    """How much of the ratio of FLOPs is speed in torch, for folders of the layout "compact"."""
    rows, before = [], CpuClock.now()
    for keep in smaller[: settings.in_torch]:
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "small"
            save_pretrained(shrink(model, keep), small, layout="compact")
            found = torch_speed(small, batch=settings.batch, length=settings.length)
        print(found, flush=True)
        rows.append({**vars(found), "share": found.speedup / found.flops})
    shares = [row["share"] for row in rows]
    share = {"median": float(np.median(shares)), "worst": min(shares)}
    return {"models": rows, "share": share, "other_cores": other_cores(before, CpuClock.now())}


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    sizes: dict[str, Any] = {**MINILM, "num_hidden_layers": settings.layers}
    model = create("bert", size="base", key=jax.random.key(settings.seed), **sizes)
    model = model.replace(runtime=Runtime.auto())
    smaller = some_left(model, settings)
    results = {"machine": machine(), "commit": commit()}
    results["settings"] = {name: str(x) for name, x in vars(settings).items() if name != "out"}
    results["latency"] = predicted_and_measured(model, smaller, settings)
    write_json(settings.out, results)
    results["torch"] = in_torch(model, smaller, settings)
    results["torch"]["threads"] = torch.get_num_threads()
    write_json(settings.out, results)
    print(results["latency"]["off"], results["torch"]["share"])


if __name__ == "__main__":
    main()
