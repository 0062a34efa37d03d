"""Fine-tuning: one encoder on one task, with several seeds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from effjax.data.kinds import Score
from effjax.data.tables import TextFiles
from effjax.data.tagged_files import TaggedFiles
from effjax.distill import TaskLoss, Weighted
from effjax.files import write_json
from effjax.hf.source import read_object
from effjax.models.model import Model
from effjax.recipe.arms import Run, Scores, fields_of, read_run, save, write_run
from effjax.recipe.prepare import Data, prepare_data, untrained_teacher
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, commit, provenance
from effjax.recipe.report import data_fields, mean_and_sd
from effjax.recipe.spec import Teacher, check_each_once, fit_options
from effjax.train import Mesh, Training, evaluate, fit
from effjax.train.claim import claim
from effjax.train.curves import final_table
from effjax.train.fitting import FitOptions
from effjax.train.logs import read_history
from effjax.train.processes import by_first, exists
from effjax.types import Aux


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """One encoder, trained on one task once with every seed.

    Attributes:
        task: name of the task, "glue/mrpc" (`effjax list tasks`); or files of one's own, as
            `effjax.data.TextFiles` or `TaggedFiles`.
        splits: labelled splits that it is evaluated on; the first one is what early stopping looks
            at.
        source: a Hugging Face hub id or folder.
        training: how it is trained.
        seeds: of the new head, batch order and dropout.
        mesh: how the devices share the work.
        wandb_project: logs go to this project on Weights & Biases too.
        published: scores of papers to compare with, by what they are of; copied into the results.
    """

    task: str | TextFiles | TaggedFiles
    splits: tuple[str, ...]
    source: str
    training: Training
    seeds: tuple[int, ...] = (0, 1, 2)
    mesh: Mesh = field(default_factory=Mesh)
    wandb_project: str | None = None
    published: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_each_once(self.splits, self.seeds)

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
        # Only now, so that a mistyped file leaves nothing behind that the next recipe has to equal.
        by_first(lambda: claim(out / RECIPE, self, accept_changes=accept_changes))
        how = fit_options(self, accept_changes)
        with Bars() as bars:
            bars.expect(len(self.seeds))
            runs = []
            for seed in self.seeds:
                runs.append(self.run_seed(seed, data, out, bars, how))
                bars.advance()
        report = {
            **data_fields(data),
            "scores": {split: over_seeds(runs, split) for split in self.splits},
            "published": dict(self.published),
            "runs": [fields_of(run) for run in runs],
            **provenance(self, out, time.perf_counter() - begun),
        }
        by_first(lambda: publish(report, out))

    def run_seed(self, seed: int, data: Data, out: Path, bars: Bars, how: FitOptions) -> Run:
        """Trains and evaluates with one seed, or reads the result of an earlier call."""
        folder = out / "runs" / f"seed-{seed}"
        if exists(folder / "result.json"):
            return read_run(folder)

        looks: list[Score] = []

        def look(model: Model, aux: Aux) -> Mapping[str, float]:
            del aux
            looks.append(evaluate(model, data.task, data.evaluation[self.splits[0]]))
            return {f"{self.splits[0]}/{name}": x for name, x in looks[-1].metrics.items()}

        teacher = Teacher(source=self.source, training=self.training, seed=seed)
        fitted = fit(
            untrained_teacher(teacher, data),
            data.train,
            Weighted(task=(1.0, TaskLoss())),
            self.training,
            seed=seed,
            folder=folder,
            evaluation=look,
            progress=bars.training(f"seed {seed}"),
            **how,
        )
        # The last look was at the trained model, unless an earlier one was the best.
        seen = {self.splits[0]: looks[-1]} if looks and self.training.patience is None else {}
        scores, right = {}, {}
        for split, prepared in data.evaluation.items():
            found = seen.get(split) or evaluate(fitted.model, data.task, prepared)
            scores[split], right[split] = found
        if seed == self.seeds[0]:
            save(fitted.model, out / "model", data.tokenizer, scores)
        rate = self.training.learning_rate
        spent = (fitted.steps, fitted.seconds, commit())
        run = Run(self.source, "fine-tuned", seed, rate, *spent, scores, right)
        by_first(lambda: write_run(run, folder))
        bars.print(final_table(read_history(folder)))
        return run


def over_seeds(runs: Sequence[Run], split: str) -> dict[str, dict[str, Any]]:
    """Every metric's mean and standard deviation over the seeds."""
    scores = [run.scores[split] for run in runs]
    return {name: mean_and_sd([found[name] for found in scores]) for name in scores[0]}


def publish(report: Mapping[str, Any], out: Path) -> None:
    """Writes results.json, and prints the scores and where everything is."""
    write_json(out / "results.json", report)
    table = Table("split", "metric", "mean", "sd", title=f"{report['task']}, fine-tuned")
    for split, metrics in report["scores"].items():
        for name, found in metrics.items():
            unit = 1 if name == "best_threshold" else 100  # a difference of logits is no share
            sd = "" if found["sd"] is None else f"{unit * found['sd']:.2f}"
            table.add_row(split, name, f"{unit * found['mean']:.2f}", sd)
    for name, value in report["published"].items():
        table.add_row("published", name, f"{100 * value:.2f}", "")
    console = Console()
    console.print(table)
    console.print(f"results.json and model/ are in {out}", highlight=False)


def read_scores(files: Sequence[Path]) -> dict[str, Scores]:
    """Means over the seeds by task, split and metric, as `effjax.data.glue_score` takes them.

    Args:
        files: the results.json of fine-tunings, one per task.

    Raises:
        ValueError: a file is none of these, or a second one has the same task.
    """
    found: dict[str, Scores] = {}
    for file in files:
        report = read_object(file)
        if "scores" not in report:
            raise ValueError(f"{file}: has no scores; expected the results.json of a fine-tuning")
        if report["task"] in found:
            raise ValueError(f"{file}: is the second file with results of {report['task']}")
        found[report["task"]] = {
            split: {name: score["mean"] for name, score in metrics.items()}
            for split, metrics in report["scores"].items()
        }
    return found
