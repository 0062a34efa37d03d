"""Every config names splits that its task has, learns its logits as they are, its fields can be
set, and its header says how it is run, what came of it and what was published.
"""

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from effjax.data import get_task
from effjax.data.kinds import KINDS
from effjax.overrides import flatten

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))

MINILM, DISTILBERT = "MiniLM-6x384", "DistilBERT"
QUOTES = {
    "distil_sst2": (MINILM, "MiniLM-6x384 has {SST-2} on SST-2 dev"),
    "distilbert": (DISTILBERT, "{glue}; IMDb {imdb}; SQuAD v1.1 {exact} / {f1}."),
    "finetune_cola": (MINILM, "MiniLM-6x384 has {CoLA} on CoLA dev"),
    "finetune_imdb": (DISTILBERT, "DistilBERT has {imdb} ("),
    "finetune_mnli": (MINILM, "MiniLM-6x384 has {MNLI-m} on MNLI-m dev"),
    "finetune_mrpc": (MINILM, "MiniLM-6x384 has {MRPC} on MRPC dev"),
    "finetune_qnli": (MINILM, "MiniLM-6x384 has {QNLI} on QNLI dev"),
    "finetune_qqp": (MINILM, "MiniLM-6x384 has {QQP} on QQP dev"),
    "finetune_rte": (MINILM, "MiniLM-6x384 has {RTE} on RTE dev"),
    "finetune_squad": (DISTILBERT, "DistilBERT has F1 {f1} and exact match {exact} ("),
    "finetune_sst2": (MINILM, "MiniLM-6x384 has {SST-2} on SST-2 dev"),
    "minilm": (MINILM, "({glue})"),
    "mobilebert": ("MobileBERT", "MobileBERT's: GLUE {split} {glue_avg}, SQuAD v1.1 F1 {f1})"),
    "prune_block_movement": (
        "block movement pruning",
        "F1 {f1} on dev, {speedup} times as fast.",
    ),
    "prune_cofi": ("CoFi 95% sparsity", "95% gone, {speedup} times as fast: {glue}."),
    "prune_retraining_free": (
        "retraining-free pruning (Kwon)",
        "for at most {loss_points} point, {speedup} times as fast",
    ),
    "tinybert6_general": ("TinyBERT-6", "on GLUE's {split} sets: {glue} ("),
    "tinybert6_mrpc": ("TinyBERT-6", "row of TinyBERT-6 is of GLUE's {split} sets: MRPC {MRPC} ("),
    "tinybert_general": ("TinyBERT-4", "on GLUE's {split} sets: {glue} ("),
    "tinybert_mrpc": ("TinyBERT-4", "row of TinyBERT-4 is of GLUE's {split} sets: MRPC {MRPC} ("),
}
"""The published row that a header quotes, and its words."""

NO_ROW = {
    "finetune_conll",
    "finetune_stsb",
    "finetune_wnli",
    "minilmv2",
    "pretrain_electra",
    "prune_sst2",
}
"""Whose headers speak of a paper that published.json has no row of."""


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_names_splits_that_its_task_has(file: Path) -> None:
    recipe = runpy.run_path(str(file))["recipe"]
    task = getattr(recipe, "task", None)
    if isinstance(task, str):
        assert set(recipe.splits) <= set(get_task(task).splits)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_header_says_how_a_config_is_run_and_what_came_of_it(file: Path) -> None:
    header = header_of(file)
    assert re.search(rf"\beffjax run configs/{file.name}( |$)", header)
    assert re.search(r"\b(Measured|Not yet run)\b", header)
    for path in re.findall(r"paper/results/\w+\.json", header):
        assert (ROOT / path).exists(), path


def test_every_published_row_that_a_header_quotes_is_looked_up() -> None:
    speak = {x.stem for x in CONFIGS if re.search(r"Paper:|published row", header_of(x))}
    assert speak == QUOTES.keys() | NO_ROW


@pytest.mark.parametrize("name", QUOTES)
def test_a_published_row_is_quoted_as_it_is(assets: Path, name: str) -> None:
    model, words = QUOTES[name]
    published = json.loads((assets / "data" / "published.json").read_text())
    (row,) = (row for row in published["rows"] if row["model"] == model)
    found = scores(row, published["glue_order"])
    assert words.format_map(found) in header_of(ROOT / "configs" / f"{name}.py")
    kept = getattr(runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["recipe"], "published", ())
    numbers = [x for x in found.values() if isinstance(x, float)]
    for _, score in kept:
        assert pytest.approx(100 * score) in numbers


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_soft_targets_are_over_positions_for_answers_alone(file: Path) -> None:
    recipe = runpy.run_path(str(file))["recipe"]
    task = getattr(recipe, "task", None)
    answers = isinstance(task, str) and KINDS[get_task(task).kind].head == "question-answering"
    found = {leaf.value for name, leaf in flatten(recipe).items() if name.endswith(".over")}
    assert found <= {"positions" if answers else "classes"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_field_of_a_config_has_a_name_of_its_own(file: Path) -> None:
    assert flatten(runpy.run_path(str(file))["recipe"])


def scores(row: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """A published row by the names that quotes have: every task of GLUE, and `glue` as a list of
    all; SQuAD's exact match and F1.
    """
    tasks = row.get("glue_named") or dict(zip(order, row.get("glue", ()), strict=False))
    exact, f1 = row.get("squad_v1", (None, row.get("squad_v1_f1")))
    listed = ", ".join(f"{task} {score}" for task, score in tasks.items())
    return {**row, **tasks, "glue": listed, "exact": exact, "f1": f1}


def header_of(file: Path) -> str:
    """A config's header in one line."""
    return " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split())
