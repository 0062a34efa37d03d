"""Samples taken in turns from workers, each in its own process, while the machine is watched.

Contention halves torch and hardly touches XLA, so a sample is taken only when nobody else works,
and taken again if somebody did meanwhile.
"""

import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cell

from effjax.measure.machine import CpuClock, other_cores

BUSY = 0.15
"""More cores than this at work for others make a sample worthless."""

SAMPLE_SECONDS = 0.25
"""A sample repeats a short call for this long."""

MAX_CALLS = 50

RETRIES = 3


class Worker:
    """A backend in a process of its own."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The worker's reply.

        Raises:
            RuntimeError: it failed or died, for example of too little memory.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply = json.loads(line) if line else {"error": f"died, exit code {self.process.wait()}"}
        if "error" in reply:
            raise RuntimeError(f"{self.backend} {do}: {reply['error']}")
        return reply

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Samples:
    """What one worker took for one cell.

    Attributes:
        seconds: per call, sample by sample.
        calls: calls in each sample.
        disturbed: how many samples were kept although others were at work.
        other_cores: the most cores that others used during a kept sample; None where unknown.
    """

    first_call_seconds: float
    calls: int
    seconds: list[float] = field(default_factory=list)
    disturbed: int = 0
    other_cores: float | None = None

    def summary(self) -> dict[str, Any]:
        low, median, high = np.quantile(self.seconds, (0.25, 0.5, 0.75)).tolist()
        return {"median": median, "quartiles": [low, high], **asdict(self)}


@contextlib.contextmanager
def started(modules: Mapping[str, str]) -> Iterator[dict[str, Worker]]:
    """A process for each side, whose module is named."""
    workers = {name: Worker(module) for name, module in modules.items()}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def measure_cell(
    cell: Cell, workers: dict[str, Worker], *, rounds: int, seconds: float, patience: float
) -> dict[str, Any]:
    """One cell in turns: jax and torch, then torch and jax, and so on.

    Args:
        rounds: samples of each at most; fewer, but 5, where they would take longer than `seconds`.
        patience: seconds to wait for a quiet machine before every sample.
    """
    config = workers["jax"].ask("prepare", cell=asdict(cell), config=None)
    prepared = {
        "jax": config,
        "torch": workers["torch"].ask("prepare", cell=asdict(cell), config=config["config"]),
    }
    taken, spent = {}, 0.0
    for name, worker in workers.items():
        once = worker.ask("sample", calls=1)["seconds"]
        calls = min(max(1, math.ceil(SAMPLE_SECONDS / once)), MAX_CALLS)
        spent += calls * once
        taken[name] = Samples(prepared[name]["first_call_seconds"], calls)
    rounds = min(rounds, max(5, int(seconds / spent)))
    for i in range(rounds):
        for name in sorted(workers, reverse=bool(i % 2)):
            take(workers[name], taken[name], patience)
    low, ratio, high = ratios(taken["jax"], taken["torch"])
    return {
        **asdict(cell),
        **{name: samples.summary() for name, samples in taken.items()},
        "ratio": ratio,
        "ratio_quartiles": [low, high],
    }


def ratios(over: Samples, under: Samples) -> list[float]:
    """The quartiles of the rounds' ratios: of two samples that were taken one after the other. A
    machine's speed drifts, by a sixth within minutes where it is shared, and a ratio of two medians
    may be of two speeds.
    """
    return np.quantile(np.divide(over.seconds, under.seconds), (0.25, 0.5, 0.75)).tolist()


def in_rounds(
    workers: Mapping[str, Worker], taken: Mapping[str, Samples], rounds: int, patience: float
) -> None:
    """Samples of all sides in turns, each round beginning with the next one."""
    names = list(workers)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            take(workers[name], taken[name], patience)


def take(worker: Worker, samples: Samples, patience: float) -> None:
    """One more sample; after some retries a disturbed one is kept, and counted as such."""
    for attempt in range(RETRIES):
        wait_until_quiet(patience)
        before = CpuClock.now()
        reply = worker.ask("sample", calls=samples.calls)
        others = other_cores(before, CpuClock.now(), own=reply["cpu_seconds"])
        disturbed = others is not None and others > BUSY
        if not disturbed or attempt == RETRIES - 1 or not patience:
            break
    samples.seconds.append(reply["seconds"])
    samples.disturbed += disturbed
    if others is not None:
        samples.other_cores = max(others, samples.other_cores or 0.0)


def wait_until_quiet(patience: float) -> None:
    """Returns when nobody else works, or when patience is at its end."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = CpuClock.now()
        time.sleep(0.2)
        others = other_cores(before, CpuClock.now())
        if others is None or others <= BUSY:
            return
