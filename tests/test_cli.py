"""The command line: what each command reaches, and how mistakes end."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax import cache
from effjax.cli import main
from effjax.commands.catalogue import (
    architectures,
    criteria,
    criterion_source,
    objectives,
    source_of,
    tasks,
)
from effjax.commands.predictions import label_lines

COMMANDS = [
    "run",
    "evaluate",
    "predict",
    "glue",
    "convert",
    "verify",
    "measure",
    "prune",
    "data",
    "list",
]

CONFIG = '''"""Writes down what it was given.

    effjax run small.py
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Train:
    """How to train.

    Args:
        learning_rate: At the peak.
    """

    learning_rate: float = 1e-4


@dataclasses.dataclass(frozen=True)
class Recipe:
    train: Train = Train()
    error: str = ""

    def run(self, out: Path, *, accept_changes: bool) -> None:
        if self.error:
            raise ValueError(self.error)
        out.mkdir(parents=True)
        (out / "learning_rate").write_text(f"{self.train.learning_rate}{' new' * accept_changes}")


recipe = Recipe()
'''


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX joins other processes before it is used for the first time, which in tests is past."""
    monkeypatch.setattr("effjax.train.processes.join", lambda: None)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "enable", lambda: None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "small.py"
    file.write_text(CONFIG)
    return file


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("effjax: error: ") and line.count("\n") == 1
    return line


def test_run_gives_the_recipe_its_overrides_and_folder(config: Path, tmp_path: Path) -> None:
    assert main(["run", str(config), "--train.learning-rate", "3e-5", "--out", "there"]) == 0
    assert (tmp_path / "there" / "learning_rate").read_text() == "3e-05"
    assert main(["run", str(config), "--accept-changes"]) == 0
    assert (tmp_path / "runs" / "small" / "learning_rate").read_text() == "0.0001 new"


def test_every_command_has_the_compilation_cache(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it runs: JAX reads where the cache is when it is imported."""
    seen: list[str] = []
    monkeypatch.setattr(cache, "enable", lambda: seen.append("on"))
    monkeypatch.setattr("effjax.cli.parse", lambda arguments: lambda: seen.append("run"))
    assert main(["run", str(config)]) == 0
    assert seen == ["on", "run"]


def test_run_help_is_about_the_recipe(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(config), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Writes down what it was given." in shown
    assert "--train.learning-rate FLOAT  (default: 0.0001)\n        At the peak." in shown


def test_an_unknown_field_names_the_closest(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, "run", str(config), "--train.learnin-rate", "1")
    assert "unknown recipe field 'train.learnin-rate'; closest: train.learning-rate" in line
    assert not (tmp_path / "runs").exists()


def test_an_error_of_the_run_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "first; second" in error_line(capsys, "run", str(config), "--error", "first\n  second")


def test_the_traceback_is_there_for_who_asks(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFJAX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="boom"):
        main(["run", str(config), "--error", "boom"])


@pytest.mark.parametrize(
    ("content", "message"),
    [("x = 1", "defines no `recipe`"), ("recipe = 1", "defines no `recipe`")],
)
def test_a_file_without_a_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(content)
    assert message in error_line(capsys, "run", "bad.py")


def test_files_that_are_not_there_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.py: no such recipe" in error_line(capsys, "run", "nowhere.py")
    line = error_line(capsys, "data", "import", "glue/sst2", "--source", "nowhere")
    assert "nowhere" in line and "train.tsv" in line


def test_an_unknown_task_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "glue/sst2" in error_line(capsys, "evaluate", "folder", "--task", "glue/sst3")


def test_a_dataset_that_is_not_there_comes_with_the_import_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = error_line(capsys, "evaluate", "x", "--task", "glue/rte", "--data-dir", str(tmp_path))
    assert "effjax data import glue/rte --source FOLDER" in line


def test_a_dataset_of_two_tasks_is_imported_under_its_own_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = ["--task", "similarity/stsb", "--data-dir", str(tmp_path)]
    assert "effjax data import glue/stsb --source" in error_line(capsys, "evaluate", "x", *task)


def test_predict_takes_text_or_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["folder"], ["folder", "lines.txt", "--task", "glue/sst2"]):
        assert "either a text file or --task" in error_line(capsys, "predict", *arguments)
    arguments = ("folder", "--task", "glue/sst2", "--on-bad", "skip")
    assert "--on-bad is for a text file" in error_line(capsys, "predict", *arguments)
    line = error_line(capsys, "predict", "folder", "in.txt", "--split", "test")
    assert "--split is for --task" in line
    line = error_line(capsys, "predict", "folder", "--task", "similarity/stsb")
    assert "similarity/stsb has no leaderboard" in line


@pytest.mark.parametrize("arguments", [["lsit"], ["list", "--all"], ["evaluate", "folder"], []])
def test_what_cannot_be_parsed_ends_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_list_shows_every_kind(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs").mkdir()
    config.rename("configs/small.py")
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "configs/small.py  Writes down what it was given." in shown
    assert "bert" in shown and "glue/sst2" in shown
    assert main(["list", "tasks"]) == 0
    assert capsys.readouterr().out.startswith("tasks:\n  glue/cola ")


def test_architectures_alone_say_what_each_supports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "architectures"]) == 0
    printed = capsys.readouterr().out
    distilbert = printed[printed.index("  distilbert") :].splitlines()[1:4]
    assert [line.strip() for line in distilbert] == [
        "sizes: base",
        "heads: masked-lm, sequence-classification, token-classification, question-answering, "
        "multiple-choice",
        "shrinks: vocabulary, hidden, heads, ffn",
    ]
    assert printed.count("sizes: ") == printed.count("heads: ") == len(architectures())


def test_the_lists_are_what_the_library_has() -> None:
    from effjax import distill
    from effjax.data.tasks import TASKS
    from effjax.models.registry import ARCHITECTURES

    assert list(architectures()) == list(ARCHITECTURES)
    assert list(tasks()) == list(TASKS)
    public = {name for name in distill.__all__ if is_objective(getattr(distill, name))}
    assert public == set(objectives())
    assert objectives()["HiddenCosine"] == "1 - cos(h_s, h_t) per token and layer pair."
    (source,) = source_of("HiddenCosine")
    assert source.startswith("arXiv 1910.01108, section 2")
    assert all(source_of(name) for name in objectives())


def test_the_criteria_are_what_a_recipe_knows() -> None:
    from effjax.recipe.ways import CRITERIA

    assert set(criteria()) == set(CRITERIA)
    assert criteria()["first_order"] == "E_x |dL(x) / dg_i|."
    (source,) = criterion_source("first_order")
    assert source.startswith("arXiv 1905.10650, the score of heads. Deviation: ")
    assert {name for name in criteria() if not criterion_source(name)} == {"uniform"}


def is_objective(found: Any) -> bool:
    from effjax.distill import Objective

    return isinstance(found, type) and issubclass(found, Objective) and found is not Objective


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code in (0, None)
    assert f"Example: effjax {command} " in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["--help", "list"])
def test_help_and_list_are_fast_and_do_without_jax(argument: str) -> None:
    code = (
        "import sys, time\nfrom effjax.cli import main\n"
        f"try:\n    main([{argument!r}])\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'flax', 'transformers', 'tensorflow_datasets', 'sklearn', 'torch'}\n"
        "print(time.process_time())  # of this process alone: the machine may be busy\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.splitlines()[-2:]
    assert loaded == "[]"
    assert float(seconds) < 2.0


def test_a_line_of_text_becomes_label_and_probability() -> None:
    logits = np.array([[0.0, np.log(3.0)], [2.0, 2.0 - np.log(9.0)]], np.float32)
    assert label_lines(logits, ("bad", "good")) == ["good\t0.750000", "bad\t0.900000"]
    scores = np.array([[1.5], [-2.0]], np.float32)
    assert label_lines(scores, ("score",)) == ["1.500000", "-2.000000"]
