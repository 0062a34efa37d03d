"""The folder of a run: one process at a time, and an orderly end when the system asks for one."""

import fcntl
import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from effjax.data.layouts import Batch
from effjax.files import atomic_file


class Interrupted(SystemExit):
    """The system asked for an end; what was done is saved. The exit code is that of SIGTERM."""

    def __init__(self, step: int) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.step = step


class Interruption:
    """Notices SIGTERM, which schedulers send before they take a machine away; a context manager.

    One process takes notice itself. Of several, JAX notices it where any one gets it, and has all
    agree on the step to stop after.
    """

    calls = itertools.count()
    """Numbers the calls of `wants_end` by which processes agree, over all trainings."""

    def __init__(self) -> None:
        self.noticed = False

    def __enter__(self) -> "Interruption":
        self.before: Any = None
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self.notice)
        return self

    def __exit__(self, *error: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def notice(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.noticed = True

    def wants_end(self) -> bool:
        """Whether to stop after this step; asked by every process after every step."""
        if jax.process_count() == 1:
            return self.noticed
        return multihost_utils.reached_preemption_sync_point(next(self.calls))


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the system lets go of it when the process ends.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another run is writing here; wait for its end or choose another folder"
            ) from None
        yield


def save_batch(path: Path, parts: tuple[Batch, ...]) -> None:
    """The arrays of a batch as .npz, each name with the number of its part in front."""
    arrays = {f"{i}/{name}": x for i, part in enumerate(parts) for name, x in part.items()}
    with atomic_file(path) as partial:
        np.savez_compressed(partial, allow_pickle=False, **arrays)
