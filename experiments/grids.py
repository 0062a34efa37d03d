"""What the grids of experiments share: a file for each cell, and one fine-tuned model per task."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from effjax.recipe.provenance import RECIPE
from effjax.train.claim import changes, resolved

TEACHER = (Path("teacher"), Path("runs") / "teacher")
"""Where a recipe leaves its fine-tuned model, and how that was trained."""

TRAINED_BY = ("task", "teacher", "model", "held_out", "search", "data_seed")
"""The fields of recipes that this model depends on."""

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

    A cell that has a file of results is not run. The fine-tuned model of a task is trained once for
    all cells that want it alike.

    Args:
        every: the cells of the whole grid, in the order in which they are published.
        publish: is given the results and where their table and figure belong.
        out: the folder of runs.
        results: the folder of result files.
        accept_changes: goes on with what another recipe left in a cell's folder, whose results then
            list both; and takes results of another recipe as they are.

    Raises:
        ValueError: a cell has results of another recipe.
    """
    for cell in cells:
        result, wanted = results / f"{name_of(cell)}.json", recipe(*cell)
        if result.exists():
            if not accept_changes:
                check_recipe(result, wanted)
        else:
            folder = out / name_of(cell)
            others = [out / name_of(other) for other in every if other[0] == cell[0]]
            share_teacher(folder, wanted, others)
            wanted.run(folder, accept_changes=accept_changes)
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "results.json", result)
        found = [results / f"{name_of(other)}.json" for other in every]
        publish([json.loads(path.read_text()) for path in found if path.exists()], results)


def name_of(cell: Cell) -> str:
    """What a cell's folder and file are called."""
    task, other = cell
    return f"{task.partition('/')[2]}_{other.replace(', ', '_')}"


def check_recipe(result: Path, recipe: Recipe) -> None:
    """Raises a ValueError for results of another recipe; a field that they lack came later."""
    found, wanted = json.loads(result.read_text())["recipe"], as_json(recipe)
    if differing := changes(found, as_known(found, wanted)):
        raise ValueError(
            f"{result} has results of another recipe: {'; '.join(differing)}. Remove it to run its "
            "cell again, or go on all the same with --accept-changes"
        )


def as_known(found: Any, wanted: Any) -> Any:
    """What is wanted, without the fields that were not there yet when others were written down."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {name: as_known(found[name], x) for name, x in wanted.items() if name in found}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [as_known(one, other) for one, other in zip(found, wanted, strict=True)]
    return wanted


def as_json(recipe: Recipe) -> Any:
    return json.loads(json.dumps(resolved(recipe)))


def share_teacher(out: Path, recipe: Recipe, others: Sequence[Path]) -> None:
    """Copies the fine-tuned model of another cell, where one was trained alike and none is here."""
    if any((out / x).exists() for x in TEACHER):
        return
    wanted = as_json(recipe)
    for other in others:
        if all((other / x).exists() for x in (*TEACHER, RECIPE)):
            there = json.loads((other / RECIPE).read_text())
            if all(there.get(x) == wanted.get(x) for x in TRAINED_BY):
                for folder in TEACHER:
                    shutil.copytree(other / folder, out / folder)
                return
