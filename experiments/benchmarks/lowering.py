"""What every training step becomes on 8 devices: lowered for TPU and CUDA, compiled for this CPU.

    python experiments/benchmarks/lowering.py

No accelerator is needed: XLA divides a program in the same way among eight devices of a CPU.
For each model, kind of step, layout and mesh the file has the collectives (how many, and the bytes
that one device gets out of them in a step, those of a loop over micro-batches once) and the bytes
that one device holds: what a step is given (state, batch, a teacher that is run), and what it needs
beside. XLA:CPU keeps more in memory than a TPU or GPU would, so memory is to be compared between
meshes. Writes paper/results/lowering.json.
"""

import dataclasses
import functools
import itertools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

os.environ["JAX_PLATFORMS"] = "cpu"  # before effjax imports JAX
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from cells import MODELS
from compare_torch import ROOT, commit

from effjax.data.encode import Encoded
from effjax.data.layouts import ASSEMBLE, Layout
from effjax.data.masking import Masking
from effjax.distill import (
    GeneratorLM,
    HiddenMSE,
    MaskedLM,
    ReplacedTokens,
    SoftTargets,
    TaskLoss,
    Weighted,
    cache_outputs,
    init_student,
)
from effjax.files import write_json
from effjax.measure import machine
from effjax.models import Model, create
from effjax.models.base import Head, Runtime
from effjax.models.generator import with_generator
from effjax.prune import CoFi, LayerDrop, Movement
from effjax.prune.reparam import Reparam
from effjax.train import Mesh, Training
from effjax.train.mesh import copied, place_parts, place_state, share_of
from effjax.train.step import Configs, Part, TrainState, init_state, optimizer_of, train_step
from effjax.train.teachers import KnownTeacher, taught
from effjax.train.together import make_step_together, stacked
from effjax.types import PyTree

MESHES = {
    "8x1x1": Mesh(data=8),
    "4x2x1": Mesh(data=4, fsdp=2),
    "1x8x1": Mesh(data=1, fsdp=8),
    "2x2x2": Mesh(data=2, fsdp=2, tensor=2),
}
"""data x fsdp x tensor."""

MASK = 103
"""The id of [MASK], which no example holds."""


TASK = Weighted(task=(1.0, TaskLoss()))
WORDS = Weighted(mlm=(1.0, MaskedLM()))
PAIR = Weighted(mlm=(1.0, GeneratorLM()), rtd=(50.0, ReplacedTokens()))
TAUGHT = Weighted(soft=(1.0, SoftTargets(temperature=2.0)), hidden=(1.0, HiddenMSE(layers="last")))


