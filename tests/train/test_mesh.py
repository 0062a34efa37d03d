"""One result on one device and over any mesh; and where the arrays lie."""

import json
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax.sharding import PartitionSpec

from effjax.models import Model
from effjax.train.logs import Record, read_history, without_speed
from effjax.train.mesh import Mesh, share_of, spec, whole

SCRIPT = Path(__file__).with_name("small_run.py")
STEPS = {"epochs": 2, "skip_spikes": 1e3, "ema": 0.5}
TOLERANCE = 2e-5
"""Between meshes, in parameters after 10 steps at a rate of 1e-2: sums are taken in another order,
and Adam makes the rounding of a small gradient as large as that of a big one.
"""

MESHES = {
    "1": {},
    "8x1": {"data": 8},
    "4x2": {"data": 4, "fsdp": 2},
    "2x2x2": {"data": 2, "fsdp": 2, "tensor": 2},
}


Params = dict[str, np.ndarray]
Result = tuple[Params, list[Record]]


def trained(folder: Path, mesh: str, **further: str) -> Result:
    """The parameters that a training over a mesh ends with, and its history."""
    options = {"mesh": MESHES[mesh], "training": STEPS, **further}
    run_small(folder, 8 if MESHES[mesh] else 1, options)
    return result(folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of one device."""
    return trained(tmp_path_factory.mktemp("1"), "1")


def result(folder: Path) -> Result:
    with np.load(folder / "params.npz") as arrays:
        return dict(arrays), without_speed(read_history(folder))


def assert_same(found: Result, wanted: Result) -> None:
    """Two trainings came to the same, the evaluations after each epoch included."""
    for path, array in wanted[0].items():
        np.testing.assert_allclose(found[0][path], array, atol=TOLERANCE, err_msg=path)
    assert sum(any(name.startswith("train/") for name in x) for x in wanted[1]) == 2
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert ours == pytest.approx(theirs, abs=TOLERANCE)


def run_small(folder: Path, devices: int, options: dict[str, Any], code: int = 0) -> int:
    """How many steps the small run did; other lines of its output are those of libraries."""
    command = [sys.executable, str(SCRIPT), str(folder), str(devices), json.dumps(options)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == code, process.stderr
    return len(re.findall(r"^\d+ \d\.\d+$", process.stdout, flags=re.M))


@pytest.mark.parametrize(
    "mesh", [pytest.param(name, marks=pytest.mark.slow) for name in ("8x1", "4x2")] + ["2x2x2"]
)
def test_what_comes_out_does_not_depend_on_the_mesh(
    alone: Result, mesh: str, tmp_path: Path
) -> None:
    assert_same(trained(tmp_path, mesh), alone)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["masked-lm", "electra"])
def test_pretraining_does_not_depend_on_the_mesh(method: str, tmp_path: Path) -> None:
    """The generator's guesses included, which are drawn at random."""
    found = {}
    for name in ("1", "2x2x2"):
        found[name] = trained(tmp_path / name, name, pretraining=method)
    assert_same(found["2x2x2"], found["1"])


@pytest.mark.slow
def test_a_run_goes_on_over_another_mesh(alone: Result, tmp_path: Path) -> None:
    """Half of the steps over 2x2x2, the others on one device."""
    half = {"mesh": MESHES["2x2x2"], "training": STEPS, "stop_at": 5}
    assert run_small(tmp_path, 8, half, code=143) == 6
    assert run_small(tmp_path, 1, {"training": STEPS}) == 4
    assert_same(result(tmp_path), alone)


@pytest.mark.slow
def test_two_processes_stop_together_and_one_goes_on(alone: Result, tmp_path: Path) -> None:
    """Every other of eight devices each, over 4x2. Only the second process is asked to end, after
    step 2; both stop after one step, which the first has not reached when it hears of it. One
    device does the rest.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    options = {"mesh": MESHES["4x2"], "training": STEPS, "address": address, "slow": (2, 1)}
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run_small, tmp_path, 4, options | process, 143)
            for process in ({"process": 0}, {"process": 1, "stop_at": 2})
        ]
        first, second = (run.result() for run in runs)
    assert first == second < 10
    assert run_small(tmp_path, 1, {"training": STEPS}) == 10 - first
    assert_same(result(tmp_path), alone)


def test_arrays_are_split_by_the_letters_of_the_table(model: Model) -> None:
    """Two heads, hidden 16, feed-forward 24, vocabulary 32."""
    rows = model.table.by_path
    both = {"data": 1, "fsdp": 4, "tensor": 2}
    query, output = (rows[f"layer_0/attention/{name}/kernel"] for name in ("query", "output"))
    assert spec(query, both) == PartitionSpec("fsdp", "tensor", None)
    assert spec(output, both) == PartitionSpec("tensor", None, "fsdp")
    assert spec(rows["layer_0/feedforward/up/bias"], both) == PartitionSpec("tensor")
    assert spec(rows["embedding/word/embedding"], both) == PartitionSpec("tensor", "fsdp")
    assert spec(rows["head/output/bias"], both) == PartitionSpec(None)
    assert spec(rows["layer_0/feedforward/down/bias"], both) == PartitionSpec(None)
    assert whole(model.table, {"data": 4, "fsdp": 1, "tensor": 1}) == []
    odd = {"data": 1, "fsdp": 1, "tensor": 5}
    assert spec(query, odd) == PartitionSpec(None, None, None)
    assert query in whole(model.table, odd)


def test_a_mesh_must_fit_the_devices() -> None:
    assert Mesh().build().shape == {"data": 1, "fsdp": 1, "tensor": 1}
    with pytest.raises(ValueError, match="mesh: data 1 x fsdp 2 x tensor 1 = 2; there are 1"):
        Mesh(fsdp=2).build()
    with pytest.raises(ValueError, match="mesh: tensor is 0; it must be 1 or more"):
        Mesh(tensor=0)


@dataclass(frozen=True)
class Chip:
    """What JAX reads of a TPU's chip to arrange it."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    device_kind: str = "TPU v4"
    platform: str = "tpu"
    core_on_chip: int = 0


def pod(*dims: int) -> list[Chip]:
    """A slice whose hosts have 2 x 2 x 1 chips each, the usual order of devices."""
    x, y, z = dims
    places = [(a, b, c) for c in range(z) for b in range(y) for a in range(x)]
    hosts = {place: (place[0] // 2, place[1] // 2, place[2]) for place in places}
    number = {host: i for i, host in enumerate(sorted(set(hosts.values()), key=lambda h: h[::-1]))}
    chips = [Chip(i, number[hosts[place]], place) for i, place in enumerate(places)]
    return sorted(chips, key=lambda chip: chip.process_index)


@pytest.mark.parametrize(
    ("dims", "mesh", "first"),
    [
        ((2, 2, 4), Mesh(), (0, 4, 8, 12)),
        ((2, 2, 4), Mesh(fsdp=16), (0, 4, 8, 12)),
        ((2, 2, 2), Mesh(), (0, 2, 4, 6)),
        ((2, 2, 4), Mesh(fsdp=4), (0, 1, 2, 3)),
        ((4, 4, 1), Mesh(fsdp=2, tensor=2), None),
    ],
)
def test_hosts_of_a_pod_share_the_rows_of_a_batch(
    dims: tuple[int, ...], mesh: Mesh, first: tuple[int, ...] | None, monkeypatch: Any
) -> None:
    """Each row is of one host, which need not have its neighbours."""
    chips = pod(*dims)
    built, shares = mesh.build(chips), []
    for process in {chip.process_index for chip in chips}:
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        shares.append(share_of(built))
    assert first is None or shares[0].blocks == first
    rows = len(chips) // mesh.tensor
    assert sorted(row for share in shares for row in share.blocks) == list(range(rows))
    assert {share.multiple for share in shares} == {rows}
