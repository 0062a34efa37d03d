"""General distillation at the smallest size, through the code that `effjax run` runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from effjax import hf
from effjax.data.masking import Masking
from effjax.data.wordpiece import train_wordpiece
from effjax.distill import (
    AttentionMSE,
    HiddenCosine,
    HiddenMSE,
    MaskedLM,
    Objective,
    Piecewise,
    RelationKL,
    SentenceMSE,
    SoftTargets,
    TaskLoss,
    Weighted,
)
from effjax.models import create
from effjax.recipe import GeneralDistillation, NewModel, Student
from effjax.train import Training
from effjax.train.held_out import evaluate_objective
from effjax.train.logs import read_history
from tests.recipe.test_pretraining import texts

RECIPE = GeneralDistillation(
    corpus=("texts.txt",),
    held_out=50,
    teacher="teacher",
    student=Student(name="narrow", model=NewModel(hidden=8, layers=1, heads=2, ffn=16)),
    objective=Weighted(
        values=(1.0, RelationKL(of="v", heads=4)),
        hidden=(Piecewise(points=((0.0, 1.0), (1.0, 0.5))), HiddenMSE(layers="last")),
    ),
    training=Training(
        epochs=12, batch_size=50, learning_rate=1e-2, b2=0.98, max_length=16, layout="padded"
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, and a teacher with a masked-LM head that is sure of what it says."""
    folder = tmp_path_factory.mktemp("general")
    (folder / "texts.txt").write_text(texts(450))
    tokenizer = train_wordpiece(texts(450).splitlines(), 200, max_length=16)
    teacher = create(
        "bert",
        size="tiny",
        head="masked-lm",
        key=jax.random.key(0),
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
    )
    hf.save_pretrained(teacher, folder / "teacher", tokenizer=tokenizer)
    return folder


