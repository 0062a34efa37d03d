"""The arms of a distillation experiment: one student's methods and controls, trained alike."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from effjax import hf
from effjax.distill import CachedOutputs, init_student
from effjax.files import atomic_file, write_json
from effjax.hf.write import Layout
from effjax.models.base import Runtime
from effjax.models.model import Model, init_params
from effjax.prune import narrowed
from effjax.recipe.new_models import new_model
from effjax.recipe.prepare import Data
from effjax.recipe.provenance import begun_with, commit, finish
from effjax.recipe.spec import RANDOM, Method, Search, Stage, Student
from effjax.train import Training, evaluate, fit, fit_together
from effjax.train.checkpoint import forget_checkpoints
from effjax.train.claim import changes
from effjax.train.curves import draw_curves
from effjax.train.fitting import FitOptions
from effjax.train.loop import Progress
from effjax.train.mesh import gathered
from effjax.train.processes import by_first, exists

T = TypeVar("T")
Keep = Callable[[Path, Mapping[str, Any]], None]

Scores = dict[str, dict[str, float]]
"""Official metrics by evaluation set."""


@dataclass(frozen=True, eq=False)
class Run:
    """One trained arm.

    Attributes:
        scores: the official metrics by evaluation set.
        right: whether each example of each set was answered correctly; empty for regressions.
        steps: training steps.
        seconds: wall time of training, or its share of it, where seeds are trained together; of a
            pruned model also what making it took.
        learning_rate: the one chosen.
        commit: of the code that trained it.
        begun: of a distilled student, its digest before training, as `Bench` has it; None where
            there is no record, and of the arm `random`, whose arrays are all of its seed.
        tokens: of a distilled student, the digest of the examples that it was trained on.
    """

    student: str
    arm: str
    seed: int
    learning_rate: float
    steps: int
    seconds: float
    commit: str
    scores: Scores
    right: dict[str, np.ndarray]
    begun: str | None = None
    tokens: str | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """What all arms share.

    Attributes:
        data: the task in the teacher's tokens.
        own: the same in those of each student that has a tokenizer of its own, by name.
        teacher: the first of the trained teachers.
        outputs: of every teacher by name, over the transfer examples; itself, where it is run in
            every step.
        training: of every arm; the learning rate is replaced by the chosen one.
        order: seed of the batches of students that are trained together; None for students that are
            trained one by one, each in an order of its own.
        begun: `Model.digest` of every student before training, by name; what is new in it, such as
            a head, is that of seed 0.
        how: mesh and what else every training is called with.
        out: the experiment's folder.
    """

    data: Data
    own: Mapping[str, Data]
    teacher: Model
    outputs: Mapping[str, Model | CachedOutputs]
    training: Training
    order: int | None
    begun: Mapping[str, str]
    how: FitOptions
    out: Path

    def read_by(self, student: Student) -> Data:
        """The task in the tokens that this student reads."""
        return self.own.get(student.name, self.data)

    def teachers_of(self, student: Student) -> dict[str, Model | CachedOutputs]:
        """Who teaches this student, by name."""
        own = self.own.get(student.name)
        return {
            name: x if own is None or isinstance(x, Model) else x.read_as(own.transfer)
            for name, x in self.outputs.items()
        }

    def begins(self, student: Student, method: Method) -> dict[str, str | None]:
        """What an arm begins with, as `begun_with` finds it afterwards."""
        begun = None if method is RANDOM else self.begun[student.name]
        return {"begun": begun, "tokens": self.read_by(student).transfer.digest}

    def check_begun(
        self, student: Student, method: Method, file: Path, found: Mapping[str, Any]
    ) -> None:
        """Raises a ValueError for a result of an earlier call that did not begin with what this one
        begins with, unless changes are accepted. Where there is no record it is taken as it is.
        """
        wanted = self.begins(student, method)
        known = {name: found[name] for name in wanted if found.get(name) is not None}
        differs = changes(known, {name: wanted[name] for name in known})
        if differs and not self.how.get("accept_changes"):
            raise ValueError(
                f"{file} is of a training that began otherwise: {'; '.join(differs)}. Choose "
                "another folder, or go on all the same with --accept-changes"
            )

    def last(self, method: Method, rate: float) -> Stage:
        """A method's last stage, with the chosen learning rate."""
        epochs = self.training.epochs - sum(stage.epochs for stage in method.before)
        end = {"objective": method.objective, "epochs": epochs, "learning_rate": rate}
        return Stage(name="last", **end)


