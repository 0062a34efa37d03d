"""The description of the machine, its load, and memory."""

import json
import platform
import socket
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from effjax import measure
from effjax.measure.machine import CpuClock, cpu_name, other_cores
from effjax.models.base import Runtime
from effjax.models.model import create


def test_the_machine_is_described_and_not_named() -> None:
    text = json.dumps(measure.machine())
    assert measure.machine()["jax"] == jax.__version__
    assert measure.machine()["cores"] >= 1
    assert platform.python_version() in text
    assert "/" not in text.replace(measure.machine()["cpu"], "")
    if socket.gethostname() != "localhost":
        assert socket.gethostname() not in text


def test_processors_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By family and model, of the first one that is listed; an ARM processor has neither."""
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(sys.modules[cpu_name.__module__], "CPU_INFO", info)
    one = "processor : {}\ncpu family : {}\nmodel : {}\nmodel name : AMD EPYC\n\n"
    info.write_text(one.format(0, 25, 17) + one.format(1, 26, 2))
    assert cpu_name() == "AMD EPYC, family 25, model 17"
    info.write_text("processor : 0\nCPU part : 0xd0c\n")
    assert cpu_name() == (platform.processor() or platform.machine())


def test_other_cores_are_what_is_not_our_own() -> None:
    before, after = CpuClock(10.0, 100.0, 5.0), CpuClock(12.0, 103.0, 6.0)
    assert other_cores(before, after) == 1.0
    assert other_cores(before, after, own=3.0) == 0.0
    assert other_cores(before, CpuClock(12.0, None, 6.0)) is None


def test_our_own_work_is_on_the_clock() -> None:
    before = CpuClock.now()
    while time.process_time() - before.own < 0.2:
        pass
    after = CpuClock.now()
    assert after.own - before.own >= 0.2
    if before.busy is not None and after.busy is not None:
        assert after.busy - before.busy >= 0.15


def test_memory_counts_arguments_outputs_and_what_is_between() -> None:
    model = create("bert", size="tiny", key=jax.random.key(0), runtime=Runtime.plain())
    small, large = measure.memory(model, length=128), measure.memory(model, batch=8, length=128)
    inputs = 3 * 4 * 8 * 128
    assert large.arguments == pytest.approx(4 * model.num_params + inputs, rel=1e-3)
    assert large.outputs >= 4 * 8 * 128 * 128
    assert large.temporaries >= 4 * 8 * 2 * 128 * 128  # one layer's scores
    assert small.temporaries < large.temporaries
    assert large.peak == large.arguments + large.outputs + large.temporaries
    assert "MB at the peak" in str(large)


def test_chunks_need_less_memory() -> None:
    key = jax.random.key(0)
    chunked = create("bert", size="tiny", key=key, runtime=Runtime(chunk_tokens=128))
    whole = chunked.replace(runtime=Runtime())
    assert (
        measure.memory(chunked, batch=8).temporaries
        < 0.5 * measure.memory(whole, batch=8).temporaries
    )


def test_peak_rss_grows_with_what_is_held() -> None:
    before = measure.peak_rss()
    held = np.ones(300_000_000 // 8)
    assert held.sum() == held.size
    assert measure.peak_rss() >= before
    assert measure.peak_rss() >= 300_000_000
