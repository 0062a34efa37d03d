"""A long training as a process of its own, which says how much memory it holds.

    python -m tests.train.long_run FOLDER STEPS

Prints a line `step megabytes` every hundred steps.
"""

import gc
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from effjax.distill import TaskLoss, Weighted
from effjax.train import Training, fit, loop
from tests.train.small_run import small_data, small_model


def resident() -> float:
    """Megabytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
    del steps, metrics
    if step % 100 == 0:
        gc.collect()
        print(step, resident(), flush=True)


if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    loop.LOG_EVERY = 100
    training = Training(epochs=steps, batch_size=16, save_every=500)
    objective = Weighted(task=(1.0, TaskLoss()))
    run = {"seed": 0, "folder": folder, "steps": steps, "progress": progress}
    fit(small_model(), small_data(), objective, training, **run)
