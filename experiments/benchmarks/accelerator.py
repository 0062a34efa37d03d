"""effjax on one accelerator, in bfloat16, in one call: speed, fused attention, packing, input.

    python experiments/benchmarks/accelerator.py > result.json

* `cells`: tokens per second of full rows, plain and with fused attention, against the bars set for
  an H200. Training is without dropout of attention weights, which no fused kernel has.
* `input`: a training on short examples, packed and padded, with either attention: real tokens per
  second, and how much longer it takes than with all batches made beforehand, which should be 3 % at
  most.

Not yet run on an accelerator. On a CPU it can be tried out with `--models bert-tiny --lengths 32
--tokens 128 --samples 2 --examples 64`.
"""

import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax_backend
import numpy as np
import tyro
from cells import Cell, Mode

from effjax.data import Encoded, TrainBatches
from effjax.data.layouts import Layout
from effjax.distill import TaskLoss, Weighted
from effjax.measure.batch import full_batch
from effjax.models import Model
from effjax.models.base import Runtime
from effjax.train import Training
from effjax.train.step import init_state, make_train_step

Attention = Literal["late-division", "fused"]

BARS: dict[tuple[str, Mode, int], float] = {
    ("bert-base", "training", 128): 0.68e6,
    ("distilbert", "training", 128): 1.35e6,
    ("minilm-l6-h384", "training", 128): 4.1e6,
    ("bert-base", "inference", 128): 2.3e6,
    ("distilbert", "inference", 128): 4.5e6,
}
"""Tokens per second that one H200 should reach; a cell without a bar is reported all the same."""

INPUT_BAR = 1.03
SAMPLE_SECONDS = 0.5
TOLERANCE = 0.05
"""Between the two forms of attention, relative to the largest output, in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        models: names from cells.py.
        lengths: tokens per row.
        tokens: tokens per call; the batch is this divided by the length.
        samples: samples per cell, each of half a second or one call.
        examples: of the training on short examples, a hundred batches or fewer.
    """

    models: tuple[str, ...] = ("bert-base", "distilbert", "minilm-l6-h384")
    lengths: tuple[int, ...] = (128, 512)
    tokens: int = 65536
    samples: int = 10
    examples: int = 100_000


def timed(call: jax_backend.Call, calls: int = 1) -> float:
    """Seconds per call."""
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls


def build(cell: Cell, attention: Attention) -> Model:
    """The cell's model; no attention weights are dropped out."""
    runtime = dataclasses.replace(Runtime.auto(cell.dtype), attention=attention)
    model = jax_backend.build(cell, runtime)
    return model.replace(config=model.config.replace(attention_dropout=0.0))


def measure(cell: Cell, attention: Attention, samples: int) -> dict[str, Any]:
    """Tokens per second, median and quartiles, and the bar where there is one."""
    call = jax_backend.call_of(cell, build(cell, attention))
    first = timed(call)
    calls = max(1, math.ceil(SAMPLE_SECONDS / timed(call, 2)))
    seconds = [timed(call, calls) for _ in range(samples)]
    rates = cell.batch * cell.length / np.quantile(seconds, (0.75, 0.5, 0.25))
    bar = BARS.get((cell.model, cell.mode, cell.length))
    return {
        **vars(cell),
        "attention": attention,
        "tokens_per_second": float(rates[1]),
        "quartiles": [float(rates[0]), float(rates[2])],
        "first_call_seconds": first,
        "bar": bar,
        "reached": None if bar is None else bool(rates[1] >= bar),
    }


