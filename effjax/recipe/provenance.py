"""Where a result comes from: recipe, machine, versions, commit, wall time; and what stays of the
training behind it.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effjax import __version__
from effjax.files import write_json
from effjax.measure import machine
from effjax.train.checkpoint import forget_checkpoints
from effjax.train.claim import earlier, original, resolved
from effjax.train.curves import draw_curves

RECIPE = "recipe.json"
"""Where an experiment's folder says whose it is."""


def commit() -> str:
    """The commit of this code, with "+changes" where files differ from it; "unknown" outside a
    checkout.
    """
    here = Path(__file__).parent
    try:
        name = git(here, "rev-parse", "HEAD")
        return name + (
            "+changes" if git(here, "status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def provenance(recipe: Any, out: Path | None, seconds: float) -> dict[str, Any]:
    """What every results file carries beside its numbers.

    Args:
        out: the experiment's folder; None for what has none to go on in.
        seconds: wall time of this call; a resumed experiment adds the `seconds` of its trainings.
    """
    before = [] if out is None else earlier(out / RECIPE)
    return {
        "effjax": __version__,
        "commit": commit(),
        "machine": machine(),
        "wall_seconds": round(seconds, 1),
        "recipe": resolved(recipe),
        "earlier_recipes": [json.loads(path.read_text()) for path in before],
    }


def begun_with(folder: Path) -> dict[str, Any]:
    """What a training in this folder began with, before every accepted change: `begun`, the digest
    of its model, None where that is not known; and `tokens`, that of its examples.
    """
    settings = original(folder / "training.json")
    return {"begun": settings.get("begun"), "tokens": settings["examples"]}


def finish(folder: Path, result: Mapping[str, Any]) -> None:
    """What is kept of a training: its curves and its result, whose presence says that it is
    complete, and not the checkpoints.
    """
    draw_curves(folder)
    write_json(folder / "result.json", result)
    forget_checkpoints(folder)
