"""Huge pages: fewer, larger pieces of memory, which a CPU finds faster.

XLA:CPU takes and gives back large arrays in every step. glibc can ask Linux for huge pages behind
them, but reads that wish only when a process begins.
"""

import os
import sys
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
    """Begins this process anew with huge pages, where Linux leaves it to programs to ask for them.

    Does nothing where it does not, or where the user has set `GLIBC_TUNABLES`; "" declines.
    """
    if VARIABLE in os.environ or not ENABLED.exists() or "[madvise]" not in ENABLED.read_text():
        return
    os.environ[VARIABLE] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
