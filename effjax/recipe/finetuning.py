"""Fine-tuning: one encoder on one task, with several seeds."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from effjax.data.tasks import get_task
from effjax.distill import TaskLoss, Weighted
from effjax.files import write_json
from effjax.models.model import Model
from effjax.recipe.arms import Run, read_run, save, write_run
from effjax.recipe.prepare import Data, prepare_data, untrained_teacher
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, commit, provenance
from effjax.recipe.report import run_fields
from effjax.recipe.spec import Teacher
from effjax.train import Mesh, Training, evaluate, fit
from effjax.train.checkpoint import forget_checkpoints
from effjax.train.claim import claim


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """One encoder, trained on one task once with every seed.

    Attributes:
        task: name of the task, "glue/mrpc"; `effjax list tasks`.
        splits: labelled splits that it is evaluated on; the first one is what early stopping looks
            at.
        source: a Hugging Face hub id or folder.
        training: how it is trained.
        seeds: of the new head, batch order and dropout.
        mesh: how the devices share the work.
        published: scores of papers to compare with, by what they are of; copied into the results.
    """

    task: str
    splits: tuple[str, ...]
    source: str
    training: Training
    seeds: tuple[int, ...] = (0, 1, 2)
    mesh: Mesh = field(default_factory=Mesh)
    published: tuple[tuple[str, float], ...] = ()

    def run(self, out: Path, *, accept_changes: bool = False) -> None:
        """Runs the experiment into `out`, going on where an interrupted run of the same recipe
        stopped.

        Writes results.json, and the model of the first seed as a Hugging Face folder.

        Args:
            accept_changes: goes on with what another recipe left in `out`; the results then list
                both.

        Raises:
            ValueError: `out` holds another recipe, or the recipe does not fit the data or the
                model.
        """
        begun = time.perf_counter()
        claim(out / RECIPE, self, accept_changes=accept_changes)
        teacher = Teacher(source=self.source, training=self.training)
        data = prepare_data(
            self.task,
            teacher,
            splits=self.splits,
            held_out=0,
            validation=0,
            transfer=None,
            seed=0,
        )
        with Bars() as bars:
            bars.expect(len(self.seeds))
            runs = []
            for seed in self.seeds:
                runs.append(self.run_seed(seed, data, out, bars, accept_changes))
                bars.advance()
        report = {
            "task": self.task,
            "metric": get_task(self.task).metrics[0],
            "scores": {split: spread([run.scores[split] for run in runs]) for split in self.splits},
            "published": dict(self.published),
            "runs": [run_fields(run) for run in runs],
            **provenance(self, out, time.perf_counter() - begun),
        }
        write_json(out / "results.json", report)
        show(report, out)

    def run_seed(
        self, seed: int, data: Data, out: Path, bars: Bars, accept_changes: bool = False
    ) -> Run:
        """Trains and evaluates with one seed, or reads the result of an earlier call."""
        folder = out / "runs" / f"seed-{seed}"
        if (folder / "result.json").exists():
            return read_run(folder)

        def look(model: Model) -> Mapping[str, float]:
            split = self.splits[0]
            metrics = evaluate(model, data.task, data.evaluation[split]).metrics
            return {f"{split}/{name}": value for name, value in metrics.items()}

        teacher = Teacher(source=self.source, training=self.training, seed=seed)
        fitted = fit(
            untrained_teacher(teacher, data),
            data.train,
            Weighted(task=(1.0, TaskLoss())),
            self.training,
            seed=seed,
            folder=folder,
            mesh=self.mesh,
            evaluation=look,
            accept_changes=accept_changes,
            progress=bars.training(f"seed {seed}"),
        )
        scores, right = {}, {}
        for split, prepared in data.evaluation.items():
            scores[split], right[split] = evaluate(fitted.model, data.task, prepared)
        if seed == self.seeds[0]:
            save(fitted.model, out / "model", data.tokenizer, scores)
        rate = self.training.learning_rate
        spent = (fitted.steps, fitted.seconds, commit())
        run = Run(self.source, "fine-tuned", seed, rate, *spent, scores, right)
        write_run(run, folder)
        forget_checkpoints(folder)
        return run


def spread(scores: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Every metric's mean and standard deviation (n - 1) over the seeds, None for one seed."""

    def of(values: list[float]) -> dict[str, Any]:
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return {"mean": float(np.mean(values)), "sd": sd}

    return {name: of([found[name] for found in scores]) for name in scores[0]}


def show(report: Mapping[str, Any], out: Path) -> None:
    """Prints the scores and where everything is."""
    table = Table("split", "metric", "mean", "sd", title=f"{report['task']}, fine-tuned")
    for split, metrics in report["scores"].items():
        for name, found in metrics.items():
            sd = "" if found["sd"] is None else f"{100 * found['sd']:.2f}"
            table.add_row(split, name, f"{100 * found['mean']:.2f}", sd)
    for name, value in report["published"].items():
        table.add_row("published", name, f"{100 * value:.2f}", "")
    console = Console()
    console.print(table)
    console.print(f"results.json and model/ are in {out}", highlight=False)
