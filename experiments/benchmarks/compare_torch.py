"""effjax against Hugging Face transformers on torch, side by side on the CPU.

    python experiments/benchmarks/compare_torch.py --models bert-base --modes inference

Writes paper/results/benchmark_torch.json after every cell and prints a table. A cell that the file
has already is skipped, so an interrupted run goes on where it stopped; delete the file to start
anew.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before effjax imports JAX; the workers inherit it

import tyro
from cells import Cell, DType, Mode, parse_shape
from turns import Worker, measure_cell

from effjax.files import atomic_file

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; every combination of the first four is a cell.

    Attributes:
        models: names from cells.py.
        modes: inference, training, or both.
        dtypes: precision of the products.
        shapes: BATCHxLENGTH, full rows without padding.
        samples: rounds per cell at most.
        cell_seconds: a cell takes fewer rounds (at least 5) rather than longer than this.
        patience: seconds to wait for a quiet machine before every sample.
        budget_seconds: no new cell is begun after this time.
        out: the result file.
        tiny: only try the script out, on BERT-tiny, a small shape and any machine.
    """

    models: tuple[str, ...] = ("bert-base", "distilbert", "minilm-l6-h384")
    modes: tuple[Mode, ...] = ("inference", "training")
    dtypes: tuple[DType, ...] = ("float32", "bfloat16")
    shapes: tuple[str, ...] = ("1x128", "8x128", "32x128", "8x512")
    samples: int = 15
    cell_seconds: float = 90.0
    patience: float = 60.0
    budget_seconds: float = float("inf")
    out: Path = ROOT / "paper" / "results" / "benchmark_torch.json"
    tiny: bool = False

    def cells(self) -> Iterator[Cell]:
        combinations = itertools.product(self.modes, self.dtypes, self.models, self.shapes)
        for mode, dtype, model, shape in combinations:
            batch, length = parse_shape(shape)
            yield Cell(model=model, mode=mode, dtype=dtype, batch=batch, length=length)


def commit() -> str:
    """The commit that the code is at, and whether it has changed since."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return run.stdout.strip()

    changed = git("status", "--porcelain", "--", "effjax", "experiments")
    return (git("rev-parse", "HEAD") or "unknown") + ("+changes" if changed else "")


def load(file: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """The results so far, from this very machine and these versions.

    Raises:
        ValueError: the file's are from another one; ratios of different machines make no table.
    """
    if not file.exists():
        return {"machine": machine, "cells": []}
    results = json.loads(file.read_text(encoding="utf-8"))
    earlier, now = in_gigabytes(results["machine"]), in_gigabytes(machine)
    differing = [name for name in now if earlier.get(name) != now[name]]
    if differing:
        raise ValueError(f"{file} is from another machine or versions ({', '.join(differing)})")
    return results


def in_gigabytes(machine: dict[str, Any]) -> dict[str, Any]:
    """Its memory without what the system keeps for itself, which differs from start to start."""
    return machine | {"memory_bytes": round(machine["memory_bytes"], -9)}


def save(file: Path, results: dict[str, Any]) -> None:
    with atomic_file(file) as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """The results in Markdown; a ratio below 1 says that effjax is faster."""
    lines = [
        "| model | mode | dtype | shape | effjax ms | torch ms | ratio | quartiles | rounds "
        "| disturbed |",
        "|---|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for cell in results["cells"]:
        jax, torch, (low, high) = cell["jax"], cell["torch"], cell["ratio_quartiles"]
        lines.append(
            f"| {cell['model']} | {cell['mode']} | {cell['dtype']} "
            f"| {cell['batch']}x{cell['length']} | {1e3 * jax['median']:.1f} "
            f"| {1e3 * torch['median']:.1f} | {cell['ratio']:.2f} | {low:.2f} to {high:.2f} "
            f"| {len(jax['seconds'])} | {jax['disturbed'] + torch['disturbed']} |"
        )
    return "\n".join(lines)


def run(settings: Settings) -> dict[str, Any]:
    """Measures every cell that the result file lacks, and returns all that it has."""
    begun, workers = (
        time.monotonic(),
        {name: Worker(f"{name}_backend") for name in ("jax", "torch")},
    )
    try:
        described = {name: worker.ask("describe") for name, worker in workers.items()}
        results = load(settings.out, described["jax"] | described["torch"])
        keys = [field.name for field in dataclasses.fields(Cell)]
        done = {Cell(**{key: cell[key] for key in keys}) for cell in results["cells"]}
        for cell in (cell for cell in settings.cells() if cell not in done):
            if time.monotonic() - begun > settings.budget_seconds:
                print(f"the budget is spent before {cell}", file=sys.stderr)
                break
            try:
                measured = measure_cell(
                    cell,
                    workers,
                    rounds=settings.samples,
                    seconds=settings.cell_seconds,
                    patience=settings.patience,
                )
            except RuntimeError as error:
                print(f"{cell} was not measured: {error}", file=sys.stderr)
                for name in workers:
                    workers[name].close()
                    workers[name] = Worker(f"{name}_backend")
                continue
            results["cells"].append(measured | {"commit": commit(), "date": time.strftime("%F")})
            save(settings.out, results)
            print(f"{cell}: ratio {measured['ratio']:.2f}", file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.close()
    return results


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    if settings.tiny:
        settings = dataclasses.replace(
            settings, models=("bert-tiny",), shapes=("2x16",), samples=2, patience=0.0
        )
    print(table(run(settings)))


if __name__ == "__main__":
    main()
