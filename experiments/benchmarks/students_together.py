"""Several students in one program against one after the other: the time of the same steps.

    python experiments/benchmarks/students_together.py

Training phrases of SST-2; a pretrained teacher with a new head, which runs in every step; students
that learn its logits, half of its layers or a new BERT of width 128 with 2 layers. Timed are, in
turns, so many steps of each student alone and of all together (`effjax.train.fit_together`), on the
same batches; every shape is compiled before. Writes paper/results/students_together.json.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from compare_torch import ROOT, commit

from effjax import hf
from effjax.data import encode, get_task, load
from effjax.data.batches import TrainBatches
from effjax.distill import SoftTargets, TaskLoss, Weighted, init_student
from effjax.files import write_json
from effjax.measure import machine
from effjax.measure.latency import in_turns, quartiles
from effjax.measure.machine import CpuClock, other_cores
from effjax.models import Model, Runtime, create
from effjax.train import Training, make_train_step
from effjax.train.step import init_state
from effjax.train.together import make_step_together, stacked

OBJECTIVE = Weighted(task=(0.5, TaskLoss()), soft=(0.5, SoftTargets(temperature=2.0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        teacher: a Hugging Face hub id or folder.
        students: how many.
        steps: of each student, in each sample.
        samples: of each side, in turns.
    """

    teacher: str = "sentence-transformers/all-MiniLM-L6-v2"
    students: int = 4
    batch_size: int = 32
    steps: int = 10
    samples: int = 5
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    out: Path = ROOT / "paper" / "results" / "students_together.json"


def compared(
    teacher: Model, student: Model, batches: TrainBatches, settings: Settings
) -> dict[str, Any]:
    """Seconds of the steps of all students, alone and together."""
    training, live = Training(dtype=settings.dtype), {"teacher": teacher.for_inference()}
    alone = make_train_step(student, OBJECTIVE, training)
    together = make_step_together(student, OBJECTIVE, training)
    parts = [tuple((part, {}) for part in batches[i]) for i in range(settings.steps)]
    rates = jnp.full(settings.students, 1e-4)

    def states() -> list:
        configs = {"teacher": teacher.config}
        given = {"steps": 1000, "teachers": configs}
        every = range(settings.students)
        return [init_state(student, OBJECTIVE, training, seed=i, **given) for i in every]

    def one_by_one() -> None:
        for state in states():
            for part in parts:
                state, metrics = alone(state, part, live)
            jax.block_until_ready((state, metrics))

    def at_once() -> None:
        state = stacked(states())
        for part in parts:
            state, *metrics = together(state, part, live, rates)
        jax.block_until_ready((state, metrics))

    calls = {"one_by_one": one_by_one, "together": at_once}
    for call in calls.values():
        call()  # compiles
    found = in_turns(calls, settings.samples)
    ratios = np.divide(found["one_by_one"], found["together"])
    times = {"median": float(np.median(ratios)), "quartiles": quartiles(ratios)}
    return {"params": student.num_params, "seconds": found, "one_by_one_over_together": times}


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    key, runtime = jax.random.key(0), Runtime.auto(settings.dtype)
    head = {"head": "sequence-classification", "key": key, "runtime": runtime}
    teacher = hf.from_pretrained(settings.teacher, labels=("negative", "positive"), **head)
    some = load(get_task("glue/sst2"), "train").take(range(settings.batch_size * settings.steps))
    encoded = encode(hf.load_tokenizer(settings.teacher), some, 128)
    batches = TrainBatches(
        encoded=encoded, batch_size=settings.batch_size, seed=0, pad_id=teacher.config.pad_token_id
    )
    students = {
        "half of the layers": init_student(teacher, range(0, teacher.config.num_layers, 2)),
        "2 layers of 128": create(
            "bert",
            size="tiny",
            head="sequence-classification",
            key=key,
            runtime=runtime,
            vocab_size=teacher.config.vocab_size,
        ),
    }
    before = CpuClock.now()
    cells = {name: compared(teacher, x, batches, settings) for name, x in students.items()}
    results = {
        "machine": machine(),
        "commit": commit(),
        "settings": {name: str(x) for name, x in vars(settings).items() if name != "out"},
        "cells": cells,
        "other_cores": other_cores(before, CpuClock.now()),
    }
    write_json(settings.out, results)
    for name, cell in cells.items():
        print(f"{name}: one by one over together {cell['one_by_one_over_together']['median']:.2f}")


if __name__ == "__main__":
    main()
