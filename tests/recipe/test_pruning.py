"""A whole pruning experiment at the smallest size, through the code that `effjax run` runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from effjax import hf, measure
from effjax.data import toy
from effjax.data.kinds import prepare
from effjax.data.metrics import wilson_interval
from effjax.data.tasks import get_task
from effjax.distill import SoftTargets, Weighted
from effjax.measure import LatencyTable
from effjax.measure.table import described
from effjax.models.model import Model
from effjax.prune import gated, magnitude, select, shrink
from effjax.recipe import (
    Given,
    OneShot,
    Pruned,
    Pruning,
    Recovery,
    RetrainingFree,
    Teacher,
    Way,
    WhileTraining,
    pruned,
)
from effjax.recipe.distillation import scored
from effjax.recipe.pruning_report import lines
from effjax.train import Training, evaluate
from effjax.train.logs import read_history

SMALL = Training(epochs=1, batch_size=64, learning_rate=2e-3, max_length=32)
RECOVERY = Recovery(training=SMALL, objective=Weighted(soft=(1.0, SoftTargets(temperature=2.0))))

RECIPE = Pruning(
    task="toy/sentiment",
    splits=("validation",),
    transfer=128,
    model=Teacher(hidden=16, layers=2, heads=2, vocab_size=200, training=SMALL),
    budget="flops",
    shape=(1, 8),
    speedups=(1.3, 2.0),
    multiples=(("ffn", 32),),
    calibration=32,
    ways=(
        OneShot(name="random", criterion="uniform"),
        OneShot(name="magnitude", criterion="magnitude"),
    ),
    recovery=RECOVERY,
    seeds=(0, 1),
)


@pytest.fixture(autouse=True, scope="module")
def few_texts() -> Iterator[None]:
    """A small part of the generated language, for all tests here."""
    whole = toy.examples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "examples", lambda split: whole(split, size=300))
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, run once; a second call trains, prunes and scores nothing."""
    folder = tmp_path_factory.mktemp("experiment") / "out"
    RECIPE.run(folder)
    first = json.loads((folder / "results.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruned, "fit", None)
        patch.setattr(pruned, "evaluate", None)
        patch.setattr(OneShot, "models", None)
        RECIPE.run(folder)
    second = json.loads((folder / "results.json").read_text())
    assert first["runs"] == second["runs"]
    assert [x["before"] for x in first["pruned"]] == [x["before"] for x in second["pruned"]]
    return folder


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def test_every_way_has_every_speedup_and_seed(out: Path) -> None:
    """What draws at random prunes with each seed, all else once; all recover with each."""
    report = report_of(out)
    runs = [(run["student"], run["arm"], run["seed"]) for run in report["runs"]]
    asked = [(w, x, i) for w in ("random", "magnitude") for x in ("1.3x", "2x") for i in (0, 1)]
    assert sorted(runs) == sorted(asked)
    assert {run["steps"] for run in report["runs"]} == {2}
    made = [(x["way"], x["speedup"], x["seed"]) for x in report["pruned"]]
    once = [("magnitude", 1.3, 0), ("magnitude", 2.0, 0)]
    assert sorted(made) == sorted([*once, *(("random", x, i) for x in (1.3, 2.0) for i in (0, 1))])
    assert {"commit", "machine", "wall_seconds", "recipe"} <= set(report)


def test_budgets_are_kept_and_predicted(out: Path) -> None:
    """FLOPs counted in the programs of the smaller models are those that the costs predict."""
    report = report_of(out)
    whole = report["budget"]["whole"]
    for made in report["pruned"]:
        assert made["flops"] <= whole / made["speedup"]
        assert made["flops"] == pytest.approx(made["predicted_cost"])
        assert made["predicted_speedup"] == pytest.approx(whole / made["flops"])
        assert made["params"] < report["model_size"]["params"]
        units = [n for name, n in made["kept"].items() if name.endswith("ffn")]
        assert all(n % 32 == 0 for n in units)
        assert made["latency"]["1x8"]["median_ms"] > 0


def test_the_numbers_are_those_of_the_models(out: Path) -> None:
    """Pruned again by hand; and the folder that was saved is the recovered model."""
    report, model = report_of(out), hf.from_pretrained(out / "teacher")
    costs = measure.flop_costs(model, batch=1, length=8)
    scores = magnitude(model, None, None)  # pyright: ignore[reportArgumentType]
    keep = select(scores, costs, at_most=costs.whole / 2, multiples={"ffn": 32})
    small = shrink(model, keep)
    (made,) = (x for x in report["pruned"] if (x["way"], x["speedup"]) == ("magnitude", 2.0))
    left = {name: len(indices) for name, indices in keep.items()}
    assert made["kept"] == left
    data, saved = RECIPE.load(), hf.from_pretrained(out / "models" / "magnitude" / "2x")
    assert saved.config.layers == small.config.layers
    assert saved.num_params == small.num_params == made["params"]
    run = next(x for x in report["runs"] if (x["student"], x["arm"]) == ("magnitude", "2x"))
    for split, prepared in data.evaluation.items():
        assert made["before"]["scores"][split] == evaluate(small, data.task, prepared).metrics
        assert run["scores"][split] == evaluate(saved, data.task, prepared).metrics
