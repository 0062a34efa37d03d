"""The grid of methods at the smallest size, through its script."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.wordpiece import train_wordpiece
from effjax.models import create
from effjax.prune import narrowed

SCRIPTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with the generated language as its task, a tiny encoder as its source, and the
    same, whole and narrow, as its students.
    """
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script, whole = importlib.import_module("methods_grid"), toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=100))
    tokenizer = train_wordpiece(toy.examples("train").texts[0], 150, max_length=32)
    source = create(
        "bert",
        size="tiny",
        key=jax.random.key(0),
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=128,
    )
    for name, model in {"source": source, "narrow": narrowed(source, 12)}.items():
        hf.save_pretrained(model, tmp_path / name, tokenizer=tokenizer)
    task = script.Task(epochs=2, teacher_epochs=1, validation=20)
    monkeypatch.setattr(script, "TASKS", {"toy/sentiment": task})
    monkeypatch.setattr(script, "SOURCE", str(tmp_path / "source"))
    students = {"3-layer": str(tmp_path / "source"), "narrow": str(tmp_path / "narrow")}
    monkeypatch.setattr(script, "STUDENTS", students)
    return script


@pytest.mark.slow
@pytest.mark.timeout(1500)  # thirty trainings, some 230 s alone on two cores
@pytest.mark.parametrize("student", ["3-layer", "narrow"])
def test_every_method_is_trained_alike_and_reported(
    grid: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str
) -> None:
    results = tmp_path / "grid"
    arguments = ["--tasks", "toy/sentiment", "--students", student, "--seeds", "0", "1"]
    arguments += ["--out", str(tmp_path / "runs"), "--results", str(results)]
    monkeypatch.setattr("sys.argv", ["methods_grid.py", *arguments])
    grid.main()
    report = json.loads((results / f"sentiment_{student}.json").read_text())
    runs, names = report["runs"], [*grid.WAYS[student], "control"]
    assert [run["arm"] for run in runs[::2]] == names
    assert len({run["steps"] for run in runs}) == 1
    assert {run["learning_rate"] for run in runs} <= set(grid.RATES)
    lines = results.with_suffix(".md").read_text().splitlines()
    assert lines[0] == f"| {student} | toy/sentiment accuracy |"
    assert [line.split(" | ")[0] for line in lines[3 : 3 + len(names)]] == [
        f"| {name}" for name in ("control", *names[:-1])
    ]
    control = [
        100 * run["scores"]["validation"]["accuracy"] for run in runs if run["arm"] == "control"
    ]
    assert f"| control | {np.mean(control):.1f} ± {np.std(control, ddof=1):.1f} |" == lines[3]
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("effjax.recipe.arms.train", None)  # a second call trains nothing, nor
    monkeypatch.setattr("sys.argv", [*sys.argv, "--out", str(tmp_path / "elsewhere")])
    grid.main()  # does one on a machine that has the results alone
    assert not (tmp_path / "elsewhere").exists()


def test_a_regression_compares_scores(grid: ModuleType) -> None:
    """Whose only output is no distribution."""
    every = grid.methods(grid.LogitMSE(), 1)
    assert [type(method.objective.terms[0].objective).__name__ for method in every] == [
        *("TaskLoss", "LogitMSE", "TaskLoss", "LogitMSE", "TaskLoss")
    ]
