"""Arrows point down: who may import whom, read from the source of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import effjax
from effjax.models import registry

PACKAGE = Path(effjax.__file__).parent

# The first part of a module's path below effjax, and its level; an arrow points to a lower level or
# to itself.
LEVELS = {
    "types": 0,
    "table": 0,
    "tree": 0,
    "files": 0,
    "cache": 0,
    "choices": 0,
    "process": 0,
    "layers": 1,
    "data": 1,
    "models": 2,
    "hf": 3,
    "distill": 3,
    "prune": 3,
    "quant": 3,
    "measure": 3,
    "export": 3,
    "train": 4,
    "recipe": 5,
    "commands": 5,
    "overrides": 5,
    "values": 5,
    "cli": 5,
    "__main__": 5,
}
TORCH = ("effjax.hf.verify", "effjax.hf.modeling_compact")
ARCHITECTURES = {
    home.partition(":")[0].rpartition(".")[2] for home, _ in registry.ARCHITECTURES.values()
} | {"deberta_v2_config", "bottleneck"}


def imports(source: str) -> Iterator[str]:
    """Every module that the source imports, within functions too; `from a import b` is a.b."""
    for node in ast.walk(_without_type_checking(ast.parse(source))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "effjax imports itself by absolute names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    class Prune(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            self.generic_visit(node)
            return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node

    return Prune().visit(tree)


def area(module: str) -> str:
    """The part of effjax that a dotted name below it belongs to: effjax.hf.read is of hf."""
    return module.split(".")[1]


def faults(module: str, source: str) -> list[str]:
    """What the imports of one module break."""
    here, found = area(module), []
    if here not in LEVELS:
        return [f"{module}: not in LEVELS; give it a place"]
    for name in imports(source):
        root, arrow = name.split(".")[0], f"{module} -> {name}"
        if root in ("configs", "experiments", "tests", "tensorflow"):
            found.append(f"{arrow}: effjax imports none of these")
        elif root == "torch" and module not in TORCH:
            found.append(f"{arrow}: torch is for {' and '.join(TORCH)} alone")
        elif name.endswith("modeling_compact"):
            found.append(f"{arrow}: is written beside weights, never imported")
        elif root == "flax" and here not in ("layers", "models"):
            found.append(f"{arrow}: Flax stays in layers and models")
        elif root == "effjax":
            found += _arrow_faults(here, name, arrow)
    return found


def _arrow_faults(here: str, name: str, arrow: str) -> list[str]:
    if "." not in name or area(name) not in LEVELS:  # effjax itself and its lazy names
        return [] if LEVELS[here] == 5 else [f"{arrow}: only the command line imports the top"]
    there = area(name)
    if LEVELS[there] > LEVELS[here]:
        return [f"{arrow}: points up"]
    if LEVELS[here] == LEVELS[there] == 3 and here != there:
        return [f"{arrow}: siblings do not import each other"]
    if LEVELS[here] > 2 and there == "models" and name.split(".")[2] in ARCHITECTURES:
        return [f"{arrow}: only models knows one architecture"]
    return []


MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
MODULES.pop("effjax", None)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    assert faults(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("effjax.layers.linear", "from effjax.models import base"),
        ("effjax.distill.soft", "from effjax.train.step import train_step"),
        ("effjax.distill.soft", "def f():\n    import effjax.prune.shrink"),
        ("effjax.prune.fisher", "from effjax.models.bert import BERT"),
        ("effjax.hf.read", "import torch"),
        ("effjax.hf.verify", "import effjax.hf.modeling_compact"),
        ("effjax.train.loop", "from flax import linen"),
        ("effjax.train.loop", "import tensorflow as tf"),
        ("effjax.train.loop", "import effjax"),
        ("effjax.recipe", "import configs.quickstart"),
        ("effjax.somewhere", "import os"),
    ],
)
def test_an_arrow_that_points_elsewhere_is_found(module: str, line: str) -> None:
    assert len(faults(module, line)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("effjax.hf.verify", "def f():\n    import torch"),
        ("effjax.train.loop", "from effjax.hf import save_pretrained"),
        ("effjax.models.distilbert", "from effjax.models.bert import NAMES"),
        ("effjax.hf.read", "if TYPE_CHECKING:\n    from effjax.train import loop"),
        ("effjax.commands.recipes", "def f():\n    import effjax"),
    ],
)
def test_a_fair_arrow_is_not(module: str, line: str) -> None:
    assert faults(module, line) == []
