"""Memory over a long training."""

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model
from effjax.train import Training, fit, loop

STEPS = 5000
MEGABYTES = 8
"""What the second half may add: allocators keep a little of what they free."""


def resident() -> float:
    """Megabytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_over_5000_steps(
    model: Model, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints and looks at the loss included."""
    monkeypatch.setattr(loop, "LOG_EVERY", 100)
    seen = {}

    def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        seen[step] = resident()

    training = Training(epochs=STEPS, batch_size=16, save_every=500)
    objective = Weighted(task=(1.0, TaskLoss()))
    run = {"seed": 0, "folder": tmp_path, "steps": STEPS, "progress": progress}
    fit(model, encoded, objective, training, **run)
    print({step: round(x, 1) for step, x in seen.items() if step % 500 == 0})
    before = min(x for step, x in seen.items() if step <= STEPS // 2)  # compilers give some back
    assert seen[STEPS] - before < MEGABYTES
