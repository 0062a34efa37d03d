"""What it saves to run a teacher once: its outputs in memory and on disk, and a student's steps.

    python experiments/benchmarks/teacher_cache.py

Training phrases of SST-2, a pretrained teacher with a new head, and a student of half its layers
that learns logits and the last hidden states. Timed are running the teacher over all phrases, with
and without writing the outputs to a folder, and reading that folder; and, in turns, the same steps
of the student with the teacher run in every step and with its outputs looked up. Every shape is
compiled before. Writes paper/results/teacher_cache.json.
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from compare_torch import ROOT, commit

from effjax import hf
from effjax.data import encode, get_task, load
from effjax.data.batches import TrainBatches
from effjax.distill import HiddenMSE, SoftTargets, Weighted, cache_outputs, init_student
from effjax.files import write_json
from effjax.measure import machine
from effjax.measure.latency import in_turns, quartiles
from effjax.measure.machine import CpuClock, other_cores
from effjax.models import Runtime
from effjax.train import Training, make_train_step
from effjax.train.step import init_state

OBJECTIVE = Weighted(
    soft=(1.0, SoftTargets(temperature=2.0)), hidden=(1.0, HiddenMSE(layers="last"))
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        teacher: a Hugging Face hub id or folder.
        phrases: how many.
        steps: of the student, in each sample.
        samples: of each side, in turns.
    """

    teacher: str = "sentence-transformers/all-MiniLM-L6-v2"
    phrases: int = 16_000
    batch_size: int = 64
    steps: int = 50
    samples: int = 5
    out: Path = ROOT / "paper" / "results" / "teacher_cache.json"


def seconds(do: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it gives."""
    begun = time.perf_counter()
    result = do()
    return time.perf_counter() - begun, result


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    key = jax.random.key(0)
    head = {"head": "sequence-classification", "labels": ("negative", "positive"), "key": key}
    teacher = hf.from_pretrained(settings.teacher, runtime=Runtime.auto(), **head)
    some = load(get_task("glue/sst2"), "train").take(range(settings.phrases))
    encoded = encode(hf.load_tokenizer(settings.teacher), some, 128)
    student = init_student(teacher, layers=range(0, teacher.config.num_layers, 2))
    configs = {"teacher": teacher.config}
    needs = OBJECTIVE.needs(student.config, configs)["teacher"]
    cache_outputs(teacher, encoded, needs)  # compiles
    before, times = CpuClock.now(), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "outputs"
        run = functools.partial(cache_outputs, teacher, encoded, needs)
        times["run"], _ = seconds(run)
        times["run_and_write"], _ = seconds(lambda: run(folder=folder))
        times["read"], cached = seconds(lambda: run(folder=folder))
        size = sum(file.stat().st_size for file in folder.iterdir())

    training = Training(batch_size=settings.batch_size)
    batches = TrainBatches(
        encoded=encoded, batch_size=settings.batch_size, seed=0, pad_id=teacher.config.pad_token_id
    )
    step = make_train_step(student, OBJECTIVE, training)
    live = {"teacher": teacher.for_inference()}

    def steps(looked_up: bool) -> None:
        state = init_state(student, OBJECTIVE, training, steps=1000, seed=0, teachers=configs)
        for i in range(settings.steps):
            (part,) = batches[i]
            if looked_up:
                state, metrics = step(state, ((part, {"teacher": cached(part)}),))
            else:
                state, metrics = step(state, ((part, {}),), live)
        jax.block_until_ready((state, metrics))

    calls = {"live": lambda: steps(False), "looked_up": lambda: steps(True)}
    for call in calls.values():
        call()  # compiles
    found = in_turns(calls, settings.samples)
    ratios = np.divide(found["live"], found["looked_up"])
    results = {
        "machine": machine(),
        "commit": commit(),
        "settings": {name: str(x) for name, x in vars(settings).items() if name != "out"},
        "tokens": int(encoded.offsets[-1]),
        "bytes_on_disk": size,
        "seconds": times,
        "seconds_of_steps": found,
        "live_over_looked_up": {"median": float(np.median(ratios)), "quartiles": quartiles(ratios)},
        "other_cores": other_cores(before, CpuClock.now()),
    }
    write_json(settings.out, results)
    shown = ", ".join(f"{name} {x:.1f} s" for name, x in times.items())
    median = {name: float(np.median(x)) for name, x in found.items()}
    print(f"{shown}, {size / 1e6:.0f} MB; {settings.steps} steps: {median}")


if __name__ == "__main__":
    main()
