"""Allocator, collector and vectors: what a process sets, and that it does what it was asked."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jaxlib.version
import pytest

import effjax
from effjax import __main__, cli, process
from effjax.process import keep_memory, wide_vectors

Begun = list[tuple[str, list[str]]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """The processes begun anew, on Linux without an accelerator, with nothing said yet."""
    processes: Begun = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(process, "ACCELERATORS", ())
    monkeypatch.setattr(os, "execv", lambda program, argv: processes.append((program, argv)))
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # so that the end of the test takes it back
    del os.environ["GLIBC_TUNABLES"]
    return processes


def test_a_process_begins_anew_once(begun: Begun) -> None:
    keep_memory()
    keep_memory()
    assert begun == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert "glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:" in os.environ["GLIBC_TUNABLES"]


def test_what_the_user_has_set_stays(begun: Begun) -> None:
    os.environ["GLIBC_TUNABLES"] = ""
    keep_memory()
    assert not begun


def test_other_systems_and_accelerators_are_left_alone(
    begun: Begun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "ACCELERATORS", (tmp_path,))
    keep_memory()
    monkeypatch.setattr(process, "ACCELERATORS", ())
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_memory()
    assert not begun


def test_the_command_keeps_its_memory() -> None:
    """256 MiB are touched, given back and touched again: no page is new the second time."""
    code = """
import resource, sys
import numpy as np
from effjax.process import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**25)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
print(faults(), faults())
"""
    without = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=without, capture_output=True, text=True, check=True)
    first, second = map(int, run.stdout.split())
    assert second < 64 < first


def test_what_is_in_no_use_is_given_back() -> None:
    """A hole of 256 MiB below something that stays, which no trimming from the end would reach."""
    code = """
import numpy as np
from effjax.process import give_back, keep_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

keep_memory()
large, small = np.ones(2**25), np.ones(2**15)
del large
kept = resident()
give_back()
print(kept - resident())
"""
    without = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    for name, environment in (("ours", without), ("theirs", without | {"GLIBC_TUNABLES": ""})):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (int(run.stdout) > 250) == (name == "ours")


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """XLA's flags, of which there are none, beside no accelerator and with a release that is known;
    the end of the test takes them back.
    """
    monkeypatch.setattr(process, "ACCELERATORS", ())
    monkeypatch.setattr("jaxlib.version.__version__", "0.10.9")
    monkeypatch.setenv("XLA_FLAGS", "")
    return lambda: os.environ["XLA_FLAGS"]


def test_vectors_are_asked_for_beside_other_flags(
    flags: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide_vectors()
    wide_vectors()
    assert flags() == "--xla_cpu_prefer_vector_width=512"
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    wide_vectors()
    assert flags().split() == [
        "--xla_force_host_platform_device_count=2",
        "--xla_cpu_prefer_vector_width=512",
    ]


def test_a_width_of_the_users_stays(
    flags: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    wide_vectors()
    assert flags() == "--xla_cpu_prefer_vector_width=256"


def test_no_flag_beside_an_accelerator_or_with_another_release(
    flags: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "ACCELERATORS", (tmp_path,))
    wide_vectors()
    monkeypatch.setattr(process, "ACCELERATORS", ())
    monkeypatch.setattr("jaxlib.version.__version__", "0.11.0")
    wide_vectors()
    assert flags() == ""


def test_xla_knows_what_it_is_asked_for() -> None:
    """It would end the process if it did not."""
    code = """
import os
from effjax import process

process.ACCELERATORS = ()
process.wide_vectors()
import jax

jax.devices("cpu")
print(os.environ.get("XLA_FLAGS"))
"""
    without = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=without, capture_output=True, text=True, check=True)
    known = jaxlib.version.__version__.startswith(process.KNOWN_TO)
    assert (process.WIDTH in run.stdout) == known


def test_the_command_collects_rarely_in_wide_vectors(
    flags: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(__main__, "keep_memory", lambda: None)
    monkeypatch.setattr(cli, "main", lambda: gc.get_threshold()[0])
    before = gc.get_threshold()
    try:
        assert __main__.main() == process.NEW_OBJECTS > before[0]
        assert process.WIDTH in flags()
    finally:
        gc.set_threshold(*before)


def test_the_command_does_what_it_was_asked() -> None:
    without = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-m", "effjax", "--version"]
    run = subprocess.run(command, env=without, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == effjax.__version__
