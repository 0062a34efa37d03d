"""A teacher that was fine-tuned before."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.wordpiece import train_wordpiece
from effjax.models import create
from effjax.recipe import Teacher, prepare
from effjax.recipe.prepare import Data, prepare_data, train_teacher, untrained_teacher
from effjax.train import Training
from effjax.tree import flatten


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    """A tiny classifier of the generated language, whose labels are written in capitals."""
    whole = toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=20))
    tokenizer = train_wordpiece(toy.examples("train").texts[0], 150, max_length=32)
    model = create(
        "bert",
        size="tiny",
        head="sequence-classification",
        key=jax.random.key(3),
        vocab_size=len(tokenizer),
        id2label={0: "NEGATIVE", 1: "Positive"},
    )
    hf.save_pretrained(model, tmp_path / "source", tokenizer=tokenizer)
    source, training = str(tmp_path / "source"), Training(max_length=32)
    return Teacher(source=source, fine_tuned=True, training=training)


def data_of(teacher: Teacher) -> Data:
    sizes: Any = {"held_out": 0, "validation": 0, "transfer": None}
    return prepare_data("toy/sentiment", teacher, splits=("validation",), **sizes, seed=0)


def test_it_teaches_as_it_is(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the task's names of its labels; a second call finds it."""
    data, out = data_of(teacher), tmp_path / "out"
    untrained = untrained_teacher(teacher, data)
    monkeypatch.setattr(prepare, "fit", None)
    made = partial(train_teacher, untrained, teacher, data, out, lambda i, n, shown: None, {})
    found = made()
    assert found.config.labels == data.task.labels == ("negative", "positive")
    assert teacher.source is not None
    arrays, kept = (flatten(x.params) for x in (hf.from_pretrained(teacher.source), found))
    assert all(np.array_equal(arrays[path], kept[path]) for path in arrays)
    monkeypatch.setattr(hf, "save_pretrained", None)
    assert all(np.array_equal(kept[path], x) for path, x in flatten(made().params).items())


@pytest.mark.parametrize(
    ("labels", "head", "message"),
    [
        (("positive", "negative"), "sequence-classification", "has the labels positive, negative;"),
        (("a", "b", "c"), "sequence-classification", "has the labels a, b, c; toy/sentiment has"),
        (("negative", "positive"), None, "is no fine-tuned model for toy/sentiment: it lacks head"),
    ],
)
def test_one_of_another_task_is_refused(
    teacher: Teacher, tmp_path: Path, labels: tuple[str, ...], head: Any, message: str
) -> None:
    data, other = data_of(teacher), str(tmp_path / "other")
    named = {"id2label": dict(enumerate(labels))} if head else {}
    sizes: Any = {"size": "tiny", "vocab_size": len(data.tokenizer), **named}
    hf.save_pretrained(create("bert", head=head, key=jax.random.key(0), **sizes), other)
    with pytest.raises(ValueError, match=message) as caught:
        untrained_teacher(replace(teacher, source=other), data)
    assert "\n" not in str(caught.value)


def test_names_that_say_nothing_are_those_of_the_task(teacher: Teacher, tmp_path: Path) -> None:
    data, other = data_of(teacher), str(tmp_path / "other")
    sizes: Any = {"size": "tiny", "vocab_size": len(data.tokenizer)}
    model = create("bert", head="sequence-classification", key=jax.random.key(0), **sizes)
    assert model.config.labels == ("LABEL_0", "LABEL_1")
    hf.save_pretrained(model, other)
    found = untrained_teacher(replace(teacher, source=other), data)
    assert found.config.labels == ("negative", "positive")


def test_a_new_one_was_not_fine_tuned() -> None:
    with pytest.raises(ValueError, match="'teacher' is fine_tuned and has no source; expected a"):
        Teacher(fine_tuned=True)
