"""A whole pruning experiment at the smallest size, through the code that `effjax run` runs."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from effjax import hf, measure
from effjax.data.metrics import wilson_interval
from effjax.distill import SoftTargets, Weighted, init_student
from effjax.measure import LatencyTable
from effjax.measure.costs import layer_instances
from effjax.measure.table import described
from effjax.models.model import Model
from effjax.prune import select, shrink, uniform
from effjax.recipe import (
    Given,
    HardConcrete,
    OneShot,
    Pruned,
    Pruning,
    Recovery,
    RetrainingFree,
    pruned,
    pruning_figure,
)
from effjax.recipe.pruning_figure import PREDICTED
from effjax.recipe.pruning_report import busy, lines
from effjax.train import evaluate
from effjax.train.logs import read_history
from tests.recipe.small_pruning import RECIPE, SMALL, WITHOUT, FirstLayer, few_texts

__all__ = ["few_texts"]

AXES = {"params": 1e-6, "flops": 1e-9, "speedup": 1.0}
"""What scores are drawn against, and in which unit."""


def ran(recipe: Pruning, folder: Path) -> Path:
    """The experiment's folder; a second call prunes, trains and scores no smaller model."""
    recipe.run(folder)
    first = report_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruned, "fit", None)
        patch.setattr(pruned, "evaluate", None)
        for way in recipe.ways:
            patch.setattr(type(way), "models", None)
        recipe.run(folder)
    second = report_of(folder)
    assert first["runs"] == second["runs"]
    assert [x["before"] for x in first["pruned"]] == [x["before"] for x in second["pruned"]]
    return folder


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def with_model(out: Path, folder: Path) -> Path:
    """A folder in which the model of another experiment is fine-tuned already."""
    shutil.copytree(out / "teacher", folder / "teacher")
    shutil.copytree(out / "runs" / "teacher", folder / "runs" / "teacher")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(RECIPE, tmp_path_factory.mktemp("recovered") / "out")


