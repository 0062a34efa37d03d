"""Fine-tuning at the smallest size, through the code that `effjax run` runs."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

from effjax import hf
from effjax.data import TaggedFiles, TextFiles, toy
from effjax.data.squad import Questions
from effjax.data.tasks import get_task
from effjax.data.wordpiece import train_wordpiece
from effjax.models import create
from effjax.recipe import Finetuning, Teacher
from effjax.recipe.finetuning import publish
from effjax.recipe.prepare import Data, Splits, untrained_teacher
from effjax.recipe.report import data_fields
from effjax.train import Training
from effjax.train.logs import read_history
from tests.train.small_run import SIZES, small_data


def tiny_encoder(folder: Path, words: int = 200) -> Path:
    """An untrained encoder with a vocabulary of the generated language, as a folder."""
    texts = toy.examples("train", size=600).texts[0]
    tokenizer = train_wordpiece(texts, words, max_length=32)
    sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    model = create("bert", size="tiny", key=jax.random.key(0), **sizes)
    hf.save_pretrained(model, folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Finetuning:
    """Of a tiny encoder in a folder, on the generated language."""
    training = Training(epochs=2, batch_size=150, learning_rate=3e-3, max_length=32)
    return Finetuning(
        task="toy/sentiment",
        splits=("validation",),
        source=str(tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")),
        training=training,
        seeds=(0, 1),
        published=(("nobody", 0.5),),
    )


@pytest.mark.parametrize(
    ("task", "head", "labels"),
    [
        ("glue/mrpc", "sequence-classification", ("not_equivalent", "equivalent")),
        ("glue/stsb", "sequence-classification", ("score",)),
        ("squad/v1.1", "question-answering", ("LABEL_0", "LABEL_1")),
        ("conll2003/conll2003", "token-classification", get_task("conll2003/conll2003").labels),
    ],
)
def test_every_kind_of_task_has_its_head(
    recipe: Finetuning, task: str, head: str, labels: tuple[str, ...]
) -> None:
    encoded, nothing = small_data(), cast(Any, None)
    data = Data(get_task(task), nothing, nothing, 64, encoded, encoded, None, {})
    config = untrained_teacher(Teacher(source=recipe.source), data).config
    assert (config.head, config.labels) == (head, labels)


def test_every_seed_is_trained_once_and_reported(
    recipe: Finetuning,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, out = toy.examples, tmp_path / "out"
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=600))
    recipe.run(out)
    report = json.loads((out / "results.json").read_text())
    found = [run["scores"]["validation"]["accuracy"] for run in report["runs"]]
    assert [run["seed"] for run in report["runs"]] == [0, 1]
    assert report["scores"]["validation"]["accuracy"]["mean"] == pytest.approx(np.mean(found))
    assert report["scores"]["validation"]["accuracy"]["sd"] == pytest.approx(np.std(found, ddof=1))
    assert report["published"] == {"nobody": 0.5}
    assert report["examples"] == {"train": 600, "validation": 600}
    assert {"commit", "machine", "recipe", "wall_seconds"} <= set(report)
    looks = [r for r in read_history(out / "runs" / "seed-1") if "validation/accuracy" in r]
    assert [look["step"] for look in looks] == [4, 8]
    assert looks[-1]["validation/accuracy"] == found[1]
    assert (out / "runs" / "seed-1" / "curves.png").stat().st_size > 1000
    assert "validation/accuracy" in capsys.readouterr().err  # the final table of a seed
    assert hf.from_pretrained(out / "model").config.head == "sequence-classification"
    monkeypatch.setattr("effjax.recipe.finetuning.fit", None)  # a second call trains nothing
    recipe.run(out)
    assert json.loads((out / "results.json").read_text())["runs"] == report["runs"]


def test_questions_are_counted_and_not_their_windows() -> None:
    windows, nothing = small_data(), cast(Any, None)
    one = Questions(["q"], ["Who ?"], ["Ann ."], [(("Ann", 0),)], ["T"], [()])
    task, four = get_task("squad/v1.1"), one.take([0] * 4)
    splits = Splits(task, four, one.take([0, 0]), one.take([0] * 3), {"validation": one})
    data = Data(task, splits, nothing, 64, windows, windows, None, {})
    counts = {"train": 4, "search": 3, "validation": 1, "transfer": 2}
    found = data_fields(data)
    assert found["examples"] == counts
    assert found["sha256"] == {"train": windows.digest, "transfer": windows.digest}


def test_shares_are_shown_in_percent_and_a_threshold_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"f1": {"mean": 0.5, "sd": 0.01}, "best_threshold": {"mean": -2.25, "sd": 0.125}}
    publish({"task": "t", "scores": {"validation": found}, "published": {}}, tmp_path)
    shown = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in shown.splitlines() if "validation" in line]
    assert rows == [
        ["validation", "f1", "50.00", "1.00"],
        ["validation", "best_threshold", "-2.25", "0.12"],
    ]


def put_texts(file: Path, split: str, size: int) -> None:
    """The generated language as a user's own CSV, its two classes called `sad` and `glad`."""
    examples = toy.examples(split, size=size)
    assert examples.labels is not None
    names = [("sad", "glad")[label] for label in examples.labels]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("words", "mood"), *zip(examples.texts[0], names, strict=True)])


