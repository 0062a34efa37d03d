"""A whole experiment at the smallest size, through the code that `effjax run` runs."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from effjax import hf
from effjax.data import toy
from effjax.distill import (
    AttentionMSE,
    Augmentation,
    HiddenMSE,
    SentenceMSE,
    SoftTargets,
    Weighted,
)
from effjax.hf import from_pretrained
from effjax.recipe import Distillation, Method, Search, Stage, Student, Teacher, arms
from effjax.recipe.figure import draw
from effjax.recipe.report import lines, summary
from effjax.recipe.spec import CONTROL, RANDOM, NewModel
from effjax.train import Training
from effjax.train.fitting import Fit
from effjax.train.logs import read_history
from tests.recipe.test_finetuning import tiny_encoder

SMALL = Training(epochs=1, batch_size=150, learning_rate=1e-3, max_length=32)
"""Of 450 examples: every batch has as many rows, so that a step is compiled once."""


def distilled(objective: Weighted, *before: Stage) -> tuple[Method, ...]:
    """The methods of a recipe with a single one."""
    return (Method(name="distilled", objective=objective, before=before),)


RECIPE = Distillation(
    task="toy/sentiment",
    splits=("validation",),
    held_out=86,
    teacher=Teacher(hidden=16, layers=2, heads=2, vocab_size=200, training=SMALL),
    students=(Student(name="1-layer", layers=(1,)),),
    methods=distilled(
        Weighted(soft=(1.0, SoftTargets(temperature=2.0)), hidden=(1.0, HiddenMSE(project=False)))
    ),
    training=SMALL,
    search=Search(learning_rates=(1e-3, 2e-3), steps=2, validation=64),
    seeds=(0, 1),
    latency=((1, 8),),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, run once on a small part of the generated language."""
    whole, folder = toy.examples, tmp_path_factory.mktemp("experiment") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "examples", lambda split: whole(split, size=600))
        RECIPE.run(folder)
        results = (folder / "results.json").read_text()
        patch.setattr(arms, "train", None)  # a second call trains nothing
        RECIPE.run(folder)
    first, second = json.loads(results), json.loads((folder / "results.json").read_text())
    assert first["runs"] == second["runs"]
    return folder


def test_results_say_everything(out: Path) -> None:
    report = json.loads((out / "results.json").read_text())
    runs = report["runs"]
    assert {(run["arm"], run["seed"]) for run in runs} == {
        (arm, seed) for arm in ("distilled", "control", "random") for seed in (0, 1)
    }
    assert {run["steps"] for run in runs} == {3}
    assert {run["learning_rate"] for run in runs} <= {1e-3, 2e-3}
    held = {"held_out": 86, "search": 64}
    assert report["examples"] == {"train": 600 - 150, "validation": 600, **held}
    assert set(report["sha256"]) == {"train"}
    arm = report["students"]["1-layer"]["distilled"]["held_out"]
    scores = [run["scores"]["held_out"]["accuracy"] for run in runs if run["arm"] == "distilled"]
    assert arm["n"] == 86
    assert arm["mean"] == pytest.approx(np.mean(scores))
    assert arm["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert arm["interval"][0] <= arm["mean"] <= arm["interval"][1]
    assert arm["of_teacher"] == pytest.approx(
        np.mean(scores) / report["teacher"]["held_out"]["mean"]
    )
    pairs = report["comparisons"]["1-layer"]
    assert list(pairs) == ["random - control", "distilled - control", "distilled - random"]
    difference = pairs["distilled - control"]["validation"]
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert report["sizes"]["1-layer"]["params"] < report["sizes"]["teacher"]["params"]
    (method,) = report["recipe"]["methods"]
    assert method["objective"]["terms"][0]["objective"]["type"] == "SoftTargets"
    assert {"commit", "machine", "wall_seconds"} <= set(report)
    given = (from_pretrained(out / "teacher"), RECIPE.students[0], RECIPE.methods[0])
    begun = arms.start(*given, seed=0)
    random = {run["arm"] for run in runs if "begun" not in run}
    assert random == {"random"}  # whose arrays are all of its seed
    assert {run["begun"] for run in runs if run["arm"] not in random} == {begun.digest}
    assert {run["tokens"] for run in runs} == {report["sha256"]["train"]}
    searched = json.loads((out / "runs/1-layer/distilled/search/0.001.json").read_text())
    assert searched["begun"] == begun.digest
    assert {run["commit"] for run in runs} == {report["commit"]}
    assert report["teacher_training"]["commit"] == report["commit"]


def test_every_training_leaves_its_curves_and_no_checkpoint(out: Path) -> None:
    trained = {path.parent for path in (out / "runs").rglob("training.json")}
    drawn = {path.parent for path in (out / "runs").rglob("curves.png")}
    assert drawn == {folder for folder in trained if folder.parent.name != "search"}
    assert not list((out / "runs").rglob("checkpoints"))


def test_the_control_starts_where_the_student_does(out: Path) -> None:
    teacher = from_pretrained(out / "teacher")
    begin = {
        arm.name: arms.start(teacher, RECIPE.students[0], arm, seed=0)
        for arm in (*RECIPE.methods, CONTROL, RANDOM)
    }
    kernel = {
        arm: model.params["layer_0"]["feedforward"]["up"]["kernel"] for arm, model in begin.items()
    }
    np.testing.assert_array_equal(
        kernel["distilled"], teacher.params["layer_1"]["feedforward"]["up"]["kernel"]
    )
    np.testing.assert_array_equal(kernel["distilled"], kernel["control"])
    assert not np.array_equal(kernel["random"], kernel["control"])
    assert begin["random"].config == begin["control"].config


def test_the_student_loads_in_transformers(out: Path) -> None:
    folder = out / "students" / "1-layer" / "distilled"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hf_model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = ["the plot was not very good", "a superb film"]
    ours = from_pretrained(folder)(tokenizer(texts, return_tensors="np", padding=True)).logits
    theirs = hf_model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), atol=1e-4)
    assert "accuracy" in (folder / "README.md").read_text()


