"""Latency tables, with times that are made up and add up."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from effjax.measure import LatencyTable, latency_table, table
from effjax.models import Model, Runtime, create

SIZES: Any = {
    "vocab_size": 31,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
}


OTHERS = {"busy": 0.0}
"""Cores at work for others."""


def seconds(model: Model) -> float:
    """What a model takes, made up: heads in proportion, units too, and a step at the first."""
    layers = model.config.layers
    return 5.0 + sum(2.0 * x.heads + 0.1 * x.ffn + 0.5 * (x.ffn > 0) for x in layers)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Model]:
    """Every model that is timed; each round is slower than the one before."""
    timed: list[Model] = []

    def compare(models: Mapping[str, Model], *, batch: int, length: int, samples: int) -> Any:
        assert next(iter(models)) == "whole" and len(models) <= 1 + table.AT_ONCE
        assert (batch, length) == (2, 8)
        timed.extend(list(models.values())[1:])
        for model in models.values():
            assert {row.path: row.shape for row in model.table} == {
                path: x.shape for path, x in table.flatten(model.params).items()
            }
        rounds = np.linspace(1, 3, samples)
        times = {name: seconds(model) * rounds for name, model in models.items()}
        others = {"other_cores": OTHERS["busy"]}
        latencies = {name: SimpleNamespace(seconds=tuple(x), **others) for name, x in times.items()}
        return SimpleNamespace(latencies=latencies)

    monkeypatch.setattr(table, "compare", compare)
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path / "cache"))
    return timed


@pytest.fixture(scope="module")
def model() -> Model:
    return create("bert", size="tiny", key=jax.random.key(0), **SIZES)


def made(model: Model, **changes: Any) -> LatencyTable:
    return latency_table(model, **{"batch": 2, "length": 8, "samples": 3, **changes})


def test_costs_are_what_every_layer_adds(model: Model, made_up: list[Model]) -> None:
    costs = made(model).costs(model)
    assert costs.unit == "seconds"
    assert costs.whole == pytest.approx(2 * seconds(model))  # the middle round
    random = np.random.default_rng(0)
    for _ in range(20):
        sizes = {name: int(random.integers(1, len(of))) for name, of in costs.of.items()}
        smaller = model.config.shrunk({name: range(size) for name, size in sizes.items()})
        want = 2 * seconds(model.replace(config=smaller))
        # Between no unit and the next size measured is the step.
        if min(size for name, size in sizes.items() if name.endswith("ffn")) >= 4:
            assert costs.at(sizes) == pytest.approx(want)
    assert costs.at(dict.fromkeys(costs.of, 0)) == pytest.approx(2 * 5.0)
    assert len(made_up) == 3 + 11  # all heads, and eleven widths below the whole


def test_a_table_is_measured_once(model: Model, made_up: list[Model]) -> None:
    first = made(model)
    count = len(made_up)
    assert made(model) == first and len(made_up) == count
    made(model.replace(runtime=Runtime(dtype="bfloat16")))
    assert len(made_up) == 2 * count


def test_a_masked_lm_of_another_vocabulary_has_a_table_of_its_own() -> None:
    def of(words: int, head: Any) -> str:
        sizes = {**SIZES, "vocab_size": words}
        model = create("bert", size="tiny", head=head, key=jax.random.key(0), **sizes)
        return table.described(model, batch=1, length=8)["model"]

    assert of(31, "masked-lm") != of(32, "masked-lm")
    assert of(31, None) == of(32, None)


def test_a_table_of_a_busy_machine_is_not_kept(
    model: Model, made_up: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OTHERS, "busy", 0.7)
    found = made(model)
    assert found.busy and "others kept 0.7 cores busy: not kept" in str(found)
    count = len(made_up)
    made(model)
    assert len(made_up) == 2 * count


def test_layers_that_share_weights_count_as_often_as_they_run(made_up: list[Model]) -> None:
    sizes = {**SIZES, "num_hidden_groups": 1, "inner_group_num": 1, "embedding_size": 8}
    albert = create("albert", size="base", key=jax.random.key(0), **sizes)
    costs = made(albert).costs(albert)
    assert list(costs.of) == ["layer_0/heads", "layer_0/ffn"]
    assert costs.at({"layer_0/heads": 1, "layer_0/ffn": 40}) == pytest.approx(
        2 * (5 + 3 * (2 + 4 + 0.5))
    )


def test_a_table_is_kept_in_a_file(model: Model, tmp_path: Path) -> None:
    found = made(model)
    found.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == found
    (tmp_path / "other.json").write_text('{"of": {}}')
    with pytest.raises(ValueError, match=r"other\.json: holds no latency table"):
        LatencyTable.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        ("cpu", "another", "cpu another, here "),
        ("dtype", "bfloat16", "dtype bfloat16, here float32"),
        ("model", "bert", r"model bert, here bert hidden 12, head size 4"),
    ],
)
def test_a_table_of_something_else_is_refused(
    model: Model, name: str, found: str, message: str
) -> None:
    table = made(model)
    other = replace(table, of={**table.of, name: found})
    with pytest.raises(ValueError, match=f"is of something else: {message}") as caught:
        other.costs(model)
    assert "\n" not in str(caught.value) and not re.search(r"/\w+/", str(caught.value))