def start(teacher: Model, student: Student, method: Method, *, seed: int) -> Model:
    """The student before training; in the random arm its arrays are random.

    Args:
        seed: of what is new.
    """
    key = jax.random.key(seed)
    model = made(teacher, student, key).replace(runtime=Runtime.auto())
    if method is not RANDOM:
        return model
    return model.replace(params=init_params(model.table, model.config, key))


def made(teacher: Model, student: Student, key: jax.Array) -> Model:
    """The student that a recipe describes, with the teacher's head and labels."""
    config = teacher.config
    if student.layers is not None:
        begun = init_student(teacher, layers=student.layers)
        return begun if student.hidden is None else narrowed(begun, student.hidden)
    if student.source is not None:
        return hf.from_pretrained(student.source, head=config.head, labels=config.labels, key=key)
    assert student.model is not None  # one of the three is given
    return new_model(
        student.model,
        config.head,
        vocab_size=config.vocab_size,
        pad_id=config.pad_token_id,
        max_length=config.max_length,
        labels=config.labels,
        key=key,
    )


class Trained(NamedTuple):
    """A model, and what all its trainings took; of models that are trained together, its share.

    Attributes:
        begun: digest of its student before all of them, as of `Run`.
    """

    model: Model
    steps: int
    seconds: float
    begun: str | None


def train(
    bench: Bench,
    student: Student,
    begun: Sequence[Trained],
    stage: Stage,
    *,
    seeds: Sequence[int],
    rates: Sequence[float] | None = None,
    folder: Path,
    progress: Progress,
    steps: int | None = None,
) -> list[Trained]:
    """Trains a student in one more stage; several of its kind in one program, where the bench has
    an order for them.

    Args:
        rates: their learning rates; None for the stage's.
    """
    rates = rates or [stage.learning_rate] * len(seeds)
    training = replace(bench.training, epochs=stage.epochs, learning_rate=rates[0])
    models = [one.model.replace(runtime=training.runtime()) for one in begun]
    what = (bench.read_by(student).transfer, stage.objective, training)
    teachers = bench.teachers_of(student)
    configs = {name: teacher.config for name, teacher in teachers.items()}
    read = stage.objective.needs(models[0].config, configs)
    given: dict[str, Any] = {"folder": folder, "steps": steps, "progress": progress}
    given |= {"begun": begun[0].begun, "teachers": {name: teachers[name] for name in read}}
    if bench.order is None:
        (model,), (seed,) = models, seeds
        results = (fit(model, *what, seed=seed, **given, **bench.how),)
    else:
        own: dict[str, Any] = {"seeds": seeds, "learning_rates": rates, "order": bench.order}
        own |= {name: x for name, x in bench.how.items() if name != "mesh"}  # they have one device
        results = fit_together(models, *what, **own, **given)
    return [
        Trained(x.model, one.steps + x.steps, one.seconds + x.seconds / len(begun), one.begun)
        for one, x in zip(begun, results, strict=True)
    ]


def lead_up(
    bench: Bench,
    student: Student,
    method: Method,
    *,
    seeds: Sequence[int],
    folder: Path,
    progress: Progress,
) -> list[Trained]:
    """Students before the last stage: as they start, or as all the others have left them."""
    models = [start(bench.teacher, student, method, seed=seed) for seed in seeds]
    found = [Trained(x, 0, 0.0, bench.begins(student, method)["begun"]) for x in models]
    for stage in method.before:
        where = {"seeds": seeds, "folder": folder / stage.name, "progress": progress}
        found = train(bench, student, found, stage, **where)
    return found


def groups(bench: Bench, of: Sequence[T]) -> list[tuple[T, ...]]:
    """What is trained in one program: all of them, or each alone."""
    return [(x,) for x in of] if bench.order is None else [tuple(of)]


def choose_rate(
    bench: Bench,
    student: Student,
    method: Method,
    search: Search,
    progress: Callable[[str], Progress],
) -> float:
    """The learning rate with the best headline metric on validation after a short run."""
    data = bench.read_by(student)
    if data.validation is None or len(search.learning_rates) == 1:
        return search.learning_rates[0]
    folder = bench.out / "runs" / student.name / method.name / "search"
    files = {rate: folder / f"{rate:g}.json" for rate in search.learning_rates}
    left = [rate for rate, file in files.items() if not exists(file)]
    for file in (file for rate, file in files.items() if rate not in left):
        bench.check_begun(student, method, file, json.loads(file.read_text()))
    if left:
        label = f"{student.name} {method.name}, search"
        where = {"seeds": (search.seed,), "folder": folder, "progress": progress(label)}
        alone = replace(bench, order=None)
        begun = lead_up(alone, student, method, **where)
        for rates in groups(bench, left):
            name = " ".join(f"{rate:g}" for rate in rates)
            trained = train(
                bench,
                student,
                begun * len(rates),
                bench.last(method, rates[0]),
                seeds=[search.seed] * len(rates),
                rates=rates,
                folder=folder / name,
                progress=progress(f"{label} {name}"),
                steps=search.steps,
            )
            for rate, one in zip(rates, trained, strict=True):
                metrics = evaluate(one.model, data.task, data.validation).metrics
                found = {**metrics, **begun_with(first_of(method, folder, folder / name))}
                by_first(functools.partial(write_json, files[rate], found))
            by_first(functools.partial(forget_checkpoints, folder / name))
        by_first(lambda: forget_stages(method.before, folder))
    metric = data.task.metrics[0]
    scores = {rate: json.loads(file.read_text())[metric] for rate, file in files.items()}
    return max(scores, key=lambda rate: scores[rate])


