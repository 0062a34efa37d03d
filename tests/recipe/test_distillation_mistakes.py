"""What a distillation cannot do is said before anything is trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effjax import hf
from effjax.data.tasks import get_task
from effjax.distill import Needs, PatientMSE, SentenceMSE, SoftTargets, TaskLoss, Weighted
from effjax.recipe import Student, Teacher
from effjax.recipe.distillation import compared_by_token
from effjax.recipe.spec import NewModel
from tests.recipe.test_distillation import RECIPE, SMALL, distilled, small_words
from tests.recipe.test_finetuning import tiny_encoder


def test_teachers_have_names_and_are_read() -> None:
    other = Teacher(name="small", hidden=8, layers=1, heads=1, training=SMALL)
    for name in ("teacher", "1-layer", "runs"):
        with pytest.raises(ValueError, match="expected a name of its own for each"):
            replace(RECIPE, other_teachers=(replace(other, name=name),))


def test_a_teacher_that_nobody_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(tiny_encoder(tmp_path / "encoder", words=80))
    small_words(monkeypatch)
    other = Teacher(name="small", hidden=8, layers=1, heads=1, training=SMALL)
    with pytest.raises(ValueError, match="no objective reads the teacher 'small'; leave it out"):
        replace(RECIPE, other_teachers=(other,)).run(tmp_path / "out")
    foreign = replace(other, source=source)
    with pytest.raises(ValueError, match=r"'small' .* has another vocabulary than the first one"):
        replace(RECIPE, other_teachers=(foreign,)).run(tmp_path / "out2")
    assert not (tmp_path / "out" / "teacher").exists()  # nothing was trained in vain


def test_models_that_an_objective_cannot_compare_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_words(monkeypatch)
    monkeypatch.setattr("effjax.recipe.distillation.train_teacher", None)
    narrow = Student(name="narrow", model=NewModel(hidden=8, layers=2, heads=2, ffn=16))
    objective = Weighted(task=(1.0, TaskLoss()), patient=(1.0, PatientMSE()))
    methods = distilled(objective)
    with pytest.raises(ValueError, match=r"PatientMSE: .* have 8 numbers, the teacher's 16") as no:
        replace(RECIPE, students=(narrow,), methods=methods).run(tmp_path / "out")
    assert "\n" not in str(no.value)
    assert not (tmp_path / "out").exists()  # the recipe, put right, has the folder to itself


def test_a_teacher_does_not_run_on_tokens_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(tiny_encoder(tmp_path / "encoder", words=80))
    small_words(monkeypatch)
    recipe = replace(RECIPE, students=(Student(name="own", source=source),))
    recipe = replace(recipe, methods=distilled(Weighted(soft=(1.0, SoftTargets()))))
    with pytest.raises(ValueError, match=r"'own' reads other tokens .* cannot run in every step"):
        replace(recipe, teacher_runs="every step").run(tmp_path / "out")


@pytest.mark.parametrize("first", [True, False])
def test_sentence_embeddings_are_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Of the first teacher and of another one; an encoder that pools otherwise can teach all else,
    and the recipe that asks for no more has the folder to itself.
    """
    source = tiny_encoder(tmp_path / "encoder")
    bare, tokenizer = hf.from_pretrained(source, head=None), hf.load_tokenizer(source)
    for pooling in ("mean", "cls"):
        encoder = hf.SentenceEncoder(bare, pooling=pooling)
        hf.save_sentence_encoder(encoder, tmp_path / pooling, tokenizer=tokenizer)
    small_words(monkeypatch)

    class Trained(Exception): ...

    def train(*what: Any) -> None:
        raise Trained

    monkeypatch.setattr("effjax.recipe.distillation.train_teacher", train)
    mean, cls = (
        Teacher(name=name, source=str(tmp_path / name), training=SMALL) for name in ("mean", "cls")
    )
    teacher, other = (cls, mean) if first else (mean, cls)
    recipe = replace(RECIPE, teacher=teacher, other_teachers=(other,))

    def run(sentence: str, soft: str) -> None:
        terms = {"s": (1.0, SentenceMSE(teacher=sentence)), "t": (1.0, SoftTargets(teacher=soft))}
        replace(recipe, methods=distilled(Weighted(**terms))).run(tmp_path / "out")

    with pytest.raises(ValueError, match=r"cls embeds a text by pooling 'cls'; .* compare means"):
        run("cls", "mean")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Trained):
        run("mean", "cls")


def test_hidden_states_are_not_compared_across_tokenizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(tiny_encoder(tmp_path / "encoder", words=80))
    small_words(monkeypatch)
    recipe = replace(RECIPE, students=(Student(name="own", source=source),))
    with pytest.raises(ValueError, match="student 'own' reads other tokens") as caught:
        recipe.run(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "teacher").exists()  # nothing was trained in vain
    with pytest.raises(ValueError, match="teacher_top_k are of teachers that run once"):
        replace(RECIPE, teacher_runs="every step", teacher_top_k=1)


def test_logits_are_compared_by_token_where_a_task_has_one_label_per_token() -> None:
    """Words of one sentence are other tokens for another tokenizer, and so are its labels."""
    needs = {"teacher": Needs(logits=True, hidden=(2,)), "other": Needs(q=(1,))}
    found = [
        compared_by_token(needs, get_task(name)) for name in ("glue/mrpc", "conll2003/conll2003")
    ]
    assert found == [["hidden", "q"], ["hidden", "logits", "q"]]
    assert compared_by_token({"teacher": Needs(sentence=True)}, get_task("squad/v1.1")) == []
