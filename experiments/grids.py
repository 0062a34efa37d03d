"""What the grids of experiments share: a file for each part, and one fine-tuned model for all."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

TEACHER = (Path("teacher"), Path("runs") / "teacher")
"""Where a recipe leaves its fine-tuned model, and how it was trained."""


class Recipe(Protocol):
    """What `effjax run` runs."""

    def run(self, out: Path) -> None: ...


def run_once(recipe: Recipe, out: Path, result: Path, *, like: Iterable[Path]) -> None:
    """Runs a recipe into `out` and copies its results.json, unless there is a file of results.

    Args:
        like: folders of recipes whose fine-tuned model is the same; the first that has one gives
            it to this one.
    """
    if result.exists():
        return
    made = (other for other in like if all((other / x).exists() for x in TEACHER))
    if not any((out / x).exists() for x in TEACHER) and (other := next(made, None)) is not None:
        for folder in TEACHER:
            shutil.copytree(other / folder, out / folder)
    recipe.run(out)
    result.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "results.json", result)


def read(results: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """The files of results that are there, in the order of their names."""
    found = [results / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in found if path.exists()]
