"""`effjax glue`: the results of nine fine-tunings as one number."""

import json
from pathlib import Path

import pytest

from effjax.cli import main
from effjax.data.glue_score import GLUE


def put_results(folder: Path) -> list[str]:
    """results.json of every task, with one score for all metrics of a task: 0.1 to 0.9."""
    files = []
    for i, task in enumerate(GLUE, start=1):
        metrics = {name: {"mean": i / 10, "sd": 0.01} for name in task.metrics}
        report = {"task": task.name, "scores": {split: metrics for split in task.dev}}
        files.append(folder / task.title / "results.json")
        files[-1].parent.mkdir()
        files[-1].write_text(json.dumps(report))
    return [str(file) for file in files]


def test_the_means_of_nine_tasks_make_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["glue", *put_results(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["glue/cola  0.1000", "glue/sst2  0.2000"]
    assert lines[-1].startswith("GLUE score  0.5000")
    assert len(lines) == 10


def test_results_that_make_no_score_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = put_results(tmp_path)
    other = tmp_path / "other.json"
    other.write_text('{"task": "glue/cola", "students": {}}')
    for given, message in (
        (files[:-1], "missing: glue/wnli"),
        ([*files, files[0]], "CoLA/results.json: is the second file with results of glue/cola"),
        ([str(other)], "other.json: has no scores"),
        ([str(tmp_path / "none.json")], "none.json: there is no such file"),
    ):
        assert main(["glue", *given]) == 2
        shown = capsys.readouterr()
        assert message in shown.err and not shown.out
