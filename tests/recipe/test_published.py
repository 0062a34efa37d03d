"""The recipes of the published distillations, at the full size of both models, for two steps; those
of TinyBERT's second stage, at the full size of the student; and those of published pruning, at the
depth of theirs.
"""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.wordpiece import train_wordpiece
from effjax.distill import SoftTargets, Weighted
from effjax.models import create
from effjax.recipe import Distillation, GeneralDistillation, Pruning, Stage
from effjax.train import Training
from tests.recipe.test_pretraining import texts

CONFIGS = Path(__file__).parents[2] / "configs"
STUDENTS = {
    "distilbert": (66.9e6, 6, 768),
    "minilm": (22.7e6, 6, 384),
    "minilmv2": (22.7e6, 6, 384),
    "tinybert_general": (14.4e6, 4, 312),
    "tinybert6_general": (66.9e6, 6, 768),
    "mobilebert": (15.5e6, 24, 512),
}
"""Parameters, layers and width of what is trained, the heads of masked words apart."""


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_a_published_recipe_trains(name: str, tmp_path: Path) -> None:
    """The teacher has random weights, and the texts are short; all else is the recipe's."""
    recipe = runpy.run_path(str(CONFIGS / f"{name}.py"))["recipe"]
    assert isinstance(recipe, GeneralDistillation)
    (tmp_path / "texts.txt").write_text(texts(40))
    tokenizer = train_wordpiece(texts(40).splitlines(), 200, max_length=16)
    size = recipe.teacher.removeprefix("google-bert/bert-").removesuffix("-uncased")
    kind = ("mobilebert", "uncased") if name == "mobilebert" else ("bert", size)
    teacher = create(kind[0], size=kind[1], head="masked-lm", key=jax.random.key(0))
    hf.save_pretrained(teacher, tmp_path / "teacher", tokenizer=tokenizer)
    training = replace(recipe.training, batch_size=8, micro_batches=2)
    here = {"corpus": (str(tmp_path / "texts.txt"),), "teacher": str(tmp_path / "teacher")}
    replace(recipe, training=training, held_out=8, steps=2, **here).run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert report["steps"] == 2
    assert set(report["held_out"]) == {"loss", *(term.name for term in recipe.objective.terms)}
    student = hf.from_pretrained(tmp_path / "out" / "student", head=None)
    params, layers, width = STUDENTS[name]
    assert (student.config.num_layers, student.config.hidden) == (layers, width)
    assert student.num_params == pytest.approx(params, rel=0.01)


@pytest.mark.parametrize("name", ["tinybert", "tinybert6"])
def test_tinyberts_weights_are_as_many_as_its_pairs(name: str) -> None:
    """Of both stages; objectives are means over pairs of layers, where the paper has sums."""
    general = runpy.run_path(str(CONFIGS / f"{name}_general.py"))["recipe"]
    on_task = runpy.run_path(str(CONFIGS / f"{name}_mrpc.py"))["recipe"]
    _, layers, _ = STUDENTS[f"{name}_general"]
    pairs = {"embedding": 1.0, "hidden": float(layers), "attention": float(layers)}
    for objective in (general.objective, first_stage(on_task).objective):
        assert {term.name: term.weight for term in objective.terms} == pairs
    assert on_task.students[0].source == f"runs/{name}_general/student"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("tinybert_mrpc", "tinybert-4l-312d"), ("tinybert6_mrpc", "tinybert-6l-768d")],
)
def test_tinyberts_second_stage_trains(
    name: str, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a narrow teacher of random weights, on few short texts; all else is the recipe's."""
    recipe = runpy.run_path(str(CONFIGS / f"{name}.py"))["recipe"]
    assert isinstance(recipe, Distillation)
    whole = toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=16))
    tokenizer = train_wordpiece(toy.examples("train").texts[0], 150, max_length=16)
    narrow: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 384}
    for folder, shape, sizes in (("teacher", "base", narrow), ("student", size, {})):
        key, words = jax.random.key(0), len(tokenizer)
        made = create("bert", size=shape, head="masked-lm", key=key, vocab_size=words, **sizes)
        hf.save_pretrained(made, tmp_path / folder, tokenizer=tokenizer)
    short = {"batch_size": 8, "max_length": 16}
    training = replace(recipe.teacher.training, epochs=1, **short)
    teacher = replace(recipe.teacher, source=str(tmp_path / "teacher"), training=training)
    assert recipe.augmentation
    copies = replace(recipe.augmentation, source=str(tmp_path / "teacher"), copies=1)
    (method,), (student,) = recipe.methods, recipe.students
    method = replace(method, before=(replace(first_stage(recipe), epochs=1),))
    here = {"task": "toy/sentiment", "latency": ((1, 16),), "seeds": (0,), "augmentation": copies}
    replace(
        recipe,
        teacher=teacher,
        students=(replace(student, source=str(tmp_path / "student")),),
        methods=(method,),
        training=replace(recipe.training, epochs=2, **short),
        search=replace(recipe.search, steps=1, validation=4),
        **here,
    ).run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {run["arm"] for run in report["runs"]} == {"TinyBERT", "control"}
    trained = hf.from_pretrained(tmp_path / "out" / "students" / student.name / "TinyBERT")
    _, layers, width = STUDENTS[name.replace("mrpc", "general")]
    assert (trained.config.num_layers, trained.config.hidden) == (layers, width)


