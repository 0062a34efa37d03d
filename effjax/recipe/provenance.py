"""Where a result comes from: recipe, machine, versions, commit, wall time."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

from effjax import __version__
from effjax.files import atomic_file
from effjax.measure import machine


def resolved(value: Any) -> Any:
    """A recipe as JSON: every dataclass a dict that names its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: resolved(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [resolved(item) for item in value]
    return value


def claim(out: Path, recipe: Any) -> None:
    """Makes `out` the folder of this recipe.

    Raises:
        ValueError: it holds the results of another one.
    """
    path, wanted = out / "recipe.json", json.dumps(resolved(recipe), indent=1) + "\n"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            partial.write_text(wanted)
    elif path.read_text() != wanted:
        raise ValueError(
            f"{out} holds another recipe (see {path}); "
            "choose another folder with --out, or remove it"
        )


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


def provenance(recipe: Any, out: Path, seconds: float) -> dict[str, Any]:
    """What every results file carries beside its numbers.

    Args:
        out: the experiment's folder.
        seconds: wall time of this call; a resumed experiment adds the `seconds` of its trainings.
    """
    return {
        "effjax": __version__,
        "commit": commit(),
        "teacher_training": json.loads((out / "runs" / "teacher" / "result.json").read_text()),
        "machine": machine(),
        "wall_seconds": round(seconds, 1),
        "recipe": resolved(recipe),
    }