def run_arm(
    bench: Bench,
    student: Student,
    method: Method,
    *,
    seeds: Sequence[int],
    rate: float,
    save_to: Path | None,
    progress: Progress,
) -> list[Run]:
    """Trains and evaluates one arm with some seeds, or reads the results of an earlier call.

    Args:
        save_to: where the first trained model is saved as a Hugging Face folder; None for nowhere.

    Raises:
        ValueError: as of `Bench.check_begun`.
    """
    place = bench.out / "runs" / student.name / method.name
    folders = {seed: place / f"seed-{seed}" for seed in seeds}
    if all(exists(folder / "result.json") for folder in folders.values()):
        runs = [read_run(folder) for folder in folders.values()]
        for run in runs:
            file = folders[run.seed] / "result.json"
            bench.check_begun(student, method, file, vars(run))
        return runs
    # Students that are trained together share the first one's folder.
    where = {"seeds": seeds, "folder": folders[seeds[0]], "progress": progress}
    begun = lead_up(bench, student, method, **where)
    trained = train(bench, student, begun, bench.last(method, rate), **where)
    runs, data = [], bench.read_by(student)
    origin = begun_with(first_of(method, folders[seeds[0]], folders[seeds[0]]))
    for seed, (model, steps, seconds, _) in zip(seeds, trained, strict=True):
        scores, right = {}, {}
        for name, prepared in data.evaluation.items():
            scores[name], right[name] = evaluate(model, data.task, prepared)
        if save_to is not None and seed == seeds[0]:
            save(model, save_to, data.tokenizer, scores)
        made = (student.name, method.name, seed, rate, steps, seconds, commit())
        runs.append(Run(*made, scores, right, **origin))
    by_first(lambda: forget_stages(method.before, folders[seeds[0]]))
    for run in reversed(runs):  # the first one's result says that the training is done with
        keep = finish if run.seed == seeds[0] else kept_alone
        by_first(functools.partial(write_run, run, folders[run.seed], keep))
    return runs


def first_of(method: Method, folder: Path, last: Path) -> Path:
    """The folder of a method's first training: its first stage's in `folder`, or `last`."""
    return next((folder / stage.name for stage in method.before), last)


def save(
    model: Model, folder: Path, tokenizer: Any, scores: Scores, *, layout: Layout = "stock"
) -> None:
    """A Hugging Face folder with its scores in the model card."""
    metrics = {f"{name} {m}": value for name, found in scores.items() for m, value in found.items()}
    whole = model.replace(params=gathered(model.params))
    written: dict[str, Any] = {"tokenizer": tokenizer, "metrics": metrics, "overwrite": True}
    by_first(lambda: hf.save_pretrained(whole, folder, layout=layout, **written))


def forget_stages(before: tuple[Stage, ...], folder: Path) -> None:
    """Keeps the curves of finished stages, and not their checkpoints."""
    for stage in before:
        draw_curves(folder / stage.name)
        forget_checkpoints(folder / stage.name)


def kept_alone(folder: Path, result: Mapping[str, Any]) -> None:
    """The result of a student whose training is in another one's folder."""
    write_json(folder / "result.json", result)


def write_run(run: Run, folder: Path, keep: Keep = finish) -> None:
    """Keeps a run, as `read_run` reads it.

    Args:
        keep: writes the result, and tidies the training's folder.
    """
    with atomic_file(folder / "right.npz") as path:
        np.savez_compressed(path, allow_pickle=False, **run.right)
    keep(folder, fields_of(run))


def fields_of(run: Run) -> dict[str, Any]:
    """A run as JSON, without what is not recorded."""
    return {name: x for name, x in asdict(run).items() if name != "right" and x is not None}


def read_run(folder: Path) -> Run:
    with np.load(folder / "right.npz") as right:
        return Run(**json.loads((folder / "result.json").read_text()), right=dict(right))
