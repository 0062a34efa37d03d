"""Claims: a folder belongs to the settings that it was begun with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from effjax.files import write_json

SHOWN = 5
"""Differences that a message lists."""


def claim(path: Path, settings: Any, *, accept_changes: bool = False) -> None:
    """Writes the settings to `path`, unless other ones are there.

    Args:
        settings: dataclasses, dicts, tuples and plain values.
        accept_changes: goes on with changed settings all the same. The old ones stay beside, with a
            number, so that results can say what they were made with.

    Raises:
        ValueError: there are other settings; the line shows what differs.
    """
    wanted = json.loads(json.dumps(resolved(settings)))
    if path.exists():
        found = json.loads(path.read_text())
        if found == wanted:
            return
        if not accept_changes:
            shown = "; ".join(changes(found, wanted))
            raise ValueError(
                f"{path.parent} was begun with other settings: {shown}. Choose another folder, "
                "or go on all the same with --accept-changes"
            )
        path.rename(path.with_name(f"{path.stem}.{len(earlier(path))}.json"))
    write_json(path, wanted)


def earlier(path: Path) -> list[Path]:
    """The settings before each accepted change, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}.*.json"), key=lambda p: int(p.stem.split(".")[-1]))


def original(path: Path) -> Any:
    """The settings that a folder was begun with, before every accepted change."""
    return json.loads([*earlier(path), path][0].read_text())


def resolved(value: Any) -> Any:
    """Settings as JSON: every dataclass a dict that names its type."""
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: resolved(getattr(value, name)) for name in names}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {name: resolved(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [resolved(item) for item in value]
    return value


def changes(found: Any, wanted: Any) -> list[str]:
    """What differs, as `training.epochs: 2 -> 3`; the first few, and how many more."""
    old, new = leaves(found), leaves(wanted)
    same = {path for path in old.keys() & new.keys() if old[path] == new[path]}
    paths = [path for path in old | new if path not in same]
    lines = [f"{path}: {old.get(path, 'none')} -> {new.get(path, 'none')}" for path in paths]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every plain value by its dotted path."""
    if not isinstance(value, dict | list):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for name, item in items:
        found |= leaves(item, f"{path}.{name}" if path else str(name))
    return found