def test_finished_runs_leave_no_checkpoints(out: Path) -> None:
    assert len(list(out.glob("runs/**/metrics.jsonl"))) == 1 + 3 * (2 + 2)
    assert not list(out.glob("runs/**/checkpoints"))


def test_table_and_picture_are_there(out: Path) -> None:
    table = (out / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| teacher",
        "| 1-layer distilled",
        "| 1-layer control",
        "| 1-layer random",
    ]
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_another_recipe_is_refused_in_the_same_folder(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=600))
    with pytest.raises(ValueError, match=r"was begun with other settings: seeds\.0: 0 -> 5"):
        replace(RECIPE, seeds=(5,)).run(out)


def test_runs_of_older_versions_are_read(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which do not say what they began with."""
    small_words(monkeypatch)
    shutil.copytree(out, tmp_path / "out")
    for file in (tmp_path / "out" / "runs" / "1-layer").rglob("*.json"):
        if file.name == "result.json" or file.parent.name == "search":
            known = json.loads(file.read_text())
            kept = {name: x for name, x in known.items() if name not in ("begun", "tokens")}
            file.write_text(json.dumps(kept))
    monkeypatch.setattr(arms, "train", None)  # nothing is trained anew
    RECIPE.run(tmp_path / "out")
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert not any({"begun", "tokens"} & set(run) for run in runs)


def small_words(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=600))


@pytest.mark.slow
def test_students_of_other_architectures_and_tokenizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new DistilBERT reads the teacher's tokens, a pretrained encoder with a smaller vocabulary
    its own; each has a control that starts where it does.
    """
    source = str(tiny_encoder(tmp_path / "encoder", words=80))
    small_words(monkeypatch)
    new = NewModel(architecture="distilbert", size="base", hidden=8, layers=1, heads=2, ffn=12)
    recipe = replace(
        RECIPE,
        students=(Student(name="new", model=new), Student(name="own", source=source)),
        methods=distilled(
            Weighted(soft=(1.0, SoftTargets(temperature=2.0)), sentence=(1.0, SentenceMSE()))
        ),
        search=Search(learning_rates=(1e-3,), steps=1, validation=0),
        seeds=(0,),
    )
    recipe.run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    arms_of = {name: list(found) for name, found in report["students"].items()}
    assert arms_of == {"new": ["distilled", "control"], "own": ["distilled", "control"]}
    students = {name: tmp_path / "out" / "students" / name / "distilled" for name in arms_of}
    made, own = map(from_pretrained, students.values())
    teacher = from_pretrained(tmp_path / "out" / "teacher")
    assert made.architecture.name == "distilbert"
    assert made.config.vocab_size == teacher.config.vocab_size != own.config.vocab_size
    assert own.config.vocab_size <= 80
    tokenizer = AutoTokenizer.from_pretrained(students["own"])
    assert len(tokenizer) == own.config.vocab_size


@pytest.mark.parametrize(
    ("rates", "finished"),
    [((1e-3,), "seed-0/result.json"), ((1e-3, 2e-3), "search/0.001.json")],
)
def test_runs_of_one_student_have_one_start(
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rates: tuple[float, ...],
    finished: str,
) -> None:
    """Whose folder holds another encoder when a recipe goes on: what is finished says which one it
    began with, until that is accepted, and in the results too.
    """
    source, (teacher, trained) = tiny_encoder(tmp_path / "encoder"), ("teacher", "runs/teacher")
    small_words(monkeypatch)
    for folder in (teacher, trained):
        shutil.copytree(out / folder, tmp_path / "out" / folder)
    recipe = replace(
        RECIPE,
        students=(Student(name="own", source=str(source)),),
        methods=distilled(Weighted(soft=(1.0, SoftTargets()))),
        search=Search(learning_rates=rates, steps=1, validation=64),
    )
    whole = arms.fit

    def stopped(*what: Any, seed: int, **how: Any) -> Fit:
        if seed == 1:
            raise KeyboardInterrupt
        return whole(*what, seed=seed, **how)

    def start() -> str:
        given = (from_pretrained(out / "teacher"), recipe.students[0], recipe.methods[0])
        return arms.start(*given, seed=0).digest

    monkeypatch.setattr(arms, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        recipe.run(tmp_path / "out")
    before, encoder = start(), from_pretrained(source)
    other = encoder.replace(params=jax.tree.map(lambda x: 2 * x, encoder.params))
    hf.save_pretrained(other, source, tokenizer=hf.load_tokenizer(source), overwrite=True)
    monkeypatch.setattr(arms, "fit", whole)
    message = rf"{finished} is of a training that began otherwise: begun: {before} -> {start()}\. "
    with pytest.raises(ValueError, match=message):
        recipe.run(tmp_path / "out")
    recipe.run(tmp_path / "out", accept_changes=True)
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    begun = {(run["arm"], run["seed"]): run["begun"] for run in report["runs"]}
    assert begun.pop(("distilled", 0)) == before
    assert set(begun.values()) == {start()}


@pytest.mark.slow
def test_layers_are_learned_in_a_stage_of_their_own(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TinyBERT's; the method's last stage goes on from there, and so do the searched ones. The
    other method, and the controls, take as many steps in one training.
    """
    small_words(monkeypatch)
    layers = Weighted(hidden=(1.0, HiddenMSE(layers="last")), attention=(1.0, AttentionMSE()))
    before = Stage(name="layers", objective=layers, epochs=2, learning_rate=2e-3)
    soft = Weighted(soft=(1.0, SoftTargets()))
    methods = (*distilled(soft, before), Method(name="at once", objective=soft))
    staged = replace(RECIPE, methods=methods, training=replace(SMALL, epochs=3), seeds=(0,))
    staged = replace(staged, teacher_runs="every step")
    shutil.copytree(out / "teacher", tmp_path / "out" / "teacher")
    shutil.copytree(out / "runs" / "teacher", tmp_path / "out" / "runs" / "teacher")
    staged.run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    names = [run["arm"] for run in report["runs"]]
    assert names == ["distilled", "at once", "control", "random"]
    assert {run["steps"] for run in report["runs"]} == {3 * 3}
    pairs = combinations([*names[2:], *names[:2]], 2)
    assert list(report["comparisons"]["1-layer"]) == [f"{a} - {b}" for b, a in pairs]
    folder = tmp_path / "out" / "runs" / "1-layer"
    stage = folder / "distilled" / "seed-0" / "layers"
    (layers_of, *_), (last, *_) = read_history(stage), read_history(stage.parent)
    assert {"hidden", "attention"} <= set(layers_of) and "soft" not in layers_of
    assert "soft" in last and "hidden" not in last
    assert json.loads((stage / "training.json").read_text())["training"]["learning_rate"] == 2e-3
    assert "task" in read_history(folder / "control" / "seed-0")[0]
    assert (stage / "curves.png").exists()
    assert not list((tmp_path / "out").rglob("checkpoints"))


@pytest.mark.slow
def test_seeds_run_in_one_program(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do the rates of the search, and stages; every student has results of its own."""
    small_words(monkeypatch)
    stage = Stage(
        name="layers", objective=Weighted(hidden=(1.0, HiddenMSE())), epochs=1, learning_rate=1e-3
    )
    recipe = replace(
        RECIPE,
        methods=distilled(Weighted(soft=(1.0, SoftTargets())), stage),
        training=replace(SMALL, epochs=2),
        seeds_run="together",
    )
    shutil.copytree(out / "teacher", tmp_path / "out" / "teacher")
    shutil.copytree(out / "runs" / "teacher", tmp_path / "out" / "runs" / "teacher")
    recipe.run(tmp_path / "out")
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    arms_of = [(run["arm"], run["seed"]) for run in runs]
    assert arms_of == [(arm, i) for arm in ("distilled", "control", "random") for i in (0, 1)]
    assert {run["steps"] for run in runs} == {2 * 3}
    folder = tmp_path / "out" / "runs" / "1-layer" / "random"
    last = read_history(folder / "seed-0")[-1]
    assert last["loss/0"] != last["loss/1"]
    assert last["loss"] == pytest.approx((last["loss/0"] + last["loss/1"]) / 2)
    searched = json.loads((folder / "search" / "0.001 0.002" / "training.json").read_text())
    assert searched["learning_rates"] == [1e-3, 2e-3]
    assert (folder / "seed-1" / "result.json").exists()
    monkeypatch.setattr(arms, "train", None)  # a second call trains nothing
    recipe.run(tmp_path / "out")


@pytest.mark.slow
def test_a_student_learns_from_two_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, at weights; each is trained, kept and reported, and its outputs are its own."""
    small_words(monkeypatch)
    other = Teacher(name="small", hidden=8, layers=1, heads=1, training=SMALL, seed=5)
    both = Weighted(
        soft=(0.5, SoftTargets()),
        other=(0.5, SoftTargets(teacher="small")),
        hidden=(1.0, HiddenMSE(teacher="small")),
    )
    recipe = replace(
        RECIPE,
        other_teachers=(other,),
        methods=(*distilled(both), Method(name="one", objective=Weighted(s=(1.0, SoftTargets())))),
        search=Search(learning_rates=(1e-3,), steps=1, validation=0),
        seeds=(0,),
        teacher_outputs=str(tmp_path / "outputs"),
    )
    recipe.run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert report["other_teachers"]["small"]["scores"]["validation"]["mean"] > 0
    assert report["sizes"]["small"]["params"] < report["sizes"]["teacher"]["params"]
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:5]] == [
        "| teacher",
        "| small",
        "| 1-layer distilled",
    ]
    assert from_pretrained(tmp_path / "out" / "small").config.num_layers == 1
    assert (tmp_path / "outputs-small" / "outputs.json").exists()
    terms = read_history(tmp_path / "out" / "runs" / "1-layer" / "distilled" / "seed-0")[-1]
    assert terms["other"] != terms["soft"]


@pytest.mark.slow
def test_arms_train_on_augmented_texts_from_outputs_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 examples and their copies; the masked LM has to be one."""
    source = tiny_encoder(tmp_path / "encoder", words=150)
    small_words(monkeypatch)
    outputs = tmp_path / "outputs"
    recipe = replace(
        RECIPE,
        transfer=300,
        augmentation=Augmentation(source=str(source), copies=2, candidates=5),
        methods=distilled(Weighted(soft=(1.0, SoftTargets()))),
        search=Search(learning_rates=(1e-3,), steps=1, validation=0),
        seeds=(0,),
        teacher_outputs=str(outputs),
        teacher_top_k=1,
    )
    with pytest.raises(ValueError, match="encoder cannot fill in words: it lacks head/dense"):
        recipe.run(tmp_path / "out")
    model = hf.from_pretrained(source, head="masked-lm")
    tokenizer = hf.load_tokenizer(source)
    hf.save_pretrained(model, source, tokenizer=tokenizer, overwrite=True)
    recipe.run(tmp_path / "out")
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert {run["steps"] for run in runs} == {900 // 150}
    with np.load(outputs / "from-000000000.npz") as kept:
        assert kept["top/0/example"].shape == (900, 1)  # of two logits
    monkeypatch.setattr("effjax.distill.teacher_cache.computed", None)  # the folder is read
    replace(recipe, seeds=(0, 1)).run(tmp_path / "out", accept_changes=True)


def test_an_interval_is_of_an_accuracy_and_of_nothing_else(out: Path, tmp_path: Path) -> None:
    """F1 may lie far from the share of right answers; the table and the figure go without."""
    right = np.array([1.0] * 7 + [0.0] * 3)
    assert summary([0.7], right, "accuracy")["interval"][0] < 0.7
    assert summary([0.85, 0.87], right, "f1") == pytest.approx({"mean": 0.86, "sd": 0.02**0.5 / 10})
    report = json.loads((out / "results.json").read_text()) | {"metric": "f1"}
    report["teacher"]["validation"] = summary([0.85], right, "f1")
    draw(report, tmp_path / "figure.png")
    header, (teacher, *_) = lines(report)
    assert teacher[header.index("validation f1")] == "85.00"
