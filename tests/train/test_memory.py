"""Memory over a long training."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 5000
HALVES = STEPS // 2, STEPS
MEGABYTES = 1
"""What the second half may add: 400 bytes a step; the history of losses and what orbax keeps of its
saves take half of that.
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory in use is asked of glibc")
def test_memory_does_not_grow_over_5000_steps(tmp_path: Path) -> None:
    """Checkpoints and looks at the loss included; the least of a thousand steps, since a
    checkpoint being written holds a copy."""
    command = [sys.executable, "-m", "tests.train.long_run", str(tmp_path), str(STEPS)]
    counted = os.environ | {"PYTHONMALLOC": "malloc"}  # Python's own arenas would not be
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env=counted
    )
    print(done.stdout)
    seen = {int(step): float(size) for step, size in map(str.split, done.stdout.splitlines())}
    half, end = (min(seen[step] for step in seen if last - 1000 < step <= last) for last in HALVES)
    assert end - half < MEGABYTES
