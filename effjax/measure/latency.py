"""How long a forward pass takes: one model, or several in turns, so that their ratio is fair."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from effjax.measure.batch import full_batch
from effjax.measure.machine import CpuClock, describe, machine, other_cores
from effjax.models.model import Model, forward, inputs

WARMUP = 3
"""Calls before the first sample: memory is touched and threads are started."""

BUSY = 0.1
"""More cores than this at work for others spoil a measurement."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of one model's compiled forward pass on full rows of `length` tokens, no padding.

    Attributes:
        seconds: every sample, in the order taken.
        compile_seconds: until the program was ready; short if the persistent cache had it.
        other_cores: cores that other processes kept busy meanwhile, on average; None where unknown.
            Above `BUSY` the times are not to be trusted.
        machine: what `machine()` says.
    """

    batch: int
    length: int
    seconds: tuple[float, ...]
    compile_seconds: float
    other_cores: float | None
    machine: Mapping[str, Any]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        return self.batch * self.length / self.median

    def __str__(self) -> str:
        low, high = self.quartiles
        return (
            f"{1e3 * self.median:.2f} ms for {self.batch} x {self.length} tokens "
            f"(median of {len(self.seconds)}, quartiles {1e3 * low:.2f} to {1e3 * high:.2f}), "
            f"{self.tokens_per_second:,.0f} tokens/s, compiled in {self.compile_seconds:.1f} s; "
            f"{describe(self.machine)}{self.load_note()}"
        )

    def load_note(self) -> str:
        """What to add where others were busy."""
        if self.other_cores is None or self.other_cores <= BUSY:
            return ""
        return f"; others kept {self.other_cores:.1f} cores busy, measure again"


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How many times as fast as the baseline, round by round: medians of both apart may be of
    different moments of a machine that changes its speed.

    Attributes:
        ratio: the median.
        quartiles: of the same.
    """

    ratio: float
    quartiles: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Latencies of several models from one run; the first is the baseline."""

    latencies: Mapping[str, Latency]

    @property
    def baseline(self) -> str:
        return next(iter(self.latencies))

    def speedup(self, name: str) -> Speedup:
        """How many times faster the named model is than the baseline."""
        slow, fast = self.latencies[self.baseline], self.latencies[name]
        rounds = np.divide(slow.seconds, fast.seconds)
        return Speedup(ratio=float(np.median(rounds)), quartiles=quartiles(rounds))

    def __str__(self) -> str:
        lines = [f"{name}: {latency}" for name, latency in self.latencies.items()]
        for name in list(self.latencies)[1:]:
            speedup = self.speedup(name)
            low, high = speedup.quartiles
            lines.append(
                f"{name} is {speedup.ratio:.2f} times as fast as {self.baseline} "
                f"(quartiles {low:.2f} to {high:.2f})"
            )
        return "\n".join(lines)


def latency(model: Model, *, batch: int = 1, length: int = 128, samples: int = 30) -> Latency:
    """Times `samples` calls of the compiled model, each waited for.

    Raises:
        ValueError: the model cannot run that shape, or there are no samples.
    """
    return compare({"model": model}, batch=batch, length=length, samples=samples).latencies["model"]


def compare(
    models: Mapping[str, Model], *, batch: int = 1, length: int = 128, samples: int = 30
) -> Comparison:
    """Times several models in turns, so that what slows the machine down slows all of them.

    Args:
        models: by name; the first is the baseline.
        samples: rounds; in each, every model runs once, and every round begins with the next one.

    Raises:
        ValueError: a model cannot run that shape, or there are no models or samples.
    """
    if not models:
        raise ValueError("there is no model to measure")
    if samples < 1:
        raise ValueError(f"samples is {samples}; expected 1 or more")
    calls, compiling = {}, {}
    for name, model in models.items():
        calls[name], compiling[name] = prepare(
            model, full_batch(model.config, batch=batch, length=length)
        )
    before = CpuClock.now()
    times = in_turns(calls, samples)
    others, where = other_cores(before, CpuClock.now()), machine()
    return Comparison(
        latencies={
            name: Latency(
                batch=batch,
                length=length,
                seconds=tuple(times[name]),
                compile_seconds=compiling[name],
                other_cores=others,
                machine=where,
            )
            for name in models
        }
    )


def compile_forward(model: Model, batch: Mapping[str, np.ndarray]) -> jax.stages.Compiled:
    """The program that calling the model runs, for batches of this shape."""
    return forward.lower(model, inputs(model.config, batch)).compile()


def prepare(model: Model, batch: Mapping[str, np.ndarray]) -> tuple[Callable[[], None], float]:
    """A call that runs the compiled model to its end, warmed up, and the seconds of compiling."""
    model = model.for_inference()
    begun = time.perf_counter()
    compiled = compile_forward(model, batch)
    seconds, arrays = time.perf_counter() - begun, inputs(model.config, batch)

    def call() -> None:
        jax.block_until_ready(compiled(model, arrays))

    for _ in range(WARMUP):
        call()
    return call, seconds


def in_turns(calls: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round; each round begins with the next call."""
    names, times = list(calls), {name: [] for name in calls}
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - begun)
    return times


def quartiles(values: Any) -> tuple[float, float]:
    """The lower and the upper quartile."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(low), float(high)