def test_files_of_ones_own_are_a_task(recipe: Finetuning, tmp_path: Path) -> None:
    put_texts(tmp_path / "moods.csv", "train", 300)
    put_texts(tmp_path / "dev.csv", "validation", 50)
    files = TextFiles(
        train=str(tmp_path / "moods.csv"),
        validation=str(tmp_path / "dev.csv"),
        text=("words",),
        label="feeling",
        labels=("sad", "glad"),
    )
    once, out = replace(recipe.training, epochs=1), tmp_path / "out"
    mistyped = replace(recipe, task=files, training=once, seeds=(0,))
    with pytest.raises(ValueError, match=r"moods\.csv:1: no column 'feeling'; .* 'words', 'mood'"):
        mistyped.run(out)
    meant = replace(mistyped, task=replace(files, label="mood"))
    meant.run(out)
    report = json.loads((out / "results.json").read_text())
    assert (report["task"], report["metric"]) == ("moods", "accuracy")
    assert report["recipe"]["task"]["type"] == "TextFiles"
    assert report["recipe"]["task"]["label"] == "mood"
    assert report["runs"][0]["steps"] == 2
    assert report["scores"]["validation"]["accuracy"]["mean"] in np.arange(51) / 50
    assert hf.from_pretrained(out / "model").config.labels == ("sad", "glad")


def test_tagged_words_of_ones_own_are_a_task(recipe: Finetuning, tmp_path: Path) -> None:
    """Every noun of the generated language is an entity."""
    words = {"film": "B-THING", "plot": "B-THING", "script": "B-THING"}
    for name, split in {"words": "train", "dev": "validation"}.items():
        texts = toy.examples(split, size=40).texts[0]
        lines = ["\n".join(f"{x} {words.get(x, 'O')}" for x in text.split()) for text in texts]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(lines) + "\n")
    files = TaggedFiles(
        train=str(tmp_path / "words.txt"),
        validation=str(tmp_path / "dev.txt"),
        types=("THING",),
    )
    once = replace(recipe.training, epochs=1)
    replace(recipe, task=files, training=once, seeds=(0,)).run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (report["task"], report["metric"]) == ("words", "f1")
    assert report["examples"] == {"train": 40, "validation": 40}
    labels = hf.from_pretrained(tmp_path / "out" / "model").config.labels
    assert labels == ("O", "B-THING", "I-THING")


def test_what_cannot_be_trained_or_evaluated_is_refused_at_once(
    recipe: Finetuning, tmp_path: Path
) -> None:
    train, test, out = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "out"
    put_texts(train, "train", 20)
    test.write_text("words\nfine\n")
    names = {"text": ("words",), "label": "mood", "labels": ("sad", "glad")}
    files = TextFiles(train=str(train), test=str(test), **names)
    for task, split, message in (
        (files, "test", "train: split 'test' has no labels to evaluate against"),
        (files, "validation", "no file for split 'validation'; there is train, test"),
        ("similarity/stsb", "validation", "similarity/stsb has no head to train"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(recipe, task=task, splits=(split,)).run(out)
    assert not out.exists()
