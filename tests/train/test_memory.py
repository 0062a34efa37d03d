"""Memory over a long training."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.long_run import SAVE_EVERY

ROOT = Path(__file__).parents[2]
STEPS = 5000
MEGABYTES = 1
"""What the second half may add: 400 bytes a step; the history of losses and what orbax keeps of
its saves take half of that.
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory in use is asked of glibc")
def test_memory_does_not_grow_over_5000_steps(tmp_path: Path) -> None:
    """Checkpoints and looks at the loss included. Of each stretch between two checkpoints,
    the least, since one being written holds a copy; of what the stretches add the median, since
    tensorstore keeps some of its compressors, of 3.5 MB each, and which of its threads need one
    more differs from save to save.
    """
    command = [sys.executable, "-m", "tests.train.long_run", str(tmp_path), str(STEPS)]
    counted = os.environ | {"PYTHONMALLOC": "malloc"}  # Python's own arenas would not be
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env=counted
    )
    print(done.stdout)
    seen = {int(step): float(size) for step, size in map(str.split, done.stdout.splitlines())}
    stretches = [
        min(seen[step] for step in seen if last - SAVE_EVERY < step <= last)
        for last in range(STEPS // 2, STEPS + 1, SAVE_EVERY)
    ]
    added = np.diff(stretches)
    assert np.median(added) * len(added) < MEGABYTES
