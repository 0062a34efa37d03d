"""What a process sets for JAX on a CPU: glibc's allocator, Python's collector and XLA's vectors.

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


def beside_an_accelerator() -> bool:
    """Whether this machine has one."""
    return any(x.exists() for x in ACCELERATORS)


def keep_memory() -> None:
    """Begins this process anew, with memory in huge pages that it keeps until it ends.

    Does nothing where the user has set `GLIBC_TUNABLES` ("" declines), where there is no Linux, or
    where there is an accelerator, beside which threads had better each have a heap.
    """
    if VARIABLE in os.environ or sys.platform != "linux" or beside_an_accelerator():
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


WIDTH = "--xla_cpu_prefer_vector_width"
KNOWN_TO = "0.10."
"""Releases of jaxlib of which one (0.10.2) was seen to know it; XLA ends a process over a flag that
it does not know."""


def wide_vectors() -> None:
    """Has XLA compute in vectors of 512 bits, where the processor has them. Left alone it takes 256
    bits, since the first processors that had more ran slower with them.

    Takes effect before JAX has a device. Does nothing where `XLA_FLAGS` has a width already, with a
    release of jaxlib that may not know the flag, or where there is an accelerator.
    """
    from jaxlib import version  # which imports nothing else

    flags = os.environ.get("XLA_FLAGS", "")
    known = version.__version__.startswith(KNOWN_TO)
    if WIDTH in flags or not known or beside_an_accelerator():
        return
    os.environ["XLA_FLAGS"] = f"{flags} {WIDTH}=512".strip()


def give_back() -> None:
    """Gives the memory that is in no use back to Linux, where `keep_memory` has it kept; the next
    step waits for its pages.
    """
    if os.environ.get(VARIABLE) == VALUE:
        ctypes.CDLL(None).malloc_trim(0)
