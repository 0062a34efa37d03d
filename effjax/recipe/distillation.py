"""Distillation: one teacher, several students and methods, against controls of their size."""

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from effjax import hf, measure
from effjax.choices import check_choices
from effjax.data.kinds import KINDS
from effjax.data.tables import TextFiles
from effjax.data.tagged_files import TaggedFiles
from effjax.data.tasks import Task
from effjax.distill import Augmentation, CachedOutputs, Needs
from effjax.models.base import Runtime
from effjax.models.model import Model
from effjax.recipe.arms import Bench, Run, choose_rate, groups, run_arm, start
from effjax.recipe.prepare import (
    Data,
    check_pooling,
    kept_outputs,
    prepare_data,
    train_teacher,
    untrained_teacher,
)
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, provenance
from effjax.recipe.report import Size, TeacherScores, publish, results
from effjax.recipe.spec import (
    Method,
    Search,
    Student,
    Teacher,
    check_each_once,
    check_methods,
    fit_options,
)
from effjax.train import Mesh, Training, evaluate
from effjax.train.claim import claim
from effjax.train.held_out import check_objective
from effjax.train.processes import by_first


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """One teacher, students distilled from it by one method or several, and their controls.

    For every student there are arms of the same size and number of steps: one for each of
    `methods`; `control` starts from the same arrays and learns from the labels; of a student that
    is made of teacher layers, `random` starts from random arrays and learns from the labels.

    A student with a tokenizer of its own reads its own tokens of the same texts; where these are
    not the teacher's, objectives that compare the two token by token are refused.

    Attributes:
        task: name of the task, "glue/sst2" (`effjax list tasks`); or files of one's own, as
            `effjax.data.TextFiles` or `TaggedFiles`.
        splits: labelled splits that everything is evaluated on.
        held_out: training examples set aside before anything is trained, as one more evaluation
            set.
        transfer: how many of the training examples every arm is trained on; None for all.
        augmentation: how these are multiplied by a masked LM; None for not at all.
        teacher: where the teacher comes from; students are made of its layers and read its tokens.
        other_teachers: more of them, whom objectives read by name, such as
            `SoftTargets(teacher="large")`.
        teacher_runs: "once" over the training examples, its outputs being kept for all students; or
            in "every step", where these are too many to be kept.
        teacher_outputs: a folder where they are kept, for other recipes with the same teacher and
            data too; None keeps them in memory. Those of other teachers are beside it, as
            FOLDER-NAME.
        teacher_top_k: how many logits of each example or token are kept, if there are more; None
            for all.
        students: the students' shapes.
        methods: what students minimise, by name; one alone is best called "distilled".
        training: how every arm is trained.
        search: how every arm's learning rate is chosen.
        seeds: each arm is trained once with each.
        seeds_run: "one by one"; or "together", in one program and on the same batches, in the order
            of `data_seed`: the teacher then runs once for all. So do the runs of the search.
        data_seed: of what is set aside, and of the order of students that run together.
        mesh: how the devices share the work.
        wandb_project: logs go to this project on Weights & Biases too.
        latency: (batch, length) shapes at which teacher and students are timed side by side.
    """

    task: str | TextFiles | TaggedFiles
    splits: tuple[str, ...]
    held_out: int = 0
    transfer: int | None = None
    augmentation: Augmentation | None = None
    teacher: Teacher
    other_teachers: tuple[Teacher, ...] = ()
    teacher_runs: Literal["once", "every step"] = "once"
    teacher_outputs: str | None = None
    teacher_top_k: int | None = None
    students: tuple[Student, ...]
    methods: tuple[Method, ...]
    training: Training
    search: Search
    seeds: tuple[int, ...] = (0, 1, 2)
    seeds_run: Literal["one by one", "together"] = "one by one"
    data_seed: int = 0
    mesh: Mesh = field(default_factory=Mesh)
    wandb_project: str | None = None
    latency: tuple[tuple[int, int], ...] = ((1, 128), (32, 128))

    def __post_init__(self) -> None:
        check_choices(self)
        check_each_once(self.splits, self.seeds, self.held_out)
        check_methods(self.methods, self.training.epochs)
        check_names(self.teachers, self.students)
        if self.teacher_runs == "every step" and (self.teacher_outputs or self.teacher_top_k):
            raise ValueError(
                "teacher_outputs and teacher_top_k are of teachers that run once; teacher_runs is "
                '"every step"'
            )
        if self.seeds_run == "together" and self.mesh != Mesh():
            raise ValueError(
                f"students that run together do so on one device; the mesh is {self.mesh}: leave "
                'it out, or choose seeds_run="one by one"'
            )

    def run(self, out: Path, *, accept_changes: bool = False) -> None:
        """Runs the experiment into `out`, going on where an interrupted run of the same recipe
        stopped.

        Writes results.json, table.md and figure.png, and every teacher, and every student by every
        method with the first seed, as Hugging Face folders. Each of the results' `runs` has the
        digests of its student before training (`begun`), with the new arrays of seed 0, and of the
        examples that it was trained on (`tokens`), both as they were when its training began.

        Args:
            accept_changes: goes on with what another recipe left in `out`; the results then list
                both.

        Raises:
            ValueError: `out` holds another recipe, or results of this one whose students began
                otherwise, or the recipe does not fit the data or the model.
        """
        begun = time.perf_counter()
        data = self.load()
        what = self.begin(data)
        # Only now, so that a mistake leaves nothing behind that the next recipe has to equal.
        by_first(lambda: claim(out / RECIPE, self, accept_changes=accept_changes))
        with Bars() as bars:
            bench, teachers = self.prepare(data, *what, out, bars, accept_changes)
            runs = self.train_arms(bench, bars)
            sizes = self.measure(teachers, bars)
        first, *others = [scored(x.name, teachers[x.name], data, out) for x in self.teachers]
        origin = provenance(self, out, time.perf_counter() - begun)
        report = results(bench.data, first, others, runs, sizes, origin)
        by_first(lambda: publish(report, out))

    def load(self) -> Data:
        """The task, tokenised."""
        return prepare_data(
            self.task,
            self.teacher,
            splits=self.splits,
            held_out=self.held_out,
            validation=self.search.validation,
            transfer=self.transfer,
            augmentation=self.augmentation,
            seed=self.data_seed,
        )

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """All of them, the first one first."""
        return (self.teacher, *self.other_teachers)

    def own_tokens(self, data: Data) -> dict[str, Data]:
        """The task as every student with a tokenizer of its own reads it, by name."""
        return {
            student.name: data.splits.tokenised(hf.load_tokenizer(student.source), data.length)
            for student in self.students
            if student.source is not None
        }

    def begin(self, data: Data) -> tuple[dict[str, Data], dict[str, Model], dict[str, Needs]]:
        """The task in students' own tokens; and of every teacher, by name, the model before it has
        seen the task, and what is read of it.

        Raises:
            ValueError: as of `needs`; or a teacher reads other tokens than the first one.
        """
        own = self.own_tokens(data)
        for teacher in self.other_teachers:
            check_vocabulary(teacher, data)
        untrained = {teacher.name: untrained_teacher(teacher, data) for teacher in self.teachers}
        return own, untrained, self.needs(untrained, data, own)

    def prepare(
        self,
        data: Data,
        own: Mapping[str, Data],
        untrained: Mapping[str, Model],
        wanted: Mapping[str, Needs],
        out: Path,
        bars: Bars,
        accept_changes: bool = False,
    ) -> tuple[Bench, dict[str, Model]]:
        """What all arms share, the teachers' outputs among it; and the trained teachers by name.
        The arguments are those that `begin` gives.
        """
        how = fit_options(self, accept_changes)
        teachers = {
            x.name: train_teacher(untrained[x.name], x, data, out, bars.training(x.name), how)
            for x in self.teachers
        }
        outputs = {
            name: self.outputs(name, teachers[name], data, needs, bars)
            for name, needs in wanted.items()
        }
        order = self.data_seed if self.seeds_run == "together" else None
        first = teachers[self.teacher.name]
        begun = {x.name: self.begun(teachers, x).digest for x in self.students}
        return Bench(data, own, first, outputs, self.training, order, begun, how, out), teachers

    def outputs(
        self, name: str, teacher: Model, data: Data, needs: Needs, bars: Bars
    ) -> Model | CachedOutputs:
        """What tells students a teacher's outputs; a folder is filled by the first process."""
        if self.teacher_runs == "every step":
            return teacher
        progress, folder = bars.counting(f"{name}'s outputs"), self.teacher_outputs
        if folder is not None and name != self.teacher.name:
            folder = f"{folder}-{name}"
        how = {"folder": folder, "top_k": self.teacher_top_k, "progress": progress}
        return kept_outputs(teacher, data.transfer, needs, **how)

    def needs(
        self, teachers: Mapping[str, Model], data: Data, own: Mapping[str, Data]
    ) -> dict[str, Needs]:
        """What the objectives read of each teacher for any of the students.

        Args:
            data: the task in the teachers' tokens.
            own: the task in those that a student's own tokenizer makes, by the student's name.

        Raises:
            ValueError: an objective does not fit student and teachers, or compares token by token
                where a student's tokens are not the teachers'; or a teacher is read by none, or its
                sentence embeddings are, and are not means.
        """
        wanted: dict[str, Needs] = {}
        configs = {name: teacher.config for name, teacher in teachers.items()}
        objectives = [x.objective for m in self.methods for x in (*m.before, m)]
        begun = {student.name: self.begun(teachers, student) for student in self.students}
        for student, objective in itertools.product(self.students, dict.fromkeys(objectives)):
            found = objective.needs(begun[student.name].config, configs)
            per_token = compared_by_token(found, data.task)
            same = own.get(student.name, data).transfer.digest == data.transfer.digest
            if self.teacher_runs == "every step" and not same:
                raise ValueError(
                    f"student {student.name!r} reads other tokens than the teacher, which then "
                    'cannot run in every step; expected teacher_runs="once"'
                )
            if per_token and not same:
                raise ValueError(
                    f"student {student.name!r} reads other tokens than the teacher, and the "
                    f"objective compares {', '.join(per_token)} token by token; expected one "
                    "of task logits or sentence embeddings"
                )
            check_objective(objective, begun[student.name], teachers, data.transfer)
            for name, needs in found.items():
                wanted[name] = wanted.get(name, Needs()) | needs
        if unread := [name for name in teachers if name not in wanted]:
            raise ValueError(f"no objective reads the teacher {unread[0]!r}; leave it out")
        for teacher in self.teachers:
            if teacher.source is not None and wanted[teacher.name].sentence:
                check_pooling(teacher.source)
        return wanted

    def begun(self, teachers: Mapping[str, Model], student: Student) -> Model:
        """A student before training, as it is measured and told from others."""
        return start(teachers[self.teacher.name], student, self.methods[0], seed=0)

    def train_arms(self, bench: Bench, bars: Bars) -> list[Run]:
        """Every arm of every student with every seed; each method's first seed is saved."""
        arms = [(x, arm) for x in self.students for arm in (*self.methods, *x.controls)]
        bars.expect(len(arms) * len(self.seeds))
        runs = []
        for student, arm in arms:
            rate = choose_rate(bench, student, arm, self.search, bars.training)
            for seeds in groups(bench, self.seeds):
                kept = arm in self.methods and self.seeds[0] in seeds
                name = ", ".join(map(str, seeds))
                runs += run_arm(
                    bench,
                    student,
                    arm,
                    seeds=seeds,
                    rate=rate,
                    save_to=bench.out / "students" / student.name / arm.name if kept else None,
                    progress=bars.training(f"{student.name} {arm.name}, seed {name}"),
                )
                bars.advance(len(seeds))
        return runs

    def measure(self, teachers: Mapping[str, Model], bars: Bars) -> dict[str, Size]:
        """Parameters, FLOPs, file size and side-by-side latency of every teacher and student."""
        models = dict(teachers)
        models |= {student.name: self.begun(teachers, student) for student in self.students}
        models = {name: model.replace(runtime=Runtime.auto()) for name, model in models.items()}
        sizes = {}
        bar = bars.counting("latency")
        comparisons = {}
        for i, (batch, length) in enumerate(self.latency):
            comparisons[batch, length] = measure.compare(models, batch=batch, length=length)
            bar(i + 1, len(self.latency))
        for name, model in models.items():
            batch, length = self.latency[0]
            sizes[name] = Size(
                params=model.num_params,
                flops=measure.cost(model, batch=batch, length=length).flops,
                file_bytes=measure.file_size(model),
                latency={
                    shape: compared.latencies[name] for shape, compared in comparisons.items()
                },
                speedup={shape: compared.speedup(name) for shape, compared in comparisons.items()},
            )
        return sizes


