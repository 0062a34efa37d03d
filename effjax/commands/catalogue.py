"""`effjax list` and `effjax data`: what there is, and what can be brought in.

The list reads effjax's own source with `ast` in place of importing it: importing an architecture or
an objective imports JAX, and a list should answer at once. Only what each architecture supports is
asked of the architectures themselves.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Kind = Literal["architectures", "tasks", "objectives", "criteria", "recipes"]
_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class List:
    """List the architectures, tasks, objectives, criteria of pruning or recipes that there are.
    Asked for architectures alone, it says what each of them supports; for objectives or criteria
    alone, where each is from.

    Example: effjax list tasks
    """

    kind: Positional[Annotated[Kind | None, arg(metavar="[KIND]")]] = None
    """What to list; everything if not given."""

    def __call__(self) -> None:
        sources = {
            "architectures": architectures,
            "tasks": tasks,
            "objectives": objectives,
            "criteria": criteria,
            "recipes": recipes,
        }
        details = {"architectures": support, "objectives": source_of, "criteria": criterion_source}
        for kind in [self.kind] if self.kind else sources:
            print(f"{kind}:")
            entries = sources[kind]()
            width = max(map(len, entries), default=0)
            for name, about in entries.items():
                print(f"  {name:{width}}  {about}".rstrip())
                for line in details[self.kind](name) if self.kind in details else ():
                    print(f"  {'':{width}}    {line}")
            if not entries:
                print("  none here")


@dataclass(frozen=True)
class Data:
    """Bring a dataset in: a folder in the task's official layout becomes a TFDS dataset.

    Example: effjax data import glue/sst2 --source ~/Downloads/SST-2
    """

    action: Positional[Literal["import"]]
    """What to do."""
    task: Positional[Annotated[str, arg(metavar="TASK")]]
    """The task, such as glue/sst2; `effjax list tasks` shows all."""
    source: Path
    """The folder with the official files, such as train.tsv and dev.tsv."""
    data_dir: Path | None = None
    """Where TFDS datasets live; TFDS's own default if not given."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do at a bad row: stop, or skip it and count it. Test files whose labels are not
    public must be whole."""

    def __call__(self) -> None:
        from effjax.data.bad_rows import BadRows
        from effjax.data.datasets import import_folder
        from effjax.data.tasks import get_task

        task, bad = get_task(self.task), BadRows(self.on_bad)
        place = import_folder(task, self.source, self.data_dir, bad)
        print(f"{task.name}: in {place}" + (f"; {bad.summary()}" if self.on_bad == "skip" else ""))


def architectures() -> dict[str, str]:
    """Registered model types, each with the models that are of it."""
    registry = ast.parse((_PACKAGE / "models" / "registry.py").read_text(encoding="utf-8"))
    for node in registry.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARCHITECTURES":
            return {name: about for name, (_, about) in ast.literal_eval(node.value).items()}
    raise AssertionError("effjax/models/registry.py assigns no ARCHITECTURES")


def support(name: str) -> list[str]:
    """What an architecture supports, by its first size: sizes, heads, and what can shrink."""
    from effjax.models import registry
    from effjax.models.hf_config import config_from_hf

    architecture = registry.get(name)
    fields = next(iter(architecture.sizes.values()))
    table = architecture.table(config_from_hf(architecture, fields, head="masked-lm"))
    lines = [
        f"sizes: {', '.join(architecture.sizes)}",
        f"heads: {', '.join(head for head in architecture.heads if head)}",
        f"shrinks: {', '.join(dict.fromkeys(map(kind_of, table.instances)))}",
    ]
    fixed = {kind_of(axis): why for axis, why in table.fixed.items()}
    return lines + [f"does not shrink: {kind} ({why})" for kind, why in fixed.items()]


def kind_of(instance: str) -> str:
    """`heads` of "layer_3/heads"."""
    return instance.rpartition("/")[2]


def objectives() -> dict[str, str]:
    """Distillation objectives: formula, by name."""
    return {node.name: _paragraphs(node)[0] for node in _objectives()}


def source_of(objective: str) -> list[str]:
    """Where it is from, and in what it deviates."""
    found = {node.name: _paragraphs(node) for node in _objectives()}[objective]
    return [text.removeprefix("Source: ") for text in found if text.startswith("Source: ")]


def _objectives() -> Iterator[ast.ClassDef]:
    for file in sorted((_PACKAGE / "distill").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and "Objective" in map(ast.unparse, node.bases):
                yield node


def criteria() -> dict[str, str]:
    """Criteria of pruning: formula, by name."""
    return {node.name: _paragraphs(node)[0].partition(" Source: ")[0] for node in _criteria()}


def criterion_source(criterion: str) -> list[str]:
    """Where it is from, and in what it deviates; nothing where it is from nobody."""
    found = {node.name: ast.get_docstring(node) or "" for node in _criteria()}[criterion]
    source = " ".join(found.split()).partition("Source: ")[2]
    return [source] if source else []


def _criteria() -> Iterator[ast.FunctionDef]:
    for file in sorted((_PACKAGE / "prune").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                given = [argument.arg for argument in node.args.args]
                if ast.unparse(node.returns) == "Scores" and given == ["model", "encoded", "loss"]:
                    yield node


def tasks() -> dict[str, str]:
    """Tasks by name, with their metrics."""
    from effjax.data.tasks import TASKS

    return {name: ", ".join(task.metrics) for name, task in TASKS.items()}


def recipes() -> dict[str, str]:
    """The recipes in configs/ below the current folder, with the first line of each."""
    files = sorted(Path("configs").glob("*.py"))
    return {str(file): _first_line(ast.parse(file.read_text())) for file in files}


def _first_line(node: ast.Module | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _paragraphs(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    text = ast.get_docstring(node) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
