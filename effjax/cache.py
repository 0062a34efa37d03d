"""Caches on disk: where they are, and JAX's compilation cache, on by default on the command line.

A compiled step is stored on disk and found again by the next process, which then starts
sooner. JAX takes the three settings from environment variables when it is imported, so this module
sets those and does not import JAX; a variable that the user has set already is left as it is.
"""

import hashlib
import os
import platform
from pathlib import Path

VARIABLE = "EFFJAX_CACHE"


def folder(kind: str) -> Path | None:
    """Where one kind of cached data lives: a sub-folder of `$EFFJAX_CACHE` where that is set, else
    of `effjax` in the user's cache folder; None with `EFFJAX_CACHE=off`.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting.lower() == "off":
        return None
    return (Path(setting).expanduser() if setting else _user_cache()) / kind


def enable() -> Path | None:
    """Turns the compilation cache on for this process and its children, before JAX is imported.

    The folder is `$EFFJAX_CACHE` where that is set, else `effjax/xla` in the user's cache folder
    with one sub-folder per kind of machine. `EFFJAX_CACHE=off` leaves JAX alone.

    Returns:
        The folder in use, or None if the cache is off.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting.lower() == "off":
        return None
    folder = Path(setting).expanduser() if setting else _user_cache() / "xla" / _machine()
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.absolute()),
        # By default JAX keeps only what took a second to compile; small programs are most of a
        # start-up.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "effjax"


def _machine() -> str:
    # A home folder is often shared by machines of different age, and XLA's CPU programs use the
    # instructions of the CPU that compiled them.
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        flags = (
            line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))
        )
        cpu = next(flags, cpu)
    return f"{platform.machine()}-{hashlib.sha256(cpu.encode()).hexdigest()[:8]}"
