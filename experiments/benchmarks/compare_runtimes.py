"""Inference in effjax, torch, ONNX Runtime and OpenVINO, side by side on the CPU, in float32.

    python -m pip install onnx onnxscript onnxruntime openvino
    python experiments/benchmarks/compare_runtimes.py

All run the same architecture and shape, at full rows, with random weights; each has a process of
its own, and they take turns. Writes paper/results/benchmark_runtimes.json and prints a table.
"""

import dataclasses
import itertools
import os
import time
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before effjax imports JAX; the workers inherit it

import tyro
from cells import Cell, parse_shape
from compare_torch import ROOT, commit
from turns import Samples, Worker, in_rounds, ratios, started

from effjax.files import write_json

SIDES = {
    "jax": "jax_backend",
    "torch": "torch_backend",
    "onnxruntime": "onnx_backend",
    "openvino": "openvino_backend",
}

CALLS = 2
"""In a sample, after one that does not count: each side has waited for the three others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; every combination of models and shapes is a row.

    Attributes:
        rounds: samples of each side.
        patience: seconds to wait for a quiet machine before every sample.
        out: the result file.
    """

    models: tuple[str, ...] = ("bert-base", "distilbert", "minilm-l6-h384")
    shapes: tuple[str, ...] = ("32x128", "8x512")
    rounds: int = 5
    patience: float = 60.0
    out: Path = ROOT / "paper" / "results" / "benchmark_runtimes.json"


def measure(cell: Cell, workers: dict[str, Worker], settings: Settings) -> dict[str, Any]:
    """One row: every side in turns."""
    asked = dataclasses.asdict(cell)
    first = workers["jax"].ask("prepare", cell=asked, config=None)
    config, taken = first["config"], {"jax": Samples(first["first_call_seconds"], CALLS)}
    for name in list(workers)[1:]:
        reply = workers[name].ask("prepare", cell=asked, config=config)
        taken[name] = Samples(reply["first_call_seconds"], CALLS)
    in_rounds(workers, taken, settings.rounds, settings.patience)
    row = {"model": cell.model, "shape": cell.shape}
    row |= {name: samples.summary() for name, samples in taken.items()}
    for name in list(workers)[1:]:
        low, ratio, high = ratios(taken["jax"], taken[name])
        row |= {f"ratio_to_{name}": ratio, f"ratio_to_{name}_quartiles": [low, high]}
    return row


def table(results: dict[str, Any]) -> str:
    """The results in Markdown; a ratio below 1 says that effjax is faster."""
    others = [name for name in SIDES if name != "jax"]
    lines = [f"| model | shape | effjax ms | over {' | over '.join(others)} |", "|---" * 6 + "|"]
    for row in results["rows"]:
        shown = " | ".join(f"{row[f'ratio_to_{name}']:.2f}" for name in others)
        ms = 1e3 * row["jax"]["median"]
        lines.append(f"| {row['model']} | {row['shape']} | {ms:.1f} | {shown} |")
    return "\n".join(lines)


def run(settings: Settings) -> dict[str, Any]:
    """Measures every row; the file is written after each."""
    begun, described = time.perf_counter(), {}
    with started(SIDES) as workers:
        for worker in workers.values():
            described |= worker.ask("describe")
        results = {"machine": described, "commit": commit(), "dtype": "float32", "rows": []}
        for model, shape in itertools.product(settings.models, settings.shapes):
            batch, length = parse_shape(shape)
            cell = Cell(model=model, mode="inference", dtype="float32", batch=batch, length=length)
            results["rows"].append(measure(cell, workers, settings))
            results["wall_seconds"] = round(time.perf_counter() - begun, 1)
            write_json(settings.out, results)
            print(table(results).splitlines()[-1], flush=True)
    return results


if __name__ == "__main__":
    print(table(run(tyro.cli(Settings, description=__doc__))))
