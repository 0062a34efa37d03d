"""How a process keeps its memory: glibc's allocator and Python's collector, set for JAX.

XLA:CPU takes and gives back large arrays in every step. Left alone, glibc returns them to Linux,
and each step waits for the same pages again. Its settings are read when a process begins, and not
later.

A heap that is never given back has holes: where something small that stays comes to lie in the
place of a large array, the next large one is put at the end. Hence `give_back`, now and then.
"""

import ctypes
import gc
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
VALUE = ":".join(f"glibc.malloc.{name}={x}" for name, x in SETTINGS.items())
ACCELERATORS = tuple(map(Path, ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0", "/dev/kfd")))


def keep_memory() -> None:
    """Begins this process anew, with memory in huge pages that it keeps until it ends.

    Does nothing where the user has set `GLIBC_TUNABLES` ("" declines), where there is no Linux, or
    where there is an accelerator, beside which threads had better each have a heap.
    """
    if VARIABLE in os.environ or sys.platform != "linux" or any(x.exists() for x in ACCELERATORS):
        return
    os.environ[VARIABLE] = VALUE
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


NEW_OBJECTS = 200_000
"""After which Python looks for cycles that nothing refers to; left alone, 3.11 does after 700."""


def collect_rarely() -> None:
    """Has Python look less often for cycles that nothing refers to. Imports and the tracing of a
    step make some hundred thousand objects, all of which stay and would be looked at again and
    again.
    """
    gc.set_threshold(NEW_OBJECTS)


def give_back() -> None:
    """Gives the memory that is in no use back to Linux, where `keep_memory` has it kept; the next
    step waits for its pages.
    """
    if os.environ.get(VARIABLE) == VALUE:
        ctypes.CDLL(None).malloc_trim(0)
