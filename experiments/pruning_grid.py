"""Ways to prune, compared fairly at small scale: three tasks of GLUE, seven ways, and distillation.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_relations.py                       # the student that is distilled
    python experiments/pruning_grid.py

For each task all-MiniLM-L6-v2 is fine-tuned, and then made smaller to be faster at 8x128 by a table
of latencies measured on this device. Three parts share the fine-tuned model:

- "pruned": ways that need no training, at five speed-ups, without any recovery;
- "recovered": those and CoFi at two speed-ups, then trained from the unpruned model's logits and
  the labels, as many steps with each of three seeds, what CoFi trains while it prunes included;
  it is trained as all others are, without the distillation of layers that its paper has, and leaves
  the hidden states whole;
- "distilled": a student of general distillation with as many layers as the first of the two
  speed-ups allows, trained alike: what a smaller model is worth that was not made by pruning.

Random scores are the control, all ways take sizes that are multiples of 32 units, and each looks at
the same 512 training examples; ZipLM tries 30 sets of coefficients for each model, not 1,000 as in
its paper. Nothing is chosen by the dev set: the learning rate is one for all.

What is done is not done again: a run that was interrupted goes on, and `--tasks` and `--parts` take
a part. Each task and part has a file in paper/results/pruning_grid; pruning_grid.md and .png beside
it are of all that are there. Times are worth what the machine was left alone for.

All of it is run; paper/pruning.md says what it shows.
"""

import dataclasses
import functools
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import jax
import tyro
from grids import run_cells
from pruning_grid_report import publish

from effjax import hf
from effjax.distill import LogitMSE, Objective, SoftTargets, TaskLoss, Weighted
from effjax.recipe import (
    FewerLayers,
    Given,
    HardConcrete,
    OneShot,
    Pruned,
    Pruning,
    Recovery,
    RetrainingFree,
    Teacher,
    Way,
    ZipLM,
)
from effjax.train import Training

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
STUDENT = "runs/wiki_relations/student"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distilled(Way):
    """No way to prune: a student that was distilled before, with a new head.

    Attributes:
        source: its folder.
    """

    source: str

    @property
    def random(self) -> bool:
        return True

    def models(self, given: Given) -> Iterator[Pruned]:
        config = given.model.config
        for _ in given.speedups:
            student = hf.from_pretrained(
                self.source,
                head=config.head,
                labels=config.labels,
                key=jax.random.key(given.seed),
            )
            yield Pruned(student)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What is compared.

    Attributes:
        ways: that prune.
        speedups: asked of each.
        recovers: whether smaller models are trained.
    """

    ways: tuple[Way, ...]
    speedups: tuple[float, ...]
    recovers: bool = True


WITHOUT_TRAINING = (
    OneShot(name="random", criterion="uniform"),
    OneShot(name="magnitude", criterion="magnitude"),
    OneShot(name="first-order", criterion="first_order"),
    RetrainingFree(name="retraining-free"),
    FewerLayers(name="layers", order="importance"),
    ZipLM(name="ZipLM", trials=30),
)
COFI = HardConcrete(name="CoFi", learning_rate=0.2)
"""In so few steps its gates do not close at 0.01, the rate of its authors' scripts; at 0.1 they
close more than they should, and have no time to come back.
"""

PARTS = {
    "pruned": Part(ways=WITHOUT_TRAINING, speedups=(1.25, 1.5, 1.9, 2.8, 4.0), recovers=False),
    "recovered": Part(ways=(*WITHOUT_TRAINING, COFI), speedups=(1.9, 2.8)),
    "distilled": Part(ways=(Distilled(name="distilled", source=STUDENT),), speedups=(1.9,)),
}
"""By the table three of six layers are 1.96 times as fast as all, and two 2.87 times."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """How one task is trained on.

    Attributes:
        model_epochs: of the unpruned model.
        transfer: how many training examples smaller models see, None for all.
    """

    model_epochs: int = 4
    transfer: int | None = None


TASKS = {
    "glue/mrpc": Task(),
    "glue/stsb": Task(),
    "glue/sst2": Task(model_epochs=2, transfer=10_000),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run.

    Attributes:
        tasks: of TASKS.
        parts: of PARTS.
        seeds: of recoveries, and of what draws at random.
        out: where the runs are.
        results: the folder of result files; the table and the figure are beside it.
        accept_changes: goes on with what another recipe left; the results then list both.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    parts: tuple[str, ...] = tuple(PARTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/pruning_grid")
    results: Path = ROOT / "paper" / "results" / "pruning_grid"
    accept_changes: bool = False


def recipe(task: str, part: str, seeds: tuple[int, ...]) -> Pruning:
    """One task and part."""
    how, what = TASKS[task], PARTS[part]
    soft: Objective = LogitMSE() if task == "glue/stsb" else SoftTargets(temperature=2.0)
    recovery = Recovery(
        training=Training(epochs=4, batch_size=32, learning_rate=3e-4, dtype="bfloat16"),
        objective=Weighted(soft=(0.5, soft), task=(0.5, TaskLoss())),
    )
    return Pruning(
        task=task,
        splits=("validation",),
        transfer=how.transfer,
        model=Teacher(
            source=SOURCE,
            training=Training(epochs=how.model_epochs, learning_rate=1e-4, dtype="bfloat16"),
        ),
        budget="latency",
        speedups=what.speedups,
        shape=(8, 128),
        multiples=(("ffn", 32),),
        calibration=512,
        ways=what.ways,
        recovery=recovery if what.recovers else None,
        seeds=seeds,
    )


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    run_cells(
        product(settings.tasks, settings.parts),
        list(product(TASKS, PARTS)),
        functools.partial(recipe, seeds=settings.seeds),
        publish,
        out=settings.out,
        results=settings.results,
        accept_changes=settings.accept_changes,
    )


if __name__ == "__main__":
    main()
