"""What a number was measured on, and whether anything else was running there."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "transformers")

CPU_INFO = Path("/proc/cpuinfo")

NUMBERS = {"family": "cpu family", "model": "model"}
"""Of a processor, by their names there."""

ENVIRONMENT = ("GLIBC_TUNABLES", "XLA_FLAGS")
"""Variables that change how fast a program runs; those that are set are part of a result."""


def machine() -> dict[str, Any]:
    """CPU, cores, memory, device, versions and settings; neither its name nor a path of it."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": available_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def cpu_name() -> str:
    """The processor's name as Linux knows it, with family and model where it has these, which tell
    apart what rented machines call by one name; or what Python knows.
    """
    told: dict[str, str] = {}
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    for name, _, value in (line.partition(":") for line in lines):
        told.setdefault(name.strip(), value.strip())
    if "model name" not in told:
        return platform.processor() or platform.machine()
    numbers = [f"{key} {told[name]}" for key, name in NUMBERS.items() if name in told]
    return ", ".join([told["model name"], *numbers])


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class CpuClock:
    """Seconds so far: on the clock, of all cores together at work, of this process at work.

    `busy` is None where the system does not tell (anything but Linux).
    """

    wall: float
    busy: float | None
    own: float

    @classmethod
    def now(cls) -> "CpuClock":
        return cls(time.perf_counter(), busy_seconds(), time.process_time())


def busy_seconds() -> float | None:
    """Core-seconds of work on this machine since it started, for all processes; None if unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(
        int, stat.read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def other_cores(before: CpuClock, after: CpuClock, own: float | None = None) -> float | None:
    """How many cores others kept busy between two clocks, on average; None where unknown.

    The system counts in hundredths of a second, so over less than a second it is a rough number.

    Args:
        own: core-seconds that are not others'; this process' own if not given.
    """
    if before.busy is None or after.busy is None:
        return None
    own = after.own - before.own if own is None else own
    return max(0.0, (after.busy - before.busy - own) / (after.wall - before.wall))


def describe(machine: Mapping[str, Any]) -> str:
    """One line for the foot of a table."""
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}, jax {machine['jax']}"
