"""glibc's allocator, set for XLA:CPU, which takes and gives back large arrays in every step.

Left alone, glibc returns them to Linux, and each step waits for the same pages again. The settings
are read when a process begins, and not later.
"""

import os
import sys
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
SETTINGS = {
    "arena_max": 1,  # one heap for all threads,
    "mmap_max": 0,  # with the large arrays in it,
    "trim_threshold": 2**40,  # which is never given back,
    "hugetlb": 1,  # in huge pages
}
ACCELERATORS = tuple(map(Path, ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0", "/dev/kfd")))


def keep_memory() -> None:
    """Begins this process anew, with memory in huge pages that it keeps until it ends.

    Does nothing where the user has set `GLIBC_TUNABLES` ("" declines), where there is no Linux, or
    where there is an accelerator, beside which threads had better each have a heap.
    """
    if VARIABLE in os.environ or sys.platform != "linux" or any(x.exists() for x in ACCELERATORS):
        return
    os.environ[VARIABLE] = ":".join(f"glibc.malloc.{name}={x}" for name, x in SETTINGS.items())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
