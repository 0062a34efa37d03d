"""Pruning: one model, several ways to make it smaller, each at several speed-ups."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from effjax import measure
from effjax.choices import check_choices
from effjax.data.encode import Encoded
from effjax.data.examples import split_off
from effjax.data.kinds import prepare
from effjax.data.tables import TextFiles
from effjax.data.tagged_files import TaggedFiles
from effjax.measure import LatencyTable
from effjax.models.base import Runtime
from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.prune import gated
from effjax.recipe.distillation import scored
from effjax.recipe.prepare import Data, prepare_data, train_teacher, untrained_teacher
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, provenance
from effjax.recipe.pruned import Bench, Made, Recovery, run_way
from effjax.recipe.pruning_report import measured, publish, results
from effjax.recipe.spec import Teacher, check_each_once, fit_options
from effjax.recipe.ways import Way
from effjax.train import Mesh
from effjax.train.claim import claim
from effjax.train.held_out import check_objective
from effjax.train.processes import by_first, exists

Budget = Literal["parameters", "flops", "latency"]


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """One model, fine-tuned and then made smaller in several ways, each at several speed-ups.

    All smaller models of one speed-up are within the same budget, unless their way says that it
    keeps to none; the report has what each costs. Their scores are reported as they are pruned, and
    after a recovery, which takes as many steps in all ways.

    Attributes:
        task: name of the task, "glue/sst2" (`effjax list tasks`); or files of one's own, as
            `effjax.data.TextFiles` or `TaggedFiles`.
        splits: labelled splits that everything is evaluated on.
        held_out: training examples set aside before anything is trained, as one more evaluation
            set.
        transfer: how many of the training examples smaller models are trained on; None for all.
        model: where the model comes from; it is fine-tuned first.
        budget: what smaller models have to save: "parameters", "flops" of matrix products, or
            "latency", by a table that is measured once per device.
        speedups: how many times as little of it, compared with the whole model.
        shape: (batch, length) at which FLOPs are counted and latencies measured.
        multiples: sizes that the hardware likes: (("ffn", 32),) keeps a multiple of 32 units, or
            all.
        calibration: training examples that ways may look at.
        ways: the ways to prune.
        recovery: how smaller models are trained; None for not at all.
        seeds: of recoveries, and of ways that draw at random or train; others prune once.
        data_seed: of what is set aside.
        layout: of the smaller models' folders: "compact", small arrays and code for transformers
            beside them; or "dense", which stock transformers loads, with zeros.
        mesh: how the devices share the work.
        wandb_project: logs go to this project on Weights & Biases too.
    """

    task: str | TextFiles | TaggedFiles
    splits: tuple[str, ...]
    held_out: int = 0
    transfer: int | None = None
    model: Teacher
    budget: Budget = "latency"
    speedups: tuple[float, ...]
    shape: tuple[int, int] = (8, 128)
    multiples: tuple[tuple[str, int], ...] = ()
    calibration: int = 512
    ways: tuple[Way, ...]
    recovery: Recovery | None
    seeds: tuple[int, ...] = (0, 1, 2)
    data_seed: int = 0
    layout: Literal["compact", "dense"] = "compact"
    mesh: Mesh = field(default_factory=Mesh)
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        check_each_once(self.splits, self.seeds, self.held_out)
        check_speedups(self.speedups)
        check_ways(self.ways, self.model, self.recovery)
        if self.calibration < 1:
            raise ValueError(f"calibration is {self.calibration}; expected 1 example or more")

    def run(self, out: Path, *, accept_changes: bool = False) -> None:
        """Runs the experiment into `out`, going on where an interrupted run of the same recipe
        stopped.

        Writes results.json, table.md, figure.png and structure.png, and the model, and every
        smaller model with the first seed, as Hugging Face folders.

        Args:
            accept_changes: goes on with what another recipe left in `out`; the results then list
                both.

        Raises:
            ValueError: `out` holds another recipe, or the recipe does not fit the data or the
                model, such as a speed-up that nothing of the model has.
        """
        begun = time.perf_counter()
        data = self.load()
        calibration, untrained = self.looked_at(data), untrained_teacher(self.model, data)
        self.check(untrained, data)
        how = fit_options(self, accept_changes)
        with Bars() as bars:
            table = self.table(untrained, out, bars)
            costs = self.costs(untrained, table)
            check_reachable(self.speedups, costs)
            for way in self.ways:
                way.check(untrained, costs, self.speedups)
            # Only now, so that a mistake leaves nothing behind that the next recipe has to equal.
            by_first(lambda: claim(out / RECIPE, self, accept_changes=accept_changes))
            progress = bars.training(self.model.name)
            model = train_teacher(untrained, self.model, data, out, progress, how)
            bench = Bench(
                data=data,
                name=self.model.name,
                model=model.replace(runtime=Runtime.auto()),
                calibration=calibration,
                costs=costs,
                shape=self.shape,
                speedups=self.speedups,
                seeds=self.seeds,
                multiples=dict(self.multiples),
                recovery=self.recovery,
                how=how,
                layout=self.layout,
                out=out,
                bars=bars,
            )
            made = self.prune(bench)
            sizes = measured(bench, made)
        scores = scored(self.model.name, bench.model, data, out)
        origin = provenance(self, out, time.perf_counter() - begun)
        report = results(bench, scores, made, sizes, table, origin)
        by_first(lambda: publish(report, out))

    def load(self) -> Data:
        """The task, tokenised."""
        return prepare_data(
            self.task,
            self.model,
            splits=self.splits,
            held_out=self.held_out,
            validation=0,
            transfer=self.transfer,
            seed=self.data_seed,
        )

    def looked_at(self, data: Data) -> Encoded:
        """The training examples that ways may look at.

        Raises:
            ValueError: there are not as many.
        """
        examples = data.splits.transfer
        if self.calibration > len(examples):
            raise ValueError(
                f"calibration is {self.calibration}; there are {len(examples)} training examples"
            )
        if self.calibration < len(examples):
            _, examples = split_off(examples, self.calibration, self.data_seed + 3)
        return prepare(data.task, data.tokenizer, examples, data.length).encoded

    def check(self, model: Model, data: Data) -> None:
        """Before hours of training: raises a ValueError for what does not fit model or task."""
        kinds = {instance.partition("/")[2] for instance in gated(model)}
        for kind, size in self.multiples:
            if kind not in kinds or size < 1:
                raise ValueError(
                    f"multiples has {kind!r}: {size}; expected {' or '.join(sorted(kinds))}, and a "
                    "size of 1 or more"
                )
        tied = {kind for layer in model.config.layers for kind in layer.tied}
        if self.layout == "compact" and tied & kinds:
            raise ValueError(
                f"{model.architecture.name} has a table that all layers share, so that its smaller "
                'models have no layout="compact" in torch; expected layout="dense"'
            )
        if self.recovery is not None:
            check_objective(self.recovery.objective, model, {self.model.name: model}, data.transfer)

    def table(self, model: Model, out: Path, bars: Bars) -> LatencyTable | None:
        """What parts of the model take on this device; it stays in the experiment's folder, so that
        whatever goes on later has the same. None for another budget.

        Raises:
            ValueError: the folder's is of another shape.
        """
        if self.budget != "latency":
            return None
        batch, length = self.shape
        file = out / "latency_table.json"
        if not exists(file):
            progress = bars.counting("latency table")
            here = model.replace(runtime=Runtime.auto())
            found = measure.latency_table(here, batch=batch, length=length, progress=progress)
            by_first(lambda: found.save(file))
        table = LatencyTable.load(file)
        if table.shape != self.shape:
            there, here = ("x".join(map(str, shape)) for shape in (table.shape, self.shape))
            raise ValueError(
                f"{file} is of {there} tokens, and the recipe's shape is {here}; take another "
                "folder, or the file away for a new table"
            )
        return table

    def costs(self, model: Model, table: LatencyTable | None) -> Costs:
        """What every head and unit costs, in the unit of the budget."""
        batch, length = self.shape
        if table is not None:
            return table.costs(model.replace(runtime=Runtime.auto()))
        if self.budget == "flops":
            return measure.flop_costs(model, batch=batch, length=length)
        return measure.parameter_costs(model)

    def prune(self, bench: Bench) -> list[Made]:
        """The smaller models of all ways."""
        shared = self.seeds if self.recovery is not None else self.seeds[:1]
        groups = {
            way.name: [(seed,) for seed in self.seeds] if way.random else [shared]
            for way in self.ways
        }
        each = sum(len(seeds) for found in groups.values() for seeds in found)
        bench.bars.expect(each * len(self.speedups))
        made = []
        for way in self.ways:
            for seeds in groups[way.name]:
                made += run_way(bench, way, seeds)
                bench.bars.advance(len(seeds) * len(self.speedups))
        return made


def check_speedups(speedups: tuple[float, ...]) -> None:
    """Raises a ValueError for speed-ups that are none, or given twice."""
    shown = {f"{speedup:g}" for speedup in speedups}
    if not speedups or min(speedups) <= 1 or len(shown) < len(speedups):
        raise ValueError(
            f"speedups are {', '.join(map(str, speedups)) or 'none'}; expected numbers "
            "above 1, each once"
        )


def check_ways(ways: tuple[Way, ...], model: Teacher, recovery: Recovery | None) -> None:
    """Raises a ValueError for names that are taken, and for ways that cannot train."""
    names = [way.name for way in ways]
    if not names or len({*names, model.name}) <= len(names):
        raise ValueError(
            f"ways are named {', '.join(names) or 'not at all'}, and the model {model.name}; "
            "expected one way or more, and a name of its own for each"
        )
    if "runs" in (model.name, *names) or "models" in (model.name, *names):
        raise ValueError('"runs" and "models" are folders of the experiment; expected other names')
    for way in ways:
        if way.trains and recovery is None:
            raise ValueError(
                f"way {way.name!r} prunes while it trains, and recovery, which says how, is None"
            )


def check_reachable(speedups: tuple[float, ...], costs: Costs) -> None:
    """Raises a ValueError for a speed-up that is not there with all heads and units gone."""
    least = costs.base + sum(min(found) for found in costs.of.values())
    if costs.whole / max(speedups) < least:
        raise ValueError(
            f"speedups has {max(speedups):g}; without any head and unit the model has "
            f"{costs.whole / max(least, 1e-30):.3g} times less {costs.unit}, and no more"
        )
