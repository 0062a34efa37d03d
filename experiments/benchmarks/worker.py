"""One backend in a process of its own: reads requests and writes replies, one JSON object per line.

    python worker.py MODULE        # a module here with `CELL`, `describe` and `prepare`

{"do": "describe"}                                what the backend is
{"do": "prepare", "cell": {...}, "config": ...}   builds and warms up; the time of the first call
{"do": "sample", "calls": n}                      n calls: seconds per call, and CPU seconds in all
{"do": "answers", "path": ...}                    one call, whose result is an array, into a .npy
"""

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARMUP = 2


class Backend:
    """The requests, answered; holds one prepared cell at a time."""

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)
        self.call: Callable[[], Any] = lambda: None

    def describe(self) -> dict[str, Any]:
        return self.module.describe()

    def prepare(self, cell: dict[str, Any], config: dict[str, Any] | None) -> dict[str, Any]:
        self.call = lambda: None
        gc.collect()  # the memory of the cell before
        asked = self.module.CELL(**cell)
        self.call, config = self.module.prepare(asked, *([] if config is None else [config]))
        first = self.sample(1)["seconds"]
        self.sample(WARMUP)
        return {"first_call_seconds": first, "config": config}

    def sample(self, calls: int) -> dict[str, float]:
        """Of several calls another one comes first, which does not count: a machine that has
        waited takes longer for it.
        """
        cpu = time.process_time()
        if calls > 1:
            self.call()
        wall = time.perf_counter()
        for _ in range(calls):
            self.call()
        seconds = time.perf_counter() - wall
        return {"seconds": seconds / calls, "cpu_seconds": time.process_time() - cpu}

    def answers(self, path: str) -> dict[str, Any]:
        np.save(path, self.call())
        return {}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like a reply
    backend = Backend(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(backend, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