def paired(model: Model) -> Model:
    """ELECTRA's pair, with a generator half as wide."""
    config = model.config
    layers = (dataclasses.replace(x, heads=x.heads // 2, ffn=x.ffn // 2) for x in config.layers)
    small = config.replace(hidden=config.hidden // 2, layers=tuple(layers))
    return with_generator(model, small, mask_id=MASK, key=jax.random.key(1))


def half(model: Model) -> Model:
    """Every second layer."""
    return init_student(model, range(0, model.config.num_layers, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of training step.

    Attributes:
        head: of the model.
        objective: what is minimised.
        made: what is trained, of a model; that itself is its teacher.
        teacher: whether this is run in the step, or its outputs are known.
        masked: whether tokens are hidden, and predicted.
        reparam: what acts before the forward pass.
        micro_batches: that a batch is computed in.
        students: of one program, on one device; None for a training over a mesh.
    """

    head: Head = "sequence-classification"
    objective: Weighted = TASK
    made: Callable[[Model], Model] = lambda model: model
    teacher: Literal["live", "known"] | None = None
    masked: bool = False
    reparam: Reparam | None = None
    micro_batches: int = 1
    students: int | None = None


STEPS = {
    "masked-lm": Kind(head="masked-lm", objective=WORDS, masked=True),
    "sequence-classification": Kind(),
    "token-classification": Kind(head="token-classification"),
    "question-answering": Kind(head="question-answering"),
    "electra": Kind(head="token-classification", objective=PAIR, made=paired, masked=True),
    "live-teacher": Kind(objective=TAUGHT, made=half, teacher="live"),
    "known-teacher": Kind(objective=TAUGHT, made=half, teacher="known"),
    "together": Kind(objective=TAUGHT, made=half, teacher="live", students=4),
    "micro-batches": Kind(micro_batches=4),
    "cofi": Kind(reparam=CoFi(target=0.6)),
    "movement": Kind(reparam=Movement(sparsity=0.9)),
    "layer-drop": Kind(reparam=LayerDrop(rate=0.2)),
}
"""With every head that recipes train."""

COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"[a-z]+(\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to lower; every combination is one entry.

    Attributes:
        models: names from cells.py.
        batch: examples of a step, of `length` tokens each.
    """

    models: tuple[str, ...] = ("bert-base", "distilbert")
    steps: tuple[str, ...] = tuple(STEPS)
    layouts: tuple[Layout, ...] = ("packed", "padded")
    meshes: tuple[str, ...] = tuple(MESHES)
    batch: int = 32
    length: int = 64
    out: Path = ROOT / "paper" / "results" / "lowering.json"


def examples(head: Head, settings: Settings) -> Encoded:
    """Examples with labels of a head."""
    rows, length = settings.batch, settings.length
    ids = np.arange(rows * length, dtype=np.int32) % 100 + 2
    labels = {
        "sequence-classification": np.arange(rows, dtype=np.int32) % 2,
        "question-answering": np.tile(np.array([1, 2], np.int32), (rows, 1)),
    }.get(head, ids % 2)
    offsets = np.arange(rows + 1, dtype=np.int64) * length
    return Encoded(ids, np.zeros_like(ids), offsets, labels, np.arange(rows, dtype=np.int32))


def parts_of(
    kind: Kind, model: Model, layout: Layout, devices: jax.sharding.Mesh, settings: Settings
) -> tuple[Part, ...]:
    """The micro-batches of a step, over the devices, with what is known of the teacher."""
    data, known = examples(kind.head, settings), dict[str, KnownTeacher]()
    if kind.teacher == "known":
        needs = kind.objective.needs(kind.made(model).config, {"teacher": model.config})
        known["teacher"] = cache_outputs(model, data, needs["teacher"])
    masking = Masking(mask_id=MASK, special=(0, 1, MASK), vocab_size=model.config.vocab_size)
    order, counts = np.arange(settings.batch), (kind.micro_batches, settings.batch)
    batches = ASSEMBLE[layout](data, order, *counts, 1, share_of(devices))
    if kind.masked:
        batches = tuple(masking(batch, seed=0, epoch=0) for batch in batches)
    if not model.config.token_types:
        for batch in batches:
            del batch["token_type_ids"]
    return place_parts(taught(batches, known), devices)


def lower(
    kind: Kind, model: Model, layout: Layout, mesh: Mesh, settings: Settings
) -> dict[str, Any]:
    """One training step over a mesh: for accelerators in bfloat16, for the CPU as plain as it goes,
    since no accelerator would run what makes a CPU fast.
    """
    devices = mesh.build(jax.devices()[: 1 if kind.students else None])
    training = Training(batch_size=settings.batch, micro_batches=kind.micro_batches)
    student, parts = kind.made(model), parts_of(kind, model, layout, devices, settings)
    configs = {"teacher": model.config} if kind.teacher else {}
    state = first_state(kind, student, training, configs, devices)

    def traced(runtime: Runtime) -> Any:
        teacher, trained = (x.replace(runtime=runtime) for x in (model, student))
        run = {"teacher": teacher.for_inference()} if kind.teacher == "live" else {}
        live = {name: x.replace(params=described(x.params, devices)) for name, x in run.items()}
        if kind.students:
            together: Any = make_step_together(trained, kind.objective, training)
            return together.trace(state, parts, live, jnp.full(kind.students, 1e-4))
        return program(kind, trained, training, state).trace(jax.tree.leaves(state), parts, live)

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


def first_state(
    kind: Kind, model: Model, training: Training, teachers: Configs, devices: jax.sharding.Mesh
) -> TrainState:
    """The state that a step is given, over a mesh or of all students; without its numbers, which
    would not fit eight times.
    """
    how = {"steps": 10, "teachers": teachers, "reparam": kind.reparam}
    first = functools.partial(init_state, model, kind.objective, training, **how)
    if seeds := range(kind.students or 0):
        return jax.eval_shape(lambda: stacked([first(seed=seed) for seed in seeds]))
    state, optimizer = jax.eval_shape(lambda: first(seed=0)), optimizer_of(model, training)
    return place_state(state, model.table, optimizer, devices, put=shape_of)


def described(tree: PyTree, devices: jax.sharding.Mesh) -> PyTree:
    """Arrays as they lie on every device, without their numbers."""
    return jax.tree.map(lambda x: shape_of(x, copied(devices)), tree)


def shape_of(x: Any, place: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def program(kind: Kind, model: Model, training: Training, state: TrainState) -> Any:
    """The step of one model, whose new state lies where the old one lay."""
    leaves, structure = jax.tree.flatten(state)
    places = jax.tree.map(lambda x: x.sharding, state.trainables["params"])
    shape = (model.architecture, model.config, model.runtime)
    step = train_step(*shape, kind.objective, training, places, reparam=kind.reparam)
    return jax.jit(
        lambda given, parts, live: jax.tree.leaves(
            step(structure.unflatten(given), parts, live)[0]
        ),
        donate_argnums=0,
        out_shardings=[x.sharding for x in leaves],
    )


def collectives(program: str) -> dict[str, dict[str, int]]:
    """How many of each kind, and the bytes that one device gets out of them."""
    found: dict[str, dict[str, int]] = {}
    for shapes, kind in COLLECTIVE.findall(program):
        entry = found.setdefault(kind, {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += sum(map(size, ARRAY.findall(shapes)))
    return found


def size(array: tuple[str, str]) -> int:
    """The bytes of f32[8,128], or of pred[8,128]."""
    bits, shape = array
    return math.prod(int(n) for n in shape.split(",") if n) * max(8, int(bits or 8)) // 8


def entries(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every combination, in turn."""
    for name, step in itertools.product(settings.models, settings.steps):
        (architecture, of_size), kind = MODELS[name], STEPS[step]
        model = create(architecture, size=of_size, head=kind.head, key=jax.random.key(0))
        meshes = {"1x1x1": Mesh()} if kind.students else {x: MESHES[x] for x in settings.meshes}
        for layout, mesh in itertools.product(settings.layouts, meshes):
            found = lower(kind, model, layout, meshes[mesh], settings)
            yield {"model": name, "step": step, "layout": layout, "mesh": mesh, **found}


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    shape = {"examples": settings.batch, "tokens_per_example": settings.length}
    results = {"machine": machine(), "commit": commit(), **shape, "steps": []}
    for entry in entries(settings):
        results["steps"].append(entry)
        write_json(settings.out, results)
        kinds = ", ".join(f"{x['count']} {kind}" for kind, x in entry["collectives"].items())
        where = f"{entry['model']} {entry['step']} {entry['layout']} {entry['mesh']}"
        print(f"{where}: {kinds}; {entry['bytes_of_state'] / 1e6:.1f} MB of state", flush=True)


if __name__ == "__main__":
    main()
