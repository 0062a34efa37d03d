"""Ways to distil a task, compared fairly at small scale: four tasks of GLUE, three small students.

    xz -dc wiki-en.txt.xz | grep -E '.{100}' > wiki-en.txt     # a document is a paragraph
    effjax run configs/wiki_relations.py
    effjax run configs/wiki_relations.py --student.name narrow --student.layers 0 1 2 3 4 5 \\
        --student.hidden 192 --out runs/wiki_relations_narrow
    effjax run configs/wiki_masked_lm.py && effjax run configs/wiki_distilbert.py
    python experiments/methods_grid.py

For each task all-MiniLM-L6-v2 is trained and teaches. A student begins with the same arrays in all
methods, those of a general distillation, and is trained for as many epochs, the stages of TinyBERT
and MiniLMv2 included. Each method chooses its learning rate alike: with each candidate some hundred
steps of its last objective, judged by training examples set aside. Then it is trained with three
seeds, which differ in the new head, batch order and dropout, and evaluated on the dev set. TinyBERT
goes without its augmentation, so that all methods see the same examples; with it, beside its own
control, it has a third more steps: two epochs of twice the texts, half of them copies with other
words from the masked LM. Of SST-2 students see sst2-10k: 10,000 sentences as the recipe's data_seed
draws them, whose tokens' SHA-256 is in the results.

What is done is not done again: a run that was interrupted goes on, and `--tasks` and `--students`
take a part. Each task and student has a file in paper/results/methods_grid; methods_grid.md and
.png beside it are of all that are there. The files of another machine may be among them, whose
general distillation was done there.

The 3-layer student and the narrow one are run on all four tasks, the other two on MRPC alone;
paper/distillation.md says what they show.
"""

import dataclasses
import functools
from pathlib import Path

import tyro
from grids import run_cells
from methods_report import publish

from effjax.distill import (
    AttentionMSE,
    Augmentation,
    HiddenCosine,
    HiddenMSE,
    LogitMSE,
    Objective,
    PatientMSE,
    RelationKL,
    SoftTargets,
    TaskLoss,
    Weighted,
)
from effjax.recipe import Distillation, Method, Search, Stage, Student, Teacher
from effjax.train import Training

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
RATES = (1e-4, 3e-4)
STAGE_RATE = 3e-4
"""Of the stages that compare layers, which is not searched for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """How one task is trained on.

    Attributes:
        teacher_epochs: of the teacher.
        transfer: how many training examples students see, None for all; the teacher sees all.
        search: steps with each candidate learning rate.
        validation: training examples set aside to judge them by.
    """

    teacher_epochs: int = 4
    transfer: int | None = None
    search: int
    validation: int


TASKS = {
    "glue/mrpc": Task(search=200, validation=400),
    "glue/stsb": Task(search=200, validation=500),
    "glue/cola": Task(search=400, validation=800),
    "glue/sst2": Task(teacher_epochs=1, transfer=10_000, search=200, validation=2000),
}
STUDENTS = {
    "3-layer": "runs/wiki_relations/student",
    "narrow": "runs/wiki_relations_narrow/student",
    "3-layer, words": "runs/wiki_distilbert/student",
    "3-layer, augmented": "runs/wiki_relations/student",
}
"""By relations, the same at half the width, by DistilBERT's triple loss over words, and the first
one again on augmented texts.
"""

AUGMENTED = {
    "3-layer, augmented": Augmentation(source="runs/wiki_masked_lm/model", copies=1),
}
"""Students that see each text twice, once with other words."""

WAYS = {
    "3-layer": ("soft targets", "DistilBERT", "PKD", "TinyBERT", "MiniLMv2"),
    "narrow": ("soft targets", "MiniLMv2"),
    "3-layer, words": ("soft targets",),
    "3-layer, augmented": ("TinyBERT",),
}
"""The methods of each student. Those that compare hidden states as they are, or heads one by one,
want one of its teacher's width and heads; the third student shows what its start is worth.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run.

    Attributes:
        tasks: of TASKS.
        students: of STUDENTS.
        seeds: each method is trained once with each.
        out: where the runs are.
        results: the folder of result files; the table and the figure are beside it.
        accept_changes: goes on with what another recipe left; the results then list both.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    students: tuple[str, ...] = tuple(STUDENTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/methods_grid")
    results: Path = ROOT / "paper" / "results" / "methods_grid"
    accept_changes: bool = False


def methods(predictions: Objective) -> tuple[Method, ...]:
    """The ways to distil; `control` beside them is a student without a teacher.

    Args:
        predictions: what compares the logits, at the temperature that all but TinyBERT share.
    """
    labels = TaskLoss()
    hard = predictions if isinstance(predictions, LogitMSE) else SoftTargets(temperature=1.0)
    layers = Weighted(
        embedding=(1.0, HiddenMSE(layers=((0, 0),))),
        hidden=(3.0, HiddenMSE(layers="uniform")),
        attention=(3.0, AttentionMSE(layers="uniform")),
    )
    relations = Weighted(
        queries=(1.0, RelationKL(of="q", heads=12)),
        keys=(1.0, RelationKL(of="k", heads=12)),
        values=(1.0, RelationKL(of="v", heads=12)),
    )
    stage = {"name": "layers", "epochs": 1, "learning_rate": STAGE_RATE}
    return (
        Method(
            name="soft targets",
            objective=Weighted(task=(0.5, labels), soft=(0.5, predictions)),
        ),
        Method(
            name="DistilBERT",
            objective=Weighted(
                soft=(5.0, predictions),
                task=(2.0, labels),
                cos=(1.0, HiddenCosine(layers="last")),
            ),
        ),
        Method(
            name="PKD",
            objective=Weighted(
                task=(0.5, labels),
                soft=(0.5, predictions),
                patient=(1.0, PatientMSE(layers="skip")),
            ),
        ),
        Method(
            name="TinyBERT",
            before=(Stage(objective=layers, **stage),),
            objective=Weighted(soft=(1.0, hard)),
        ),
        Method(
            name="MiniLMv2",
            before=(Stage(objective=relations, **stage),),
            objective=Weighted(task=(1.0, labels)),
        ),
    )


def recipe(task: str, student: str, seeds: tuple[int, ...]) -> Distillation:
    """One task and student, by the student's methods."""
    how = TASKS[task]
    augmentation = AUGMENTED.get(student)
    predictions = LogitMSE() if task == "glue/stsb" else SoftTargets(temperature=2.0)
    return Distillation(
        task=task,
        splits=("validation",),
        transfer=how.transfer,
        augmentation=augmentation,
        teacher=Teacher(
            source=SOURCE,
            training=Training(epochs=how.teacher_epochs, learning_rate=1e-4, dtype="bfloat16"),
        ),
        students=(Student(name=student, source=STUDENTS[student]),),
        methods=tuple(x for x in methods(predictions) if x.name in WAYS[student]),
        training=Training(epochs=3 if augmentation is None else 2, dtype="bfloat16"),
        search=Search(learning_rates=RATES, steps=how.search, validation=how.validation),
        seeds=seeds,
        latency=((1, 32), (32, 32)),
    )


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    run_cells(
        [(task, student) for student in settings.students for task in settings.tasks],
        [(task, student) for student in STUDENTS for task in TASKS],
        functools.partial(recipe, seeds=settings.seeds),
        publish,
        out=settings.out,
        results=settings.results,
        accept_changes=settings.accept_changes,
    )


if __name__ == "__main__":
    main()
