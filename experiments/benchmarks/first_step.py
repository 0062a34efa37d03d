"""From the start of a process to the end of its first training step, with a warm compilation cache.

    python experiments/benchmarks/first_step.py

A checkpoint with random weights is saved first; then processes are begun one after the other, each
of which loads it and does one step. The first one fills the cache and is reported apart. Writes
paper/results/first_step.json.
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

import tyro

ROOT = Path(__file__).resolve().parents[2]
BAR = 4.0
"""Seconds, for BERT-base on two cores."""


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
    processes: int = 5
    out: Path = ROOT / "paper" / "results" / "first_step.json"


def child(folder: Path, batch: int, length: int) -> None:
    """One step; prints when each part of the way was done."""
    from effjax import cache

    cache.enable()
    import numpy as np

    from effjax import hf
    from effjax.distill import TaskLoss, Weighted
    from effjax.measure.batch import full_batch
    from effjax.train import Training, make_train_step
    from effjax.train.step import init_state

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
    print(json.dumps({**done, "stepped": time.time()}))


def measure(folder: Path, shape: list[str], cache: Path) -> dict[str, float]:
    """Seconds from the start of a process to the end of each part of its way."""
    environment = os.environ | {"EFFJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    begun = time.time()
    command = [sys.executable, __file__, "child", str(folder), *shape]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name: at - begun for name, at in json.loads(run.stdout.splitlines()[-1]).items()}


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    import jax
    import numpy as np
    from cells import MODELS
    from compare_torch import commit

    from effjax import hf
    from effjax.files import write_json
    from effjax.measure import machine
    from effjax.models import create

    architecture, size = MODELS[settings.model]
    with tempfile.TemporaryDirectory() as folder:
        model = create(
            architecture, size=size, head="sequence-classification", key=jax.random.key(0)
        )
        hf.save_pretrained(model, Path(folder) / "model")
        places = Path(folder) / "model", settings.shape.split("x"), Path(folder) / "cache"
        cold, *warm = [measure(*places) for _ in range(1 + settings.processes)]
    median = float(np.median([seconds["stepped"] for seconds in warm]))
    results: dict[str, Any] = {
        "machine": machine(),
        "commit": commit(),
        "model": settings.model,
        "shape": settings.shape,
        "cold": cold,
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