@pytest.fixture(scope="module")
def without(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(WITHOUT, with_model(out, tmp_path_factory.mktemp("without")))


def test_every_speedup_recovers_with_every_seed(out: Path) -> None:
    report = report_of(out)
    runs = {(run["student"], run["arm"], run["seed"]) for run in report["runs"]}
    assert runs == {("by size", "2x", i) for i in (0, 1)}
    assert [run["steps"] for run in report["runs"]] == [2, 2]
    made = [(x["speedup"], x["seed"], x["before"]["steps"]) for x in report["pruned"]]
    assert made == [(2.0, 0, 0)]
    assert {"commit", "machine", "wall_seconds", "recipe", "model_training"} <= set(report)
    assert report["examples"] == {"train": 300, "validation": 300, "transfer": 128}
    assert len(set(report["sha256"].values())) == 2
    first, second = (read_history(out / "runs" / "by size" / "2x" / f"seed-{i}") for i in (0, 1))
    assert first[-1]["soft"] != second[-1]["soft"]
    assert not list(out.rglob("checkpoints"))


@pytest.mark.slow
def test_what_draws_at_random_prunes_with_every_seed_and_all_else_once(without: Path) -> None:
    pruned = report_of(without)["pruned"]
    made = [(x["way"], x["speedup"], x["seed"]) for x in pruned]
    random = [("random", x, i) for i in (0, 1) for x in (1.3, 2.0)]
    assert made == [*random, ("first layer", 1.3, 0), ("first layer", 2.0, 0)]
    assert report_of(without)["runs"] == []
    assert all(x["before"]["seconds"] > 0 and x["before"]["steps"] == 0 for x in pruned)


def test_no_program_outlives_its_model(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes some of the memory maps that a process may have, and XLA dies without them."""
    keep, alive = pruned.keep_pruned, []

    def counted(*what: Any) -> None:
        alive.append(len(jax.devices()[0].client.live_executables()))
        keep(*what)

    monkeypatch.setattr(pruned, "keep_pruned", counted)
    folder = with_model(out, tmp_path)
    replace(WITHOUT, ways=(FirstLayer(name="first layer"),), speedups=(1.3, 1.5, 2.0)).run(folder)
    assert len(alive) == 3
    assert max(alive[1:]) < alive[0]


@pytest.mark.slow
def test_budgets_are_kept_and_predicted(out: Path, without: Path) -> None:
    """FLOPs counted in the programs of the smaller models are those that the costs predict."""
    for report in map(report_of, (out, without)):
        whole = report["budget"]["whole"]
        assert report["budget"]["unit"] == "FLOPs" and whole == report["model_size"]["flops"]
        for made in (x for x in report["pruned"] if x["way"] != "first layer"):
            assert made["flops"] <= whole / made["speedup"]
            assert made["flops"] == pytest.approx(made["predicted_cost"])
            assert made["predicted_speedup"] == pytest.approx(whole / made["flops"])
            assert made["params"] < report["model_size"]["params"]
            assert all(n % 32 == 0 for name, n in made["kept"].items() if name.endswith("ffn"))
            latency = made["latency"]["1x8"]
            assert latency["median_ms"] > 0 and len(latency["speedup_quartiles"]) == 2


@pytest.mark.slow
def test_numbers_are_those_of_models_made_by_hand(out: Path, without: Path) -> None:
    """Pruned again by hand, the model has the same scores; so has the saved one, recovered."""
    data, model = RECIPE.load(), hf.from_pretrained(out / "teacher")
    costs = measure.flop_costs(model, length=8)
    validation = data.evaluation["validation"]
    for made in (x for x in report_of(without)["pruned"] if x["way"] == "random"):
        scores = uniform(model, data.transfer, pruned.task_loss, seed=made["seed"])
        at_most = costs.whole / made["speedup"]
        keep = select(scores, costs, at_most=at_most, multiples={"ffn": 32})
        small = shrink(model, keep)
        assert made["kept"] == {"hidden": 16, **{name: len(x) for name, x in keep.items()}}
        assert (made["params"], made["file_bytes"]) == (small.num_params, measure.file_size(small))
        assert made["before"]["scores"]["validation"] == evaluate(small, data.task, validation)[0]
    report = report_of(out)
    (made,), (run, _) = report["pruned"], report["runs"]
    saved = hf.from_pretrained(out / "models" / "by size" / "2x")
    assert saved.num_params == made["params"]
    assert run["scores"]["validation"] == evaluate(saved, data.task, validation)[0]


@pytest.mark.slow
def test_models_load_in_stock_transformers(without: Path) -> None:
    """Of the layout "dense"."""
    folder = without / "models" / "random" / "2x"
    stock = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = hf.load_tokenizer(folder)(["a superb film", "not good"], padding=True)
    theirs = stock(**{name: torch.tensor(ids) for name, ids in batch.items()}).logits
    ours = hf.from_pretrained(folder)(batch).logits
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_removed_layers_are_gone_in_what_is_measured(without: Path) -> None:
    *_, made = report_of(without)["pruned"]
    model = hf.from_pretrained(without / "teacher")
    one = init_student(model, layers=(1,))
    assert made["layers"] == [1] and report_of(without)["pruned"][0]["layers"] is None
    assert made["kept"] == {"hidden": 16, "layer_0/heads": 2, "layer_0/ffn": 64}
    assert made["params"] == one.num_params
    assert made["flops"] == measure.cost(one, length=8).product_flops
    structure = pruned.read_structure(without / "runs" / "first layer" / "2x" / "pruned-0")
    assert pruned.empty_model(structure, model).config.layers == one.config.layers


def test_means_are_over_seeds(out: Path) -> None:
    report = report_of(out)
    found = report["ways"]["by size"]["2x"]
    scores = [x["scores"]["validation"]["accuracy"] for x in report["runs"]]
    after, before = (found["scores"]["validation"][when] for when in ("after", "before"))
    assert after["mean"] == pytest.approx(np.mean(scores))
    assert after["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert after["interval"] == pytest.approx(wilson_interval(300 * float(np.mean(scores)), 300))
    whole = report["model"]["validation"]["mean"]
    assert after["of_teacher"] == pytest.approx(np.mean(scores) / whole)
    (made,) = report["pruned"]
    assert before["mean"] == made["before"]["scores"]["validation"]["accuracy"]
    assert before["sd"] is None
    assert found["speedup"]["mean"] == made["latency"]["1x8"]["speedup"]


@pytest.mark.slow
def test_the_table_has_a_row_for_every_way_and_speedup(out: Path, without: Path) -> None:
    names = [f"{x} {y}" for x in ("random", "first layer") for y in ("1.3x", "2x")]
    for folder, wanted in ((out, ["by size 2x"]), (without, names)):
        header, rows = lines(report_of(folder))
        assert [row[0] for row in rows] == ["unpruned", *wanted]
        assert all(len(row) == len(header) for row in rows)
        table = (folder / "table.md").read_text().splitlines()
        assert [x.split(" | ")[0][2:] for x in table[2 : 2 + len(rows)]] == [x[0] for x in rows]
    report = report_of(out)
    report["budget"]["table_other_cores"] = 1.26
    report["pruned"] = []
    assert busy(report) == "others kept up to 1.3 cores busy: latencies are not to be trusted"


@pytest.mark.slow
def test_pictures_show_what_the_report_says(
    out: Path, without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    for name in ("figure.png", "structure.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(pruning_figure, "save", lambda figure, path: drawn.append(figure))
    for report in map(report_of, (out, without)):
        pruning_figure.draw(report, tmp_path / "figure.png")
        for panel, (axis, unit) in zip(drawn.pop().axes, AXES.items(), strict=True):
            for group in panel.containers:
                way, _, pruned_only = group.get_label().partition(", as pruned")
                when = "before" if group.get_label() != way else "after"
                assert not pruned_only
                found = report["ways"][way].values()
                want = [(x[axis]["mean"], x["scores"]["validation"][when]["mean"]) for x in found]
                xs, ys = group.lines[0].get_data()
                points = zip(np.divide(xs, unit), np.divide(ys, 100), strict=True)
                np.testing.assert_allclose(list(points), sorted(want))
            assert PREDICTED not in panel.get_legend_handles_labels()[1]
    assert len(panel.containers) == 2
    report["budget"]["unit"] = "seconds"
    pruning_figure.draw(report, tmp_path / "figure.png")
    *others, panel = drawn.pop().axes
    assert PREDICTED in panel.get_legend_handles_labels()[1]
    hollow = [x.get_xdata() for x in panel.lines if x.get_markerfacecolor() == "none"]
    foretold = [
        [x["predicted_speedup"]["mean"] for x in y.values()] for y in report["ways"].values()
    ]
    np.testing.assert_allclose(hollow[:-1], foretold)
    assert all(x.get_markerfacecolor() != "none" for other in others for x in other.lines)
    pruning_figure.draw_structure(report, tmp_path / "structure.png")
    (structure,) = drawn
    first = [x for x in report["pruned"] if x["seed"] == 0]
    assert len(structure.axes) == len(first) == 4
    for panel, made in zip(structure.axes, first, strict=True):
        shares = [bar.get_height() for group in panel.containers[1::2] for bar in group]
        whole, kept = report["model_parts"], made["kept"]
        if made["way"] == "first layer":  # what is left is the second one
            assert sorted(kept) == ["hidden", "layer_0/ffn", "layer_0/heads"]
            kept = {x.replace("layer_0", "layer_1"): size for x, size in kept.items()}
        kinds = [[f"layer_{i}/{kind}" for i in range(2)] for kind in ("heads", "ffn")]
        assert shares == [kept.get(x, 0) / whole[x] for names in kinds for x in names]
    for figure in (panel.figure, structure):
        plt.close(figure)


@pytest.mark.slow
def test_only_what_is_left_is_done_again(
    without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(without, tmp_path / "out")
    place = folder / "runs" / "random" / "2x" / "pruned-1"
    before = json.loads((place / "result.json").read_text())
    (place / "result.json").unlink()
    asked, models = [], OneShot.models

    def noted(self: OneShot, given: Given) -> Iterator[Pruned]:
        asked.append((self.name, given.speedups, given.seed))
        return models(self, given)

    monkeypatch.setattr(OneShot, "models", noted)
    monkeypatch.setattr(FirstLayer, "models", None)
    WITHOUT.run(folder)
    assert asked == [("random", (2.0,), 1)]
    assert json.loads((place / "result.json").read_text())["scores"] == before["scores"]


def made_up(model: Model) -> LatencyTable:
    """A millisecond per layer's part, if there is any of it, and two for all else."""
    parts = {name: {0: 0.0, n: 1e-3} for name, n in layer_instances(model).items()}
    of = described(model, batch=1, length=8)
    return LatencyTable(of=of, whole=6e-3, seconds=parts, other_cores=1.5)


def test_a_latency_table_stays_with_the_experiment(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of a busy machine, so that what goes on later has the same budget."""
    recipe = replace(WITHOUT, budget="latency", speedups=(1.5,), ways=WITHOUT.ways[:1], seeds=(0,))
    folder = with_model(out, tmp_path / "out")
    monkeypatch.setattr(measure, "latency_table", lambda model, **_: made_up(model))
    recipe.run(folder)
    monkeypatch.setattr(measure, "latency_table", None)
    recipe.run(folder)
    report = report_of(folder)
    assert report["budget"] == {"unit": "seconds", "whole": 6e-3, "table_other_cores": 1.5}
    (made,) = report["pruned"]
    shares = [made["kept"][name] / n for name, n in report["model_parts"].items()]
    assert made["predicted_cost"] == pytest.approx(2e-3 + 1e-3 * sum(shares))
    assert made["predicted_cost"] <= 6e-3 / 1.5
    assert "cores busy: latencies are not to be trusted" in (folder / "table.md").read_text()
    with pytest.raises(ValueError, match=r"table\.json is of 1x8 tokens, and the recipe's .* 2x8;"):
        replace(recipe, shape=(2, 8)).run(folder)
    with pytest.raises(ValueError, match="speedups has 4; without any head and unit the model has"):
        replace(recipe, speedups=(4.0,)).run(folder)


@pytest.mark.slow
def test_all_ways_train_for_as_long(out: Path, tmp_path: Path) -> None:
    """A way that prunes while it trains has the rest of its steps as recovery."""
    ways = (HardConcrete(name="CoFi", share=0.75), RetrainingFree(name="retraining-free"))
    recovery = Recovery(
        training=replace(SMALL, epochs=2), objective=Weighted(soft=(1.0, SoftTargets()))
    )
    recipe = replace(RECIPE, ways=ways, recovery=recovery, speedups=(1.5,), multiples=())
    folder = ran(recipe, with_model(out, tmp_path / "out"))
    report = report_of(folder)
    assert {run["steps"] for run in report["runs"]} == {4} and len(report["runs"]) == 4
    steps = [(x["way"], x["seed"], x["before"]["steps"]) for x in report["pruned"]]
    assert steps == [("CoFi", 0, 3), ("CoFi", 1, 3), ("retraining-free", 0, 0)]
    for made in report["pruned"]:
        assert made["flops"] <= report["budget"]["whole"] / 1.5
    pruning = folder / "runs" / "CoFi" / "1.5x" / "pruned-1"
    assert {"gone", "penalty"} <= set(read_history(pruning)[-1])
    assert (pruning / "curves.png").exists()
    assert "gone" not in read_history(pruning.with_name("seed-1"))[-1]
    assert not list(folder.rglob("checkpoints"))
