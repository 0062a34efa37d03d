"""The benchmark scripts: with made-up workers, and once for real, slowly."""

import importlib
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from effjax.data import get_task, import_folder

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "experiments" / "benchmarks"
SECONDS = {"jax": 0.5, "torch": 1.0}
MACHINE = {"cpu": "a CPU", "memory_bytes": 25_276_514_304}


class MadeUp:
    """A worker that answers at once, and notes what it was asked."""

    asked: ClassVar[list[tuple[str, str]]] = []
    dies_in: str | None = None

    def __init__(self, backend: str) -> None:
        self.backend = backend.removesuffix("_backend")

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.asked.append((self.backend, do))
        if do == "prepare" and request["cell"]["model"] == self.dies_in:
            raise RuntimeError(f"{self.backend} prepare: died, exit code -9")
        return {
            "describe": MACHINE if self.backend == "jax" else {"torch": "2.13.0"},
            "prepare": {"first_call_seconds": 3.0, "config": {"hidden_size": 8}},
            "sample": {"seconds": SECONDS[self.backend], "cpu_seconds": 1e9},
        }[do]

    def close(self) -> None:
        pass


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """compare_torch.py with made-up workers."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    compare_torch = importlib.import_module("compare_torch")
    monkeypatch.setattr(compare_torch, "Worker", MadeUp)
    monkeypatch.setattr(MadeUp, "asked", [])
    return compare_torch


def settings(script: ModuleType, out: Path, **changes: Any) -> Any:
    fields = {"models": ("bert-tiny",), "modes": ("inference",), "dtypes": ("float32",)}
    return script.Settings(**fields | {"samples": 4, "patience": 0.0, "out": out} | changes)


def test_a_ratio_is_that_of_neighbours_on_a_machine_that_slows_down(script: ModuleType) -> None:
    """In the third of five rounds, between its two samples: both medians are 2."""
    turns = importlib.import_module("turns")
    seconds = [1.0, 1.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 4.0, 4.0]
    assert turns.ratios(*(turns.Samples(0.0, 1, x) for x in seconds)) == [0.5, 0.5, 0.5]


def test_backends_take_turns_and_the_ratio_is_effjax_over_torch(
    script: ModuleType, tmp_path: Path
) -> None:
    results = script.run(settings(script, tmp_path / "out.json", shapes=("8x128",)))
    samples = [backend for backend, do in MadeUp.asked if do == "sample"][2:]
    assert samples == ["jax", "torch", "torch", "jax", "jax", "torch", "torch", "jax"]
    (cell,) = results["cells"]
    assert cell["ratio"] == 0.5
    assert cell["jax"]["median"] == 0.5
    assert cell["torch"]["first_call_seconds"] == 3.0
    assert results == json.loads((tmp_path / "out.json").read_text())
    assert "| bert-tiny | inference | float32 | 8x128 | 500.0 | 1000.0 | 0.50 |" in script.table(
        results
    )


def test_a_cell_that_is_there_is_not_measured_again(script: ModuleType, tmp_path: Path) -> None:
    script.run(settings(script, tmp_path / "out.json", shapes=("8x128",)))
    MadeUp.asked.clear()
    results = script.run(settings(script, tmp_path / "out.json", shapes=("8x128", "1x16")))
    assert [do for _, do in MadeUp.asked].count("prepare") == 2
    assert [(cell["batch"], cell["length"]) for cell in results["cells"]] == [(8, 128), (1, 16)]


def test_nothing_is_begun_beyond_the_budget(script: ModuleType, tmp_path: Path) -> None:
    results = script.run(settings(script, tmp_path / "out.json", budget_seconds=0.0))
    assert results["cells"] == []


def test_a_long_cell_takes_five_rounds(script: ModuleType, tmp_path: Path) -> None:
    changes = {"shapes": ("8x128",), "samples": 15, "cell_seconds": 1.0}
    (cell,) = script.run(settings(script, tmp_path / "out.json", **changes))["cells"]
    assert len(cell["jax"]["seconds"]) == len(cell["torch"]["seconds"]) == 5


def test_a_worker_that_dies_costs_its_cell_alone(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(MadeUp, "dies_in", "bert-base")
    models = {"models": ("bert-base", "bert-tiny"), "shapes": ("1x16",)}
    results = script.run(settings(script, tmp_path / "out.json", **models))
    assert [cell["model"] for cell in results["cells"]] == ["bert-tiny"]
    assert "bert-base inference float32 1x16 was not measured" in capsys.readouterr().err


def results_of(out: Path, **changes: Any) -> Path:
    """Results without cells, of this machine but for these changes."""
    machine = MACHINE | {"torch": "2.13.0"} | changes
    out.write_text(json.dumps({"machine": machine, "cells": []}))
    return out


def test_results_of_another_machine_are_not_mixed_in(script: ModuleType, tmp_path: Path) -> None:
    out = results_of(tmp_path / "out.json", cpu="another", memory_bytes=17_179_869_184)
    with pytest.raises(ValueError, match=r"another machine or versions \(cpu, memory_bytes\)"):
        script.run(settings(script, out))


def test_memory_that_a_system_keeps_makes_no_other_machine(
    script: ModuleType, tmp_path: Path
) -> None:
    out = results_of(tmp_path / "out.json", memory_bytes=25_276_510_208)
    assert script.run(settings(script, out, shapes=("1x16",)))["cells"]


def test_unknown_models_and_shapes_are_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="models: bert-base"):
        list(settings(script, tmp_path, models=("bert-huge",)).cells())
    with pytest.raises(ValueError, match="'8-128' is not of the form BATCHxLENGTH"):
        list(settings(script, tmp_path, shapes=("8-128",)).cells())


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What it prints; it compiles with few optimizations, since no time that it takes counts."""
    settings = {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.slow
def test_both_backends_run_every_kind_of_cell(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    printed = run_script("compare_torch.py", "--tiny", "--out", str(out)).stdout
    cells = json.loads(out.read_text())["cells"]
    kinds = {(cell["mode"], cell["dtype"]) for cell in cells}
    assert len(kinds) == len(cells) == 4
    assert all(cell["jax"]["median"] > 0 and cell["torch"]["median"] > 0 for cell in cells)
    assert printed.count("bert-tiny") == 4


@pytest.mark.slow
def test_every_runtime_runs_the_cell(tmp_path: Path) -> None:
    out, tiny = tmp_path / "out.json", ("--models", "bert-tiny", "--shapes", "2x16")
    options = ("--rounds", "1", "--patience", "0", "--out", str(out))
    printed = run_script("compare_runtimes.py", *tiny, *options).stdout
    (row,) = json.loads(out.read_text())["rows"]
    assert all(row[f"ratio_to_{name}"] > 0 for name in ("torch", "onnxruntime", "openvino"))
    assert "bert-tiny | 2x16" in printed


@pytest.mark.slow
def test_the_sides_agree_on_a_whole_dataset(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And effjax takes packed rows: the script stops where logits are not the same."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    import_folder(get_task("glue/mrpc"), assets / "data" / "glue" / "MRPC", tmp_path / "tfds")
    out, source = tmp_path / "out.json", str(assets / "models" / "all-MiniLM-L6-v2")
    small = ("--tasks", "glue/mrpc", "--examples", "48", "--max-length", "64", "--rounds", "1")
    options = ("--source", source, "--patience", "0", "--dtypes", "float32", "--out", str(out))
    run_script("compare_datasets.py", *small, *options)
    inference, training = json.loads(out.read_text())["rows"]
    assert inference["largest_difference_of_logits"] < 1e-3
    assert training["speedup_over_padded"] > 0 and training["speedup_over_grouped"] > 0


@pytest.mark.slow
def test_steps_over_eight_devices_are_described(tmp_path: Path) -> None:
    """fsdp gathers every matrix once, 3 of the embedding, 6 of each layer, 2 of pooler and head; no
    mesh moves activations from device to device.
    """
    small = ("--models", "bert-tiny", "--steps", "sequence-classification", "--layouts", "packed")
    sizes = ("--meshes", "8x1x1", "1x8x1", "2x2x2", "--batch", "8", "--length", "16")
    run_script("lowering.py", *small, *sizes, "--out", str(tmp_path / "out.json"))
    copies, shared, both = json.loads((tmp_path / "out.json").read_text())["steps"]
    assert set(copies["collectives"]) == {"all-reduce"}
    assert set(shared["collectives"]) == set(both["collectives"]) == {"all-reduce", "all-gather"}
    assert shared["collectives"]["all-gather"]["count"] == 3 + 6 * 2 + 2
    assert shared["bytes_of_state"] < 0.14 * copies["bytes_of_state"]
    assert both["bytes_of_state"] < 0.3 * copies["bytes_of_state"]


@pytest.mark.slow
def test_every_kind_of_step_is_described(tmp_path: Path) -> None:
    """By what each is given beyond its parameters: 4 bytes a number, 12 of what is learned.

    The teacher has 4,386,178 of them on every device, each of four students of half its depth
    4,204,418. Single weights of 393,216 in kernels have scores; heads, units, hidden states and
    both sub-layers of two layers have gates, with two multipliers.
    """
    small = ("--models", "bert-tiny", "--layouts", "packed", "--meshes", "2x2x2")
    sizes = ("--batch", "8", "--length", "16", "--out", str(tmp_path / "out.json"))
    run_script("lowering.py", *small, *sizes)
    steps = {x["step"]: x for x in json.loads((tmp_path / "out.json").read_text())["steps"]}
    assert len(steps) == 12 and all(x["bytes_of_step"] > 0 for x in steps.values())
    state = {name: x["bytes_of_state"] for name, x in steps.items()}
    alone, teacher = state["sequence-classification"], 4 * 4_386_178
    assert state["live-teacher"] - state["known-teacher"] == pytest.approx(teacher, rel=0.01)
    together = steps.pop("together")
    assert together["mesh"] == "1x1x1" and not together["collectives"]
    assert state["together"] == pytest.approx(teacher + 4 * 12 * 4_204_418, rel=1e-3)
    assert all({"all-gather", "all-reduce"} <= set(x["collectives"]) for x in steps.values())
    assert state["electra"] > 1.03 * state["token-classification"]
    assert state["movement"] - alone == 12 * 393_216
    assert state["cofi"] - alone == 12 * (2 * (2 + 512) + 128 + 2 * 2 + 2)
    assert state["micro-batches"] > alone == state["layer-drop"]


@pytest.mark.slow
def test_the_way_to_the_first_step_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = ("--model", "bert-tiny", "--shape", "2x16", "--processes", "1")
    run_script("first_step.py", *small, "--out", str(out))
    results = json.loads(out.read_text())
    (warm,) = results["warm"]
    assert list(warm) == ["imported", "loaded", "prepared", "stepped"]
    assert list(warm.values()) == sorted(warm.values())
    assert results["median"] == warm["stepped"]
    assert results["compiled"] > 0  # and none with a warm cache, where the script would stop


@pytest.mark.slow
def test_the_accelerator_script_runs_on_a_cpu() -> None:
    small = ("--models", "bert-tiny", "--lengths", "32", "--tokens", "128", "--samples", "2")
    results = json.loads(run_script("accelerator.py", *small, "--examples", "64").stdout)
    kinds = [(cell["mode"], cell["attention"]) for cell in results["cells"]]
    assert kinds == list(product(("inference", "training"), ("late-division", "fused")))
    assert all(cell["tokens_per_second"] > 0 for cell in results["cells"])
    assert results["difference_of_fused_attention"]["bert-tiny 32"] < 0.05
    inputs = {(entry["layout"], entry["attention"]): entry for entry in results["input"]}
    assert set(inputs) == set(product(("packed", "padded"), ("late-division", "fused")))
    packed, padded = (inputs[layout, "late-division"] for layout in ("packed", "padded"))
    assert packed["shapes"] <= padded["shapes"] < packed["batches"] == padded["batches"]
    assert all(entry["ratio"] > 0.5 for entry in results["input"])
    assert results["machine"]["device"]


@pytest.mark.slow
def test_a_band_and_a_full_mask_are_timed(tmp_path: Path) -> None:
    small = ("--size", "ettin-17m", "--lengths", "512", "--tokens", "512", "--samples", "2")
    out = tmp_path / "out.json"
    run_script("local_attention.py", *small, "--dtypes", "float32", "--out", str(out))
    inference, training = json.loads(out.read_text())["entries"]
    for entry in (inference, training):
        assert entry["largest_difference"] < 1e-4
        assert entry["speedup"] > 0 and entry["band"]["bytes"] < entry["full"]["bytes"]


@pytest.mark.slow
def test_smaller_models_are_predicted_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path / "cache"))
    small = ("--models", "2", "--in-torch", "1", "--points", "3", "--layers", "1", "--batch", "1")
    out = tmp_path / "out.json"
    run_script("smaller_models.py", *small, "--samples", "3", "--out", str(out))
    results = json.loads(out.read_text())
    rows = results["latency"]["models"]
    assert [row["sizes"].keys() for row in rows] == 2 * [{"layer_0/heads", "layer_0/ffn"}]
    for row in rows:  # what is predicted from three samples of nearly nothing may be anything
        assert row["measured"] > 0 and row["off"] == row["measured"] / row["predicted"] - 1
    (row,) = results["torch"]["models"]
    assert row["flops"] >= 1 and row["share"] == pytest.approx(row["speedup"] / row["flops"])


@pytest.fixture
def sst2(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """SST-2 where the scripts look for it; the folder of its teacher."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    import_folder(get_task("glue/sst2"), assets / "data" / "glue" / "SST-2", tmp_path / "tfds")
    return str(assets / "models" / "all-MiniLM-L6-v2")


@pytest.mark.slow
def test_a_teacher_that_is_run_once_is_timed(sst2: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = ("--phrases", "300", "--steps", "2", "--samples", "2", "--batch-size", "16")
    run_script("teacher_cache.py", "--teacher", sst2, *small, "--out", str(out))
    results = json.loads(out.read_text())
    assert results["seconds"]["read"] < results["seconds"]["run"]
    assert results["bytes_on_disk"] > 0 and results["live_over_looked_up"]["median"] > 0


@pytest.mark.slow
def test_students_in_one_program_are_timed(sst2: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = ("--students", "2", "--steps", "2", "--samples", "2", "--batch-size", "8")
    run_script("students_together.py", "--teacher", sst2, *small, "--out", str(out))
    cells = json.loads(out.read_text())["cells"]
    assert list(cells) == ["half of the layers", "2 layers of 128"]
    for cell in cells.values():
        alone, together = (cell["seconds"][name] for name in ("one_by_one", "together"))
        assert len(alone) == len(together) == 2
        assert cell["one_by_one_over_together"]["median"] > 0
