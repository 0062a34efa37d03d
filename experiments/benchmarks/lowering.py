"""What every training step becomes on 8 devices: lowered for TPU and CUDA, compiled for this CPU.

    python experiments/benchmarks/lowering.py

No accelerator is needed: XLA divides a program in the same way among eight devices of a CPU.
For each model, head, layout and mesh the file has the collectives (how many, and the bytes that one
device gets out of them in a step) and the bytes that one device holds. XLA:CPU keeps more in memory
than a TPU or GPU would, so memory is to be compared between meshes. Writes
paper/results/lowering.json.
"""

import dataclasses
import itertools
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before effjax imports JAX
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import numpy as np
import tyro
from cells import MODELS
from compare_torch import ROOT, commit

from effjax.data.encode import Encoded
from effjax.data.layouts import ASSEMBLE, Layout
from effjax.distill import MaskedLM, TaskLoss, Weighted
from effjax.files import write_json
from effjax.measure import machine
from effjax.models import Model, create
from effjax.models.base import Head, Runtime
from effjax.train import Mesh, Training
from effjax.train.mesh import place_parts, place_state, share_of
from effjax.train.step import init_state, optimizer_of, train_step

MESHES = {
    "8x1x1": Mesh(data=8),
    "4x2x1": Mesh(data=4, fsdp=2),
    "1x8x1": Mesh(data=1, fsdp=8),
    "2x2x2": Mesh(data=2, fsdp=2, tensor=2),
}
"""data x fsdp x tensor."""

HEADS: tuple[Head, ...] = (
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
)
"""Those that recipes train."""

COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"([a-z]+)(\d+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to lower; every combination is one entry.

    Attributes:
        models: names from cells.py.
        batch: examples of a step, of `length` tokens each.
    """

    models: tuple[str, ...] = ("bert-base", "distilbert")
    heads: tuple[Head, ...] = HEADS
    layouts: tuple[Layout, ...] = ("packed", "padded")
    meshes: tuple[str, ...] = tuple(MESHES)
    batch: int = 32
    length: int = 64
    out: Path = ROOT / "paper" / "results" / "lowering.json"


def examples(model: Model, settings: Settings) -> Encoded:
    """Examples whose labels are those of the model's head."""
    rows, length = settings.batch, settings.length
    ids = np.arange(rows * length, dtype=np.int32) % 100 + 2
    labels = {
        "sequence-classification": np.arange(rows, dtype=np.int32) % 2,
        "question-answering": np.tile(np.array([1, 2], np.int32), (rows, 1)),
    }.get(model.config.head or "", ids % 2)
    offsets = np.arange(rows + 1, dtype=np.int64) * length
    return Encoded(ids, np.zeros_like(ids), offsets, labels, np.arange(rows, dtype=np.int32))


def lower(model: Model, layout: Layout, mesh: Mesh, settings: Settings) -> dict[str, Any]:
    """One training step over a mesh: for accelerators in bfloat16, for the CPU as plain as it goes,
    since no accelerator would run what makes a CPU fast.
    """
    devices, training = mesh.build(), Training(batch_size=settings.batch)
    objective = Weighted(loss=(1.0, MaskedLM() if model.config.head == "masked-lm" else TaskLoss()))
    state = init_state(model, objective, training, steps=10, seed=0, teachers={})
    state = place_state(state, model.table, optimizer_of(model, training), devices)
    order, counts = np.arange(settings.batch), (1, settings.batch)
    share = share_of(devices)
    (batch,) = ASSEMBLE[layout](examples(model, settings), order, *counts, 1, share)
    if not model.config.token_types:
        del batch["token_type_ids"]
    parts = place_parts([(batch, {})], devices)
    places = jax.tree.map(lambda x: x.sharding, state.trainables["params"])
    leaves, structure = jax.tree.flatten(state)

    def traced(runtime: Runtime) -> Any:
        shape = (model.architecture, model.config, runtime)
        step = train_step(*shape, objective, training, places)
        program = jax.jit(
            lambda given, parts: jax.tree.leaves(step(structure.unflatten(given), parts)[0]),
            donate_argnums=0,
            out_shardings=[x.sharding for x in leaves],
        )
        return program.trace(leaves, parts)

    fast = traced(Runtime(dtype="bfloat16"))
    fast.lower(lowering_platforms=("tpu",))
    fast.lower(lowering_platforms=("cuda",))
    begun = time.perf_counter()
    compiled = traced(Runtime.plain()).lower().compile()
    memory, program_text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and program_text is not None  # every CPU backend has both
    return {
        "lowered_for": ["tpu", "cuda", "cpu"],
        "collectives": collectives(program_text),
        "bytes_of_state": memory.argument_size_in_bytes,
        "bytes_of_step": memory.temp_size_in_bytes,
        "compile_seconds": round(time.perf_counter() - begun, 1),
    }


def collectives(program: str) -> dict[str, dict[str, int]]:
    """How many of each kind, and the bytes that one device gets out of them."""
    found: dict[str, dict[str, int]] = {}
    for shapes, kind in COLLECTIVE.findall(program):
        entry = found.setdefault(kind, {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += sum(map(size, ARRAY.findall(shapes)))
    return found


def size(array: tuple[str, str, str]) -> int:
    """The bytes of f32[8,128]."""
    _, bits, shape = array
    return math.prod(int(n) for n in shape.split(",") if n) * max(8, int(bits)) // 8


def entries(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every combination, in turn."""
    for name, head in itertools.product(settings.models, settings.heads):
        architecture, of_size = MODELS[name]
        model = create(architecture, size=of_size, head=head, key=jax.random.key(0))
        for layout, mesh in itertools.product(settings.layouts, settings.meshes):
            found = lower(model, layout, MESHES[mesh], settings)
            yield {"model": name, "head": head, "layout": layout, "mesh": mesh, **found}


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    shape = {"examples": settings.batch, "tokens_per_example": settings.length}
    results = {"machine": machine(), "commit": commit(), **shape, "steps": []}
    for entry in entries(settings):
        results["steps"].append(entry)
        write_json(settings.out, results)
        kinds = ", ".join(f"{x['count']} {kind}" for kind, x in entry["collectives"].items())
        where = f"{entry['model']} {entry['head']} {entry['layout']} {entry['mesh']}"
        print(f"{where}: {kinds}; {entry['bytes_of_state'] / 1e6:.1f} MB of state", flush=True)


if __name__ == "__main__":
    main()
