"""What the grids of experiments share: a file for each cell, and one fine-tuned model per task."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

TEACHER = (Path("teacher"), Path("runs") / "teacher")
"""Where a recipe leaves its fine-tuned model, and how that was trained."""

Cell = tuple[str, str]
"""A task, and what else tells a recipe from the others."""


class Recipe(Protocol):
    """What `effjax run` runs."""

    def run(self, out: Path, *, accept_changes: bool) -> None: ...


def run_cells(
    cells: Iterable[Cell],
    every: Sequence[Cell],
    recipe: Callable[[str, str], Recipe],
    publish: Callable[[Sequence[dict[str, Any]], Path], None],
    *,
    out: Path,
    results: Path,
    accept_changes: bool,
) -> None:
    """Runs the recipes of some cells, and publishes what there is of all after each.

    A cell that has a file of results is not run. The fine-tuned model of a task is trained once.

    Args:
        every: the cells of the whole grid, in the order in which they are published.
        publish: is given the results and where their table and figure belong.
        out: the folder of runs.
        results: the folder of result files.
        accept_changes: goes on with what another recipe left in a cell's folder; its results then
            list both.
    """
    for cell in cells:
        result = results / f"{name_of(cell)}.json"
        if not result.exists():
            folder = out / name_of(cell)
            share_teacher(folder, [out / name_of(other) for other in every if other[0] == cell[0]])
            recipe(*cell).run(folder, accept_changes=accept_changes)
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "results.json", result)
        found = [results / f"{name_of(other)}.json" for other in every]
        publish([json.loads(path.read_text()) for path in found if path.exists()], results)


def name_of(cell: Cell) -> str:
    """What a cell's folder and file are called."""
    task, other = cell
    return f"{task.partition('/')[2]}_{other.replace(', ', '_')}"


def share_teacher(out: Path, others: Sequence[Path]) -> None:
    """Copies the fine-tuned model of another cell, where there is one and none here."""
    made = (other for other in others if all((other / x).exists() for x in TEACHER))
    if not any((out / x).exists() for x in TEACHER) and (other := next(made, None)) is not None:
        for folder in TEACHER:
            shutil.copytree(other / folder, out / folder)