def check_agreement(cell: Cell) -> float:
    """The largest difference that the form of attention makes, relative to the largest output.

    Raises:
        RuntimeError: it is more than rounding.
    """
    model = build(cell, "late-division")
    batch = full_batch(model.config, batch=2, length=cell.length)
    batch["attention_mask"][1, cell.length // 2 :] = 0
    plain, fused = (
        np.asarray(build(cell, form)(batch).last_hidden, np.float32)[batch["attention_mask"] == 1]
        for form in ("late-division", "fused")
    )
    difference = float(np.abs(plain - fused).max() / np.abs(plain).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"{cell}: fused attention differs by {difference:.3g}")
    return difference


def short_examples(count: int) -> Encoded:
    """Examples of 3 to 60 tokens, the short ones more frequent, with labels."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(3 + rng.exponential(12, count).astype(np.int64), 60)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(1000, 2000, offsets[-1], dtype=np.int32)
    index = np.arange(count, dtype=np.int32)
    return Encoded(ids, np.zeros_like(ids), offsets, index % 2, index)


def measure_input(
    cell: Cell, layout: Layout, attention: Attention, settings: Settings
) -> dict[str, Any]:
    """A pass over short examples as they come, against one with all batches on the device."""
    model, encoded = build(cell, attention), short_examples(settings.examples)
    size = max(1, int(settings.tokens // encoded.lengths.mean()))
    training = Training(batch_size=size, layout=layout)
    batches = TrainBatches(encoded=encoded, batch_size=size, seed=0, pad_id=0, layout=layout)
    objective = Weighted(task=(1.0, TaskLoss()))
    step = make_train_step(model, objective, training)
    state = init_state(model, objective, training, steps=10_000, seed=1, teachers={})

    def go(parts: Iterable[Any]) -> None:
        nonlocal state
        for (batch,) in parts:
            state, _ = step(state, ((batch, {}),))
        jax.block_until_ready(state)

    made = [jax.device_put(batches[i]) for i in range(batches.per_epoch)]
    go(made)  # compiles
    real, ready = [], []
    for _ in range(settings.samples):
        real.append(timed(lambda: go(batches.between(0, batches.per_epoch))))
        ready.append(timed(lambda: go(made)))
    ratio = float(np.median(real) / np.median(ready))
    return {
        "model": cell.model,
        "layout": layout,
        "attention": attention,
        "batches": batches.per_epoch,
        "shapes": len({batch["input_ids"].shape for (batch,) in made}),
        "tokens_per_second": float(len(encoded.input_ids) / np.median(real)),
        "seconds": real,
        "seconds_with_batches_made": ready,
        "ratio": ratio,
        "bar": INPUT_BAR,
        "reached": ratio <= INPUT_BAR,
    }


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    modes: tuple[Mode, ...] = ("inference", "training")
    forms: tuple[Attention, ...] = ("late-division", "fused")
    layouts: tuple[Layout, ...] = ("packed", "padded")
    cells, inputs, agreement = [], [], {}
    for model, length in itertools.product(settings.models, settings.lengths):
        batch = max(1, settings.tokens // length)
        shape = {"model": model, "dtype": "bfloat16", "batch": batch, "length": length}
        agreement[f"{model} {length}"] = check_agreement(Cell(mode="inference", **shape))
        for mode, form in itertools.product(modes, forms):
            cells.append(measure(Cell(mode=mode, **shape), form, settings.samples))
            rate = cells[-1]["tokens_per_second"]
            print(f"{model} {mode} {length} {form}: {rate:,.0f} tokens/s", file=sys.stderr)
    for model, layout, form in itertools.product(settings.models, layouts, forms):
        cell = Cell(model=model, mode="training", dtype="bfloat16", batch=1, length=64)
        inputs.append(measure_input(cell, layout, form, settings))
        rate, ratio = inputs[-1]["tokens_per_second"], inputs[-1]["ratio"]
        print(f"{model} {layout} {form}: {rate:,.0f} tokens/s, {ratio:.3f}", file=sys.stderr)
    found = {"cells": cells, "input": inputs, "difference_of_fused_attention": agreement}
    print(json.dumps({"machine": jax_backend.describe(), **found}, indent=1))


if __name__ == "__main__":
    main()
