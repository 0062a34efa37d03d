"""Smaller models made and trained by the ways of a recipe; what each leaves is in its folder.

Of a way and a speed-up, `runs/WAY/2x/pruned-0` has the model as it was pruned with seed 0, and
`runs/WAY/2x/seed-1` that model after its recovery with seed 1.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from effjax import measure
from effjax.data.encode import Encoded
from effjax.distill import CachedOutputs, Weighted, cache_outputs
from effjax.files import write_json
from effjax.hf.compact import sizes, with_sizes
from effjax.hf.write import Layout
from effjax.models.base import Outputs, Runtime
from effjax.models.costs import Costs
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.models.model import Model
from effjax.prune import Reparam
from effjax.recipe.arms import Run, kept_alone, read_run, save, write_run
from effjax.recipe.prepare import Data
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import commit
from effjax.recipe.spec import CONTROL
from effjax.recipe.ways import Given, Pruned, Way
from effjax.train import Training, evaluate, fit
from effjax.train.checkpoint import forget_checkpoints
from effjax.train.curves import draw_curves
from effjax.train.loop import Fit, FitOptions
from effjax.train.mesh import gathered
from effjax.train.processes import by_first, exists
from effjax.tree import unflatten
from effjax.types import Array, Batch


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How every smaller model is trained.

    Attributes:
        training: for how long, and how; a way that trained already has what is left of it.
        objective: what is minimised; the model before pruning is its teacher.
    """

    training: Training
    objective: Weighted


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """What is left of a model.

    Attributes:
        kept: heads and units of every layer.
        fields: of a config.json, layers being of one size in it.
        params: all parameters.
        flops: of the matrix products, at the recipe's shape.
        cost: what the costs say of it, in their unit.
    """

    kept: Mapping[str, int]
    fields: Mapping[str, Any]
    params: int
    flops: int
    cost: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Made:
    """One smaller model.

    Attributes:
        way: by name.
        speedup: that was asked for.
        before: its scores as it was pruned.
        after: those of its recoveries, one for each seed.
    """

    way: str
    speedup: float
    structure: Structure
    before: Run
    after: tuple[Run, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """What all ways share.

    Attributes:
        data: the task, tokenised.
        name: of the model, as objectives call their teacher.
        model: the fine-tuned model.
        calibration: what ways may look at.
        costs: of every head and unit.
        shape: (batch, length) of what is counted and measured.
        speedups: those asked for.
        seeds: of the recipe; smaller models of the first one are saved.
        multiples: as of `effjax.prune.select`.
        recovery: how smaller models are trained; None for not at all.
        how: mesh and what else every training is called with.
        layout: of the folders of smaller models.
        out: the experiment's folder.
    """

    data: Data
    name: str
    model: Model
    calibration: Encoded
    costs: Costs
    shape: tuple[int, int]
    speedups: tuple[float, ...]
    seeds: tuple[int, ...]
    multiples: Mapping[str, int]
    recovery: Recovery | None
    how: FitOptions
    layout: Layout
    out: Path
    bars: Bars

    @functools.cached_property
    def teachers(self) -> dict[str, CachedOutputs]:
        """What the objective reads of the fine-tuned model, which is run once."""
        assert self.recovery is not None
        needs = self.recovery.objective.needs(self.model.config, {self.name: self.model.config})
        progress = self.bars.counting(f"{self.name}'s outputs")
        data = self.data.transfer
        return {x: cache_outputs(self.model, data, y, progress=progress) for x, y in needs.items()}

    @property
    def steps(self) -> int:
        """Of a recovery."""
        if self.recovery is None:
            return 0
        training = self.recovery.training
        return training.epochs * -(-len(self.data.transfer) // training.batch_size)

    def place(self, way: str, speedup: float) -> Path:
        return self.out / "runs" / way / f"{speedup:g}x"

    def train(
        self, model: Model, folder: Path, *, seed: int, steps: int, reparam: Reparam | None = None
    ) -> Fit:
        """Trains by the recovery's objective; the model comes back as it is used."""
        assert self.recovery is not None
        training = self.recovery.training
        fitted = fit(
            model.replace(runtime=training.runtime()),
            self.data.transfer,
            self.recovery.objective,
            training,
            seed=seed,
            folder=folder,
            teachers=self.teachers,
            reparam=reparam,
            steps=steps,
            progress=self.bars.training(" ".join(folder.parts[-3:])),
            **self.how,
        )
        params = gathered(fitted.model.params)
        return replace(fitted, model=fitted.model.replace(params=params, runtime=Runtime.auto()))


def task_loss(outputs: Outputs, batch: Batch) -> Array:
    """What the model was fine-tuned by."""
    return CONTROL.objective({}, outputs, {}, batch).total


def run_way(bench: Bench, way: Way, seeds: Sequence[int]) -> list[Made]:
    """The smaller models of one way, pruned with the first seed and recovered with each; what was
    done in an earlier call is read.
    """

    def pruning(speedup: float) -> Path:
        return bench.place(way.name, speedup) / f"pruned-{seeds[0]}"

    def recoveries(speedup: float) -> dict[int, Path]:
        again = seeds if bench.recovery is not None else ()
        return {seed: bench.place(way.name, speedup) / f"seed-{seed}" for seed in again}

    def done(speedup: float) -> bool:
        folders = (pruning(speedup), *recoveries(speedup).values())
        return all(exists(folder / "result.json") for folder in folders)

    def train(speedup: float, *, reparam: Reparam, steps: int) -> Fit:
        what = {"seed": seeds[0], "steps": steps, "reparam": reparam}
        return bench.train(bench.model, pruning(speedup), **what)

    left = tuple(speedup for speedup in bench.speedups if not done(speedup))
    given = Given(
        model=bench.model,
        encoded=bench.calibration,
        loss=task_loss,
        costs=bench.costs,
        speedups=left,
        multiples=bench.multiples,
        seed=seeds[0],
        steps=bench.steps,
        train=train,
    )
    for speedup, pruned in zip(left, way.models(given) if left else (), strict=True):
        name, first = (way.name, speedup), pruning(speedup)
        keep_pruned(bench, pruned, name, seeds[0], first)
        for seed, folder in recoveries(speedup).items():
            recover(bench, pruned, name, seed, folder)
        if pruned.steps:
            by_first(functools.partial(draw_curves, first))
            by_first(functools.partial(forget_checkpoints, first))
    return [
        Made(
            way=way.name,
            speedup=speedup,
            structure=read_structure(pruning(speedup)),
            before=read_run(pruning(speedup)),
            after=tuple(map(read_run, recoveries(speedup).values())),
        )
        for speedup in bench.speedups
    ]


def keep_pruned(
    bench: Bench, pruned: Pruned, name: tuple[str, float], seed: int, folder: Path
) -> None:
    """Evaluates a smaller model as it is, unless that is done, and keeps what is left of it."""
    if exists(folder / "result.json"):
        return
    rate = bench.recovery.training.learning_rate if bench.recovery and pruned.steps else 0.0
    run = evaluated(bench, pruned.model, name, seed, rate, pruned.steps, pruned.seconds)
    if bench.recovery is None:
        save_small(bench, pruned.model, name, run)
    structure = structure_of(bench, pruned.model)
    by_first(lambda: write_json(folder / "structure.json", vars(structure)))
    by_first(lambda: write_run(run, folder, kept_alone))


def recover(bench: Bench, pruned: Pruned, name: tuple[str, float], seed: int, folder: Path) -> None:
    """Trains and evaluates a smaller model with one seed, unless that is done.

    Raises:
        ValueError: its way has taken all steps that there are.
    """
    if exists(folder / "result.json"):
        return
    assert bench.recovery is not None
    if (steps := bench.steps - pruned.steps) < 1:
        raise ValueError(
            f"way {name[0]!r} took {pruned.steps} steps, and leaves none of {bench.steps} for its "
            "recovery"
        )
    fitted = bench.train(pruned.model, folder, seed=seed, steps=steps)
    spent = (pruned.steps + fitted.steps, pruned.seconds + fitted.seconds)
    rate = bench.recovery.training.learning_rate
    run = evaluated(bench, fitted.model, name, seed, rate, *spent)
    save_small(bench, fitted.model, name, run)
    by_first(lambda: write_run(run, folder))


def evaluated(
    bench: Bench,
    model: Model,
    name: tuple[str, float],
    seed: int,
    rate: float,
    steps: int,
    seconds: float,
) -> Run:
    """The scores of a smaller model on all evaluation sets."""
    scores, right = {}, {}
    for split, prepared in bench.data.evaluation.items():
        scores[split], right[split] = evaluate(model, bench.data.task, prepared)
    way, speedup = name
    return Run(way, f"{speedup:g}x", seed, rate, steps, seconds, commit(), scores, right)


def save_small(bench: Bench, model: Model, name: tuple[str, float], run: Run) -> None:
    """`models/WAY/2x` of the first seed, as a Hugging Face folder."""
    if run.seed != bench.seeds[0]:
        return
    folder = bench.out / "models" / name[0] / f"{name[1]:g}x"
    save(model, folder, bench.data.tokenizer, run.scores, layout=bench.layout)


def structure_of(bench: Bench, model: Model) -> Structure:
    """What is left in a smaller model."""
    whole, (batch, length) = model.config.padded(), bench.shape
    kept = sizes(model.table, model.architecture.table(whole))
    return Structure(
        kept=kept,
        fields=config_to_hf(model.architecture, whole),
        params=model.num_params,
        flops=measure.cost(model, batch=batch, length=length).product_flops,
        cost=bench.costs.at({instance: kept.get(instance, 0) for instance in bench.costs.of}),
    )


def read_structure(folder: Path) -> Structure:
    return Structure(**json.loads((folder / "structure.json").read_text()))


def empty_model(structure: Structure, whole: Model) -> Model:
    """A model of this structure, to be measured; its arrays hold zeros."""
    architecture, head = whole.architecture, whole.config.head
    padded = config_from_hf(architecture, structure.fields, head=head)
    padded = padded.replace(pooler=whole.config.pooler)
    config = with_sizes(padded, {"sizes": dict(structure.kept)}, "structure.json")
    params = {row.path: jnp.zeros(row.shape) for row in architecture.table(config)}
    return Model(architecture, config, unflatten(params), whole.runtime)
