"""Pruning experiments that make no sense, or do not fit: one clear line each, before training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effjax.distill import MaskedLM, SoftTargets, Weighted
from effjax.recipe import FewerLayers, HardConcrete, OneShot, Recovery
from tests.recipe.small_pruning import RECIPE, SMALL, FirstLayer, few_texts

__all__ = ["few_texts"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speedups": (1.0, 2.0)}, r"speedups are 1\.0, 2\.0; expected numbers above 1, each once"),
        ({"speedups": ()}, "speedups are none"),
        ({"speedups": (2.0, 2.0000001)}, "each once"),
        ({"ways": ()}, "ways are named not at all"),
        ({"ways": RECIPE.ways * 2}, "ways are named by size, by size, and the model teacher"),
        ({"ways": (FirstLayer(name="teacher"),)}, "a name of its own for each"),
        ({"ways": (FirstLayer(name="runs"),)}, '"runs" and "models" are folders'),
        (
            {"ways": (HardConcrete(name="CoFi"),), "recovery": None},
            "way 'CoFi' prunes while it trains, and recovery, which says how, is None",
        ),
        ({"calibration": 0}, "calibration is 0; expected 1 example or more"),
    ],
)
def test_recipes_that_make_no_sense_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        replace(RECIPE, **changes)
    assert "\n" not in str(caught.value)


def test_ways_that_make_no_sense_are_one_line() -> None:
    with pytest.raises(ValueError, match="way 'x': there is no criterion 'size'; there are unifo"):
        OneShot(name="x", criterion="size")
    with pytest.raises(ValueError, match=r"way 'x': share is 1\.0; expected above 0, below 1"):
        HardConcrete(name="x", share=1.0)
    with pytest.raises(ValueError, match=r"CoFi: warmup is 2\.0"):
        HardConcrete(name="x", warmup=2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"speedups": (2.0, 9000.0)},
            r"speedups has 9000; without any head and unit the model has [\d.]+ times less FLOPs",
        ),
        (
            {"speedups": (3.0,), "ways": (FewerLayers(name="layers", order="alternate"),)},
            r"way 'layers': no model without some of the layers \(1,\) costs .* or less; the near",
        ),
        ({"multiples": (("fnn", 32),)}, "multiples has 'fnn': 32; expected ffn or heads"),
        ({"calibration": 200}, "calibration is 200; there are 128 training examples"),
        (
            {
                "recovery": Recovery(
                    training=SMALL, objective=Weighted(soft=(1.0, SoftTargets(teacher="large")))
                )
            },
            "reads the teacher 'large'; teachers: teacher",
        ),
        (
            {"recovery": Recovery(training=SMALL, objective=Weighted(mlm=(1.0, MaskedLM())))},
            "MaskedLM",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_training(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("effjax.recipe.pruning.train_teacher", None)
    with pytest.raises(ValueError, match=message) as caught:
        replace(RECIPE, **changes).run(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
