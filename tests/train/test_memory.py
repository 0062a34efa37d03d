"""Memory over a long training."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 5000
MEGABYTES = 8
"""What the second half may add: allocators keep a little of what they free."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_over_5000_steps(tmp_path: Path) -> None:
    """Checkpoints and looks at the loss included; in a process where nothing else is freed."""
    command = [sys.executable, "-m", "tests.train.long_run", str(tmp_path), str(STEPS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    print(done.stdout)
    seen = {int(step): float(size) for step, size in map(str.split, done.stdout.splitlines())}
    before = min(size for step, size in seen.items() if step <= STEPS // 2)
    assert seen[STEPS] - before < MEGABYTES
