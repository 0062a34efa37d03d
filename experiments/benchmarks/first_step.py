"""From the start of a process to the end of its first training step, with a warm compilation cache.

    python experiments/benchmarks/first_step.py

A checkpoint with random weights is saved first; then processes are begun one after the other, each
of which loads it and does one step, with its memory kept as the command `effjax` keeps it. The
first one fills the cache and is reported apart; the others compile nothing, or the script stops.
Writes paper/results/first_step.json.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BAR = 4.0
"""Seconds, for BERT-base on two cores."""
MISS = "/jax/compilation_cache/cache_misses"
"""JAX's name of what happens when a program is not found in its cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        model: a name from cells.py.
        shape: BATCHxLENGTH, full rows.
        processes: that find the cache warm.
        out: the result file.
    """

    model: str = "bert-base"
    shape: str = "1x128"
    processes: int = 15
    out: Path = ROOT / "paper" / "results" / "first_step.json"


def child(folder: Path, batch: int, length: int) -> None:
    """One step; prints when each part of the way was done."""
    from effjax import cache, process

    process.keep_memory()
    process.collect_rarely()
    process.wide_vectors()
    cache.enable()
    import jax
    import numpy as np

    from effjax import hf
    from effjax.distill import TaskLoss, Weighted
    from effjax.measure.batch import full_batch
    from effjax.train import Training, make_train_step
    from effjax.train.step import init_state

    compiled: list[str] = []
    jax.monitoring.register_event_listener(
        lambda event, **_: compiled.append(event) if event == MISS else None
    )
    done = {"imported": time.time()}
    model = hf.from_pretrained(folder)
    done["loaded"] = time.time()
    full = full_batch(model.config, batch=batch, length=length)
    full |= {"labels": np.zeros(batch, np.int32)}
    training, objective = Training(batch_size=batch), Weighted(task=(1.0, TaskLoss()))
    state = init_state(model, objective, training, steps=10, seed=0, teachers={})
    done["prepared"] = time.time()
    _, metrics = make_train_step(model, objective, training)(state, ((full, {}),))
    float(metrics["loss"])
    done["stepped"] = time.time()
    allocator = os.environ.get(process.VARIABLE, "")
    print(json.dumps({"done": done, "compiled": len(compiled), "allocator": allocator}))


def measure(folder: Path, shape: list[str], cache: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds from the start of a process to the end of each part of its way; how many programs it
    has compiled, and the settings of its allocator.
    """
    environment = os.environ | {"EFFJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # another cache would be the one in use
    begun = time.time()
    command = [sys.executable, __file__, "child", str(folder), *shape]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    return {name: at - begun for name, at in found.pop("done").items()}, found


def main() -> None:
    import jax
    import numpy as np
    import tyro
    from cells import MODELS
    from compare_torch import commit

    from effjax import hf
    from effjax.files import write_json
    from effjax.measure import machine
    from effjax.models import create

    settings = tyro.cli(Settings, description=__doc__)
    architecture, size = MODELS[settings.model]
    with tempfile.TemporaryDirectory() as folder:
        model = create(
            architecture, size=size, head="sequence-classification", key=jax.random.key(0)
        )
        hf.save_pretrained(model, Path(folder) / "model")
        places = Path(folder) / "model", settings.shape.split("x"), Path(folder) / "cache"
        cold, filled = measure(*places)
        rest = [measure(*places) for _ in range(settings.processes)]
    if any(again := [found["compiled"] for _, found in rest]):
        raise ValueError(f"with a warm cache processes compiled {again} programs")
    warm = [seconds for seconds, _ in rest]
    median = float(np.median([seconds["stepped"] for seconds in warm]))
    results: dict[str, Any] = {
        "machine": machine(),
        "commit": commit(),
        "model": settings.model,
        "shape": settings.shape,
        "cold": cold,
        **filled,
        "warm": warm,
        "median": median,
        "bar": BAR,
    }
    write_json(settings.out, results)
    parts = {name: float(np.median([seconds[name] for seconds in warm])) for name in cold}
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
