"""Smaller models made and trained by the ways of a recipe; what each leaves is in its folder.

Of a way and a speed-up, `runs/WAY/2x/pruned-0` has the model as it was pruned with seed 0, and
`runs/WAY/2x/seed-1` that model after its recovery with seed 1.
"""

import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax

from effjax import measure
from effjax.choices import check_choices
from effjax.data.encode import Encoded
from effjax.distill import CachedOutputs, Weighted, cache_outputs
from effjax.files import write_json
from effjax.hf.compact import sizes, whole_config, with_sizes
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
from effjax.train.fitting import Fit, FitOptions
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
        teacher_runs: "once", its outputs being kept in memory, or in "every step".
    """

    training: Training
    objective: Weighted
    teacher_runs: Literal["once", "every step"] = "once"

    def __post_init__(self) -> None:
        check_choices(self, "recovery: ")


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """What is left of a model.

    Attributes:
        kept: hidden states, and heads and units of every layer.
        layers: the numbers that the layers had in the whole model, counted from 0; None where no
            whole layer went.
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
    layers: Sequence[int] | None = None


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


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one way leaves what it has made for one speed-up.

    Attributes:
        folder: of the way.
        seeds: the first prunes, and each recovers.
        recovers: whether any does.
    """

    folder: Path
    speedup: float
    seeds: tuple[int, ...]
    recovers: bool

    @property
    def name(self) -> str:
        """Of the speed-up."""
        return f"{self.speedup:g}x"

    @property
    def pruned(self) -> Path:
        return self.folder / self.name / f"pruned-{self.seeds[0]}"

    @property
    def recovered(self) -> dict[int, Path]:
        """By seed."""
        seeds = self.seeds if self.recovers else ()
        return {seed: self.folder / self.name / f"seed-{seed}" for seed in seeds}

    @property
    def done(self) -> bool:
        return all(exists(x / "result.json") for x in (self.pruned, *self.recovered.values()))

    def read(self) -> Made:
        """What is there when all is done."""
        return Made(
            way=self.folder.name,
            speedup=self.speedup,
            structure=read_structure(self.pruned),
            before=read_run(self.pruned),
            after=tuple(map(read_run, self.recovered.values())),
        )


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
    def teachers(self) -> dict[str, Model | CachedOutputs]:
        """What the objective reads of the fine-tuned model; itself, where it runs in every step."""
        assert self.recovery is not None
        needs = self.recovery.objective.needs(self.model.config, {self.name: self.model.config})
        if self.recovery.teacher_runs == "every step":
            return dict.fromkeys(needs, self.model)
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


def run_way(bench: Bench, way: Way, seeds: tuple[int, ...]) -> list[Made]:
    """The smaller models of one way, pruned with the first seed and recovered with each; what was
    done in an earlier call is read.
    """
    where = {"folder": bench.out / "runs" / way.name, "seeds": seeds}
    recovers = bench.recovery is not None
    places = [Place(speedup=x, recovers=recovers, **where) for x in bench.speedups]
    left = {place.speedup: place for place in places if not place.done}

    def train(speedup: float, *, reparam: Reparam, steps: int) -> Fit:
        what = {"seed": seeds[0], "steps": steps, "reparam": reparam}
        return bench.train(bench.model, left[speedup].pruned, **what)

    given = Given(
        model=bench.model,
        encoded=bench.calibration,
        loss=task_loss,
        costs=bench.costs,
        speedups=tuple(left),
        multiples=bench.multiples,
        seed=seeds[0],
        steps=bench.steps,
        train=train,
    )
    models = timed(way.models(given)) if left else ()
    for place, pruned in zip(left.values(), models, strict=True):
        keep_pruned(bench, place, pruned)
        for seed in place.recovered:
            recover(bench, place, pruned, seed)
        if pruned.steps:
            by_first(functools.partial(draw_curves, place.pruned))
            by_first(functools.partial(forget_checkpoints, place.pruned))
        jax.clear_caches()  # programs of this model's sizes; XLA dies where they fill the process
    return [place.read() for place in places]


def timed(models: Iterator[Pruned]) -> Iterator[Pruned]:
    """What a way makes, with the seconds that it took where nothing was trained; what one search
    finds for all speed-ups counts for the first.
    """
    begun = time.perf_counter()
    for pruned in models:
        spent = time.perf_counter() - begun
        yield pruned if pruned.steps else pruned._replace(seconds=spent)
        begun = time.perf_counter()


def keep_pruned(bench: Bench, place: Place, pruned: Pruned) -> None:
    """Evaluates a smaller model as it is, unless that is done, and keeps what is left of it."""
    if exists(place.pruned / "result.json"):
        return
    run = evaluated(bench, place, pruned, place.seeds[0])
    if not place.recovers:
        save_first(bench, place, pruned.model, run)
    structure = structure_of(bench, pruned)
    by_first(lambda: write_json(place.pruned / "structure.json", vars(structure)))
    by_first(lambda: write_run(run, place.pruned, kept_alone))


def recover(bench: Bench, place: Place, pruned: Pruned, seed: int) -> None:
    """Trains and evaluates a smaller model with one seed, unless that is done.

    Raises:
        ValueError: its way has taken all steps that there are.
    """
    folder = place.recovered[seed]
    if exists(folder / "result.json"):
        return
    if (steps := bench.steps - pruned.steps) < 1:
        raise ValueError(
            f"way {place.folder.name!r} took {pruned.steps} steps, and leaves none of "
            f"{bench.steps} for its recovery"
        )
    fitted = bench.train(pruned.model, folder, seed=seed, steps=steps)
    spent = (pruned.steps + fitted.steps, pruned.seconds + fitted.seconds)
    run = evaluated(bench, place, Pruned(fitted.model, *spent), seed)
    save_first(bench, place, fitted.model, run)
    by_first(lambda: write_run(run, folder))


def evaluated(bench: Bench, place: Place, pruned: Pruned, seed: int) -> Run:
    """The scores of a smaller model on all evaluation sets."""
    scores, right = {}, {}
    for split, prepared in bench.data.evaluation.items():
        scores[split], right[split] = evaluate(pruned.model, bench.data.task, prepared)
    rate = bench.recovery.training.learning_rate if bench.recovery and pruned.steps else 0.0
    spent = (rate, pruned.steps, pruned.seconds, commit())
    return Run(place.folder.name, place.name, seed, *spent, scores, right)


def save_first(bench: Bench, place: Place, model: Model, run: Run) -> None:
    """`models/WAY/2x` of the recipe's first seed, as a Hugging Face folder."""
    if run.seed == bench.seeds[0]:
        folder = bench.out / "models" / place.folder.name / place.name
        save(model, folder, bench.data.tokenizer, run.scores, layout=bench.layout)


def structure_of(bench: Bench, pruned: Pruned) -> Structure:
    """What is left in a smaller model."""
    model = pruned.model
    whole, (batch, length) = whole_config(model.architecture, model.config), bench.shape
    kept = sizes(model.table, model.architecture.table(whole))
    return Structure(
        kept=kept,
        fields=config_to_hf(model.architecture, whole),
        params=model.num_params,
        flops=measure.cost(model, batch=batch, length=length).product_flops,
        cost=bench.costs.at({instance: kept.get(instance, 0) for instance in bench.costs.of}),
        layers=pruned.layers,
    )


def read_structure(folder: Path) -> Structure:
    return Structure(**json.loads((folder / "structure.json").read_text()))


def empty_model(structure: Structure, whole: Model) -> Model:
    """A model of this structure, to be measured; its arrays hold zeros."""
    architecture, head = whole.architecture, whole.config.head
    padded = config_from_hf(architecture, structure.fields, head=head)
    padded = padded.replace(pooler=whole.config.pooler)
    config = with_sizes(padded, {"sizes": dict(structure.kept)}, "structure.json")
    params = {row.path: jax.numpy.zeros(row.shape) for row in architecture.table(config)}
    return Model(architecture, config, unflatten(params), whole.runtime)