def placed(recipe: GeneralDistillation, folder: Path) -> GeneralDistillation:
    here = {"corpus": (str(folder / "texts.txt"),), "teacher": str(folder / "teacher")}
    return replace(recipe, **here)


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    """The experiment; a second run trains nothing."""
    placed(RECIPE, folder).run(folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("effjax.recipe.general.fit", None)
        placed(RECIPE, folder).run(folder / "out")
    return folder / "out"


def test_what_is_held_out_is_measured_after_every_epoch_and_at_the_end(
    folder: Path, out: Path
) -> None:
    report = json.loads((out / "results.json").read_text())
    looks = [r for r in read_history(out / "runs" / "seed-0") if "held_out/loss" in r]
    assert [look["step"] for look in looks] == [8 * epoch for epoch in range(1, 13)]
    assert {f"held_out/{k}": x for k, x in report["held_out"].items()} == pytest.approx(
        {name: x for name, x in looks[-1].items() if name != "step"}
    )
    held_out = report["held_out"]
    assert held_out["loss"] == pytest.approx(held_out["values"] + 0.5 * held_out["hidden"])
    begun = placed(RECIPE, folder).prepare()
    aux = RECIPE.objective.init(
        jax.random.key(0), begun.student.config, {"teacher": begun.teacher.config}
    )
    given = (RECIPE.objective, {"teacher": begun.teacher}, begun.corpus.held_out)
    before = evaluate_objective(begun.student, aux, *given)
    assert held_out["values"] < 0.8 * before["values"]
    assert held_out["hidden"] < 0.8 * before["hidden"]
    assert report["tokens"]["train"] > report["tokens"]["held_out"] > 50 * 8
    assert report["params"]["student"] < report["params"]["teacher"]
    assert report["begun"] == begun.student.digest
    assert report["sha256"] == {"train": begun.corpus.train.digest}


def test_the_student_is_a_folder_of_transformers(out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(out / "student")
    theirs = AutoModel.from_pretrained(out / "student").eval()
    ours = hf.from_pretrained(out / "student")
    assert (ours.config.hidden, ours.config.num_layers) == (8, 1)
    inputs = tokenizer(["ba co bu", "di"], return_tensors="np", padding=True)
    with torch.no_grad():
        want = theirs(**{name: torch.tensor(x) for name, x in inputs.items()}).last_hidden_state
    np.testing.assert_allclose(np.asarray(ours(inputs).last_hidden), want.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "logits_at", ["masked tokens", pytest.param("all tokens", marks=pytest.mark.slow)]
)
def test_masked_words_and_the_teacher_s_logits(
    folder: Path, logits_at: str, tmp_path: Path
) -> None:
    """DistilBERT's losses: the layers of the teacher, its words and the masked ones."""
    recipe = replace(
        placed(RECIPE, folder),
        head="masked-lm",
        student=Student(name="half", layers=(0,)),
        objective=Weighted(soft=(5.0, SoftTargets(temperature=2.0)), mlm=(2.0, MaskedLM())),
        training=replace(RECIPE.training, epochs=1, dtype="bfloat16"),
        mask_rate=0.3,
        logits_at=logits_at,
    )
    recipe.run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(report["held_out"]) == {"loss", "soft", "mlm"}
    masking = recipe.masking(AutoTokenizer.from_pretrained(folder / "teacher"))
    assert isinstance(masking, Masking) and masking.everywhere == (logits_at == "all tokens")
    student = hf.from_pretrained(tmp_path / "out" / "student")
    assert (student.config.head, student.config.num_layers) == ("masked-lm", 1)


def test_students_learn_from_outputs_in_a_folder(
    folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they learn is what a teacher teaches that runs in every step, to float16."""
    recipe = replace(placed(RECIPE, folder), teacher_outputs=str(tmp_path / "outputs"))
    recipe.run(tmp_path / "first")
    reports = [json.loads((x / "results.json").read_text()) for x in (out, tmp_path / "first")]
    assert reports[1]["held_out"] == pytest.approx(reports[0]["held_out"], rel=1e-2)
    assert (tmp_path / "outputs" / "outputs.json").exists()
    monkeypatch.setattr("effjax.distill.teacher_cache.computed", None)  # the folder is read
    student = Student(name="other", model=NewModel(hidden=8, layers=1, heads=4, ffn=8))
    short = replace(recipe.training, epochs=1)
    replace(recipe, student=student, training=short).run(tmp_path / "second")


@pytest.mark.parametrize(
    ("term", "head", "message"),
    [
        (HiddenCosine(), None, r"HiddenCosine: .* have 8 numbers, the teacher's 16"),
        (RelationKL(of="k", heads=3), None, r"heads is 3, which does not divide the 8 numbers"),
        (AttentionMSE(layers=((0, 0),)), None, r"pair \(0, 0\) is out of range; the student"),
        (SoftTargets(), None, "the student has no logits: it has no head"),
        (MaskedLM(), "masked-lm", "MaskedLM needs labels, the batch has"),
        (TaskLoss(), "masked-lm", "TaskLoss needs labels, the batch has"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Objective) else "",
)
def test_what_does_not_fit_is_refused_before_a_text_is_read(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    term: Objective,
    head: Literal["masked-lm"] | None,
    message: str,
) -> None:
    """So that the recipe, put right, has the folders to itself."""
    monkeypatch.setattr("effjax.recipe.general.read_corpus", None)
    objective = Weighted(hidden=(1.0, HiddenMSE(layers="last")), other=(1.0, term))
    recipe = replace(placed(RECIPE, folder), objective=objective, head=head)
    recipe = replace(recipe, teacher_outputs=str(tmp_path / "outputs"))
    with pytest.raises(ValueError, match=message) as refused:
        recipe.run(tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_words_that_are_masked_have_labels_to_be_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus is what comes after all that is refused."""

    class Read(Exception): ...

    def read(*what: Any, **how: Any) -> None:
        raise Read

    monkeypatch.setattr("effjax.recipe.general.read_corpus", read)
    objective = Weighted(soft=(1.0, SoftTargets()), mlm=(1.0, MaskedLM()))
    recipe = replace(placed(RECIPE, folder), objective=objective, head="masked-lm", mask_rate=0.15)
    for logits_at in ("masked tokens", "all tokens"):
        with pytest.raises(Read):
            replace(recipe, logits_at=logits_at).prepare()


def test_what_cannot_teach_is_refused(folder: Path, tmp_path: Path) -> None:
    recipe = placed(RECIPE, folder)
    bare = hf.from_pretrained(folder / "teacher", head=None)
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    hf.save_pretrained(bare, tmp_path / "bare", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"bare cannot teach: it lacks head/dense/kernel"):
        replace(recipe, teacher=str(tmp_path / "bare"), head="masked-lm").run(tmp_path / "out")
    other = train_wordpiece(["xyz yxz zyx"] * 9, 20, max_length=16)
    hf.save_pretrained(bare, tmp_path / "other", tokenizer=other)
    student = Student(name="other", source=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"other has another vocabulary than the teacher"):
        replace(recipe, student=student).run(tmp_path / "out")
    encoder = hf.SentenceEncoder(bare, pooling="cls")
    hf.save_sentence_encoder(encoder, tmp_path / "cls", tokenizer=tokenizer)
    means = Weighted(sentence=(1.0, SentenceMSE()))
    with pytest.raises(ValueError, match=r"cls embeds a text by pooling 'cls'; .* compare means"):
        replace(recipe, teacher=str(tmp_path / "cls"), objective=means).run(tmp_path / "out")
    labels = Weighted(task=(1.0, TaskLoss()))
    with pytest.raises(ValueError, match=r"no objective reads the teacher .*teacher"):
        replace(recipe, objective=labels).run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"and mask_rate 0\.1: other tokens are hidden in every"):
        replace(recipe, teacher_outputs="outputs", mask_rate=0.1)
    with pytest.raises(ValueError, match="no score to stop early by"):
        replace(recipe, training=replace(recipe.training, patience=1))
    with pytest.raises(ValueError, match="steps is 0; it must be above 0"):
        replace(RECIPE, steps=0)
    with pytest.raises(ValueError, match="whole_words is true, and no word is masked"):
        replace(recipe, whole_words=True)