def check_names(teachers: tuple[Teacher, ...], students: tuple[Student, ...]) -> None:
    """Raises a ValueError for models that share a name, which their folders and rows have."""
    names = [model.name for model in (*teachers, *students)]
    if len(set(names)) < len(names) or {"runs", "students"} & set(names):
        raise ValueError(
            f"teachers and students are named {', '.join(names)}; expected a name of its own for "
            "each, other than runs and students"
        )


def check_vocabulary(teacher: Teacher, data: Data) -> None:
    """Raises a ValueError for a teacher that reads other tokens than the first one."""
    if teacher.source is None:
        return
    if hf.load_tokenizer(teacher.source).get_vocab() != data.tokenizer.get_vocab():
        raise ValueError(
            f"teacher {teacher.name!r} ({teacher.source}) has another vocabulary than the first "
            "one; teachers of one recipe read the same tokens"
        )


def scored(name: str, teacher: Model, data: Data, out: Path) -> TeacherScores:
    """What a trained teacher is worth, and what its training took."""
    scores, right = {}, {}
    for split, prepared in data.evaluation.items():
        scores[split], right[split] = evaluate(teacher, data.task, prepared)
    training = json.loads((out / "runs" / name / "result.json").read_text())
    return TeacherScores(name, scores, right, training)


def compared_by_token(needs: Mapping[str, Needs], task: Task) -> list[str]:
    """What an objective reads of its teachers that there is one of for every token."""
    found = {x for of_one in needs.values() for x in of_one.per_token}
    by_token = KINDS[task.kind].per_token and any(x.logits for x in needs.values())
    return sorted(found | ({"logits"} if by_token else set()))