def test_mobileberts_layers_have_as_many_steps_each_as_in_the_paper() -> None:
    """10,000, one layer after the other; then the words have the other 500,000."""
    recipe = runpy.run_path(str(CONFIGS / "mobilebert.py"))["recipe"]
    weights = {term.name: term.weight for term in recipe.objective.terms}
    for kind in ("features", "attention"):
        for layer in range(1, 25):
            points = weights[f"{kind}_{layer}"].points
            begin, end = (round(recipe.steps * at) for at, weight in points if weight == 1.0)
            assert (begin, end) == (10_000 * (layer - 1), 10_000 * layer)
    (begin, _), *_ = weights["mlm"].points
    assert (round(recipe.steps * begin), recipe.steps) == (240_000, 740_000)


def first_stage(recipe: Distillation) -> Stage:
    """TinyBERT's training of intermediate layers, before that of predictions."""
    (method,) = recipe.methods
    (stage,) = method.before
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prune_cofi", "prune_block_movement", "prune_retraining_free"])
def test_a_published_recipe_prunes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a narrow model of random weights, on few short texts, of classes; all else is the
    recipe's.
    """
    recipe = runpy.run_path(str(CONFIGS / f"{name}.py"))["recipe"]
    assert isinstance(recipe, Pruning)
    whole = toy.examples
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=16))
    tokenizer = train_wordpiece(toy.examples("train").texts[0], 150, max_length=16)
    sizes: dict[str, Any] = {"hidden_size": 96, "num_attention_heads": 12, "intermediate_size": 384}
    source = create("bert", size="base", key=jax.random.key(0), vocab_size=len(tokenizer), **sizes)
    hf.save_pretrained(source, tmp_path / "source", tokenizer=tokenizer)

    def short(training: Training) -> Training:
        return replace(training, epochs=2, batch_size=8, max_length=16)

    model = replace(
        recipe.model, source=str(tmp_path / "source"), training=short(recipe.model.training)
    )
    recovery = recipe.recovery and replace(
        recipe.recovery,
        training=short(recipe.recovery.training),
        objective=of_classes(recipe.recovery.objective),
    )
    here = {"task": "toy/sentiment", "splits": ("validation",), "shape": (1, 16), "seeds": (0,)}
    small = replace(recipe, model=model, recovery=recovery, calibration=16, **here)
    small.run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [made["speedup"] for made in report["pruned"]] == list(recipe.speedups)
    assert len(report["runs"]) == (len(recipe.speedups) if recovery else 0)
    if name != "prune_block_movement":  # which keeps to no budget
        for made in report["pruned"]:
            assert made["predicted_cost"] <= report["budget"]["whole"] / made["speedup"]


def of_classes(objective: Weighted) -> Weighted:
    """The objective with soft targets over classes, where they are over positions."""
    terms = (
        replace(x, objective=replace(x.objective, over="classes"))
        if isinstance(x.objective, SoftTargets)
        else x
        for x in objective.terms
    )
    return Weighted(terms=tuple(terms))
