"""The grids of methods and of ways to prune at the smallest size, through their scripts."""

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.wordpiece import train_wordpiece
from effjax.files import write_json
from effjax.models import create
from effjax.prune import narrowed

SCRIPTS = Path(__file__).parents[1] / "experiments"

pytestmark = pytest.mark.usefixtures("few_optimizations")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`source`, a tiny encoder, and `narrow`, half as wide; the generated language is small."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    whole = toy.examples
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
    return tmp_path


@pytest.fixture
def methods(folders: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """methods_grid.py with the generated language as its task, and these as its students."""
    script = importlib.import_module("methods_grid")
    task = script.Task(teacher_epochs=1, search=2, validation=20)
    monkeypatch.setattr(script, "TASKS", {"toy/sentiment": task})
    monkeypatch.setattr(script, "SOURCE", str(folders / "source"))
    students = {"3-layer": str(folders / "source"), "narrow": str(folders / "narrow")}
    monkeypatch.setattr(script, "STUDENTS", students)
    return script


@pytest.fixture
def pruning(folders: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """pruning_grid.py for the generated language; FLOPs instead of a latency table."""
    script = importlib.import_module("pruning_grid")
    monkeypatch.setattr(script, "TASKS", {"toy/sentiment": script.Task(model_epochs=1)})
    monkeypatch.setattr(script, "SOURCE", str(folders / "source"))
    ways = script.PARTS["pruned"].ways[:2]
    student = script.Distilled(name="distilled", source=str(folders / "narrow"))
    parts = {
        "pruned": script.Part(ways=ways[1:], speedups=(1.2, 1.5), recovers=False),
        "recovered": script.Part(ways=ways, speedups=(1.5,)),
        "distilled": script.Part(ways=(student,), speedups=(1.5,)),
    }
    monkeypatch.setattr(script, "PARTS", parts)
    whole = script.recipe

    def small(*what: Any, **more: Any) -> Any:
        changes: Any = {"budget": "flops", "shape": (1, 16), "multiples": (), "calibration": 20}
        return replace(whole(*what, **more), **changes)

    monkeypatch.setattr(script, "recipe", small)
    return script


def call(script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """Runs it with two seeds; where its results are."""
    results = folder / "grid"
    where = ["--out", str(folder / "runs"), "--results", str(results)]
    arguments = ["--tasks", "toy/sentiment", "--seeds", "0", "1", *where, *more]
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *arguments])
    script.main()
    return results


@dataclass(frozen=True)
class Nothing:
    """A recipe that trains nothing: its teacher is where it was first run."""

    task: str = "toy/sentiment"
    teacher: str = "model"
    epochs: int = 1

    def run(self, out: Path, *, accept_changes: bool) -> None:
        report = {"accepted": accept_changes, "recipe": asdict(self)}
        for name, told in {"results": report, "recipe": asdict(self)}.items():
            write_json(out / f"{name}.json", told)
        for folder in ("teacher", "runs/teacher"):
            if not (out / folder).exists():
                write_json(out / folder / "first.json", out.name)


Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run_cells` of three students by these recipes; what was published last."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    grids = importlib.import_module("grids")
    where = {"out": tmp_path / "runs", "results": tmp_path / "grid"}

    def run(*recipes: Nothing, accept: bool = False) -> list[Any]:
        cells = [("toy/sentiment", name) for name in ("3-layer, words", "a", "b")[: len(recipes)]]
        made = dict(zip(cells, recipes, strict=True))
        published: list[Any] = []

        def publish(reports: list[Any], _: Path) -> None:
            published[:] = reports

        grids.run_cells(
            cells, cells, lambda *cell: made[cell], publish, **where, accept_changes=accept
        )
        return published

    return run


@pytest.mark.parametrize("accept", [True, False])
def test_another_recipe_s_runs_are_gone_on_with_if_one_says_so(
    run: Run, tmp_path: Path, accept: bool
) -> None:
    (report,) = run(Nothing(), accept=accept)
    assert report["accepted"] == accept
    assert json.loads((tmp_path / "grid" / "sentiment_3-layer_words.json").read_text()) == report


def test_results_of_another_recipe_are_not_taken_for_one_s_own(run: Run, tmp_path: Path) -> None:
    """A field that came after them changes nothing."""
    run(Nothing())
    with pytest.raises(ValueError, match=r"words\.json has results of .* epochs: 1 -> 2\. Remove"):
        run(Nothing(epochs=2))
    assert run(Nothing(epochs=2), accept=True)[0]["recipe"]["epochs"] == 1
    file = tmp_path / "grid" / "sentiment_3-layer_words.json"
    report = json.loads(file.read_text())
    del report["recipe"]["epochs"]
    file.write_text(json.dumps(report))
    assert run(Nothing(epochs=2)) == [report]


def test_a_task_s_model_is_trained_once_for_those_that_want_it_alike(
    run: Run, tmp_path: Path
) -> None:
    run(Nothing(), Nothing(epochs=2), Nothing(teacher="another"))
    found = [
        json.loads((tmp_path / "runs" / f"sentiment_{name}" / "teacher" / "first.json").read_text())
        for name in ("a", "b")
    ]
    assert found == ["sentiment_3-layer_words", "sentiment_b"]


def runs_nothing(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> None:
    """A second call, on a machine that has the results alone."""
    call(script, folder, monkeypatch, *more, "--out", str(folder / "elsewhere"))
    assert not (folder / "elsewhere").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)  # forty trainings
def test_every_method_is_trained_alike_and_reported(
    methods: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = ("--students", "3-layer", "narrow")
    results = call(methods, tmp_path, monkeypatch, *students)
    lines, teachers = results.with_suffix(".md").read_text().splitlines(), []
    for student in students[1:]:
        report = json.loads((results / f"sentiment_{student}.json").read_text())
        teachers.append(report["teacher_training"])
        runs, names = report["runs"], [*methods.WAYS[student], "control"]
        assert [run["arm"] for run in runs[::2]] == names
        assert len({run["steps"] for run in runs}) == 1
        assert {run["learning_rate"] for run in runs} <= set(methods.RATES)
        first = lines.index(f"| {student} | toy/sentiment accuracy |")
        assert [line.split(" | ")[0] for line in lines[first + 3 : first + 3 + len(names)]] == [
            f"| {name}" for name in ("control", *names[:-1])
        ]
        scores = [
            100 * run["scores"]["validation"]["accuracy"] for run in runs if run["arm"] == "control"
        ]
        wanted = f"| control | {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f} |"
        assert lines[first + 3] == wanted
        over = lines.index(
            f"| {student}: over soft targets, points right | toy/sentiment accuracy |"
        )
        pair = report["comparisons"][student]["MiniLMv2 - soft targets"]["validation"]
        assert any(
            line.startswith(f"| MiniLMv2 | {100 * pair['difference']:+.1f} [")
            for line in lines[over:]
        )
    assert teachers[0] == teachers[1]  # to the second: there is one
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    runs_nothing(methods, tmp_path, monkeypatch, *students)


@pytest.mark.slow
def test_every_way_recovers_alike_and_is_reported(
    pruning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = call(pruning, tmp_path, monkeypatch)
    parts = ("pruned", "recovered", "distilled")
    first, second, third = (
        json.loads((results / f"sentiment_{part}.json").read_text()) for part in parts
    )
    assert first["model_training"] == second["model_training"] == third["model_training"]
    assert not first["runs"] and list(first["ways"]["magnitude"]) == ["1.2x", "1.5x"]
    assert len({run["steps"] for run in (*second["runs"], *third["runs"])}) == 1
    assert [x["seed"] for x in third["pruned"]] == [0, 1]  # each with a head of its own
    assert {x["kept"]["hidden"] for x in third["pruned"]} == {12}
    lines = results.with_suffix(".md").read_text().splitlines()
    assert lines[0] == "| toy/sentiment accuracy, pruned | 1.2x | 1.5x |"
    found = second["ways"]["magnitude"]["1.5x"]
    score = found["scores"]["validation"]["after"]
    wanted = f"{100 * score['mean']:.1f} ± {100 * score['sd']:.1f}"
    assert f"| magnitude | {wanted} ({found['speedup']['mean']:.2f}x) |" in lines
    whole = 100 * second["model_scores"]["validation"]["accuracy"]
    assert (
        whole == 100 * second["model"]["validation"]["mean"]
        and f"| unpruned | {whole:.1f} |" in lines
    )
    pair = second["comparisons"]["1.5x"]["magnitude - random"]["validation"]
    assert any(
        line.startswith(f"| magnitude | {100 * pair['difference']:+.1f} [") for line in lines
    )
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    runs_nothing(pruning, tmp_path, monkeypatch)


def test_a_regression_compares_scores(methods: ModuleType) -> None:
    """Whose only output is no distribution."""
    every = methods.methods(methods.LogitMSE())
    assert [type(method.objective.terms[0].objective).__name__ for method in every] == [
        *("TaskLoss", "LogitMSE", "TaskLoss", "LogitMSE", "TaskLoss")
    ]
