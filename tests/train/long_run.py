"""A long training as a process of its own, which says how much memory it has in use.

    PYTHONMALLOC=malloc python -m tests.train.long_run FOLDER STEPS

Prints a line `step megabytes` every hundred steps.
"""

import ctypes
import gc
import sys
from collections.abc import Mapping
from pathlib import Path

from effjax.distill import TaskLoss, Weighted
from effjax.train import Training, fit, loop
from tests.train.small_run import small_data, small_model

SAVE_EVERY = 500


class Allocated(ctypes.Structure):
    """What glibc's `mallinfo2` returns (malloc.h), over all arenas, in bytes."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")),
        *((name, ctypes.c_size_t) for name in ("hblkhd", "usmblks", "fsmblks", "uordblks")),
        *((name, ctypes.c_size_t) for name in ("fordblks", "keepcost")),
    ]


def in_use() -> float:
    """Megabytes asked of malloc and not given back.

    Resident memory has in it what malloc keeps of what was given back: 170 MB came and went.
    """
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Allocated
    now = mallinfo()
    return (now.uordblks + now.hblkhd) / 2**20


def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
    del steps, metrics
    if step % 100 == 0:
        gc.collect()
        print(step, in_use(), flush=True)


if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    loop.LOG_EVERY = 100
    training = Training(epochs=steps, batch_size=16, save_every=SAVE_EVERY)
    objective = Weighted(task=(1.0, TaskLoss()))
    run = {"seed": 0, "folder": folder, "steps": steps, "progress": progress}
    fit(small_model(), small_data(), objective, training, **run)
