"""General distillation: a student learns from a teacher on text, before it sees any task."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from effjax import hf
from effjax.choices import check_choices
from effjax.data.bad_rows import OnBad
from effjax.data.encode import encode
from effjax.data.examples import Examples
from effjax.data.masking import Masking
from effjax.distill import CachedOutputs, Needs, Weighted
from effjax.files import write_json
from effjax.models.model import Model
from effjax.recipe.arms import made, save
from effjax.recipe.corpora import Corpus, read_corpus
from effjax.recipe.prepare import check_pooling, kept_outputs
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, begun_with, commit, finish, provenance
from effjax.recipe.spec import Student, fit_options
from effjax.train import Mesh, Training, fit
from effjax.train.claim import claim
from effjax.train.curves import final_table
from effjax.train.fitting import FitOptions
from effjax.train.held_out import check_objective, evaluate_objective
from effjax.train.logs import read_history
from effjax.train.processes import by_first, exists
from effjax.train.training import check_steps
from effjax.types import Aux


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a training begins with: text in the teacher's tokens, and both models."""

    corpus: Corpus
    teacher: Model
    student: Model


@dataclass(frozen=True, kw_only=True)
class GeneralDistillation:
    """A student that learns from a teacher on text without labels.

    The teacher is run in every step, on what the student reads, or once, where no token is hidden
    and its outputs have a place. What is saved is a `source` for every other recipe.

    Sources: arXiv 1910.01108, section 3 (with masked words); 1909.10351, section 3.2 ("general
    distillation"); 2002.10957, section 3 ("task-agnostic").

    Attributes:
        corpus: text files with one document per line, datasets of TFDS ("wiki40b/en", "pg19"), or
            tasks, whose training texts are taken.
        held_out: documents set aside, on which the objective is measured after every epoch.
        teacher: a Hugging Face hub id or folder; its tokenizer reads the corpus.
        head: of teacher and student: "masked-lm" for objectives that read logits, none for others.
        student: what learns. What is made of teacher layers, or comes from elsewhere, reads the
            teacher's tokens.
        objective: what is minimised.
        training: how it is trained.
        steps: how many, where that is not to follow from `training.epochs`.
        mask_rate: share of the tokens that are hidden from student and teacher; 0 for none.
        whole_words: all pieces of a word are, or none.
        logits_at: the tokens that the masked-LM heads answer for.
        teacher_outputs: a folder where the teacher's outputs are kept, for other students too; it
            takes what the objective reads of every token or text. None runs it in every step.
        on_bad: whether a bad line of a text file stops the run, or is left out and counted.
        seed: of new weights, what is held out, batch order, masks and dropout.
        mesh: how the devices share the work.
        wandb_project: logs go to this project on Weights & Biases too.
    """

    corpus: tuple[str, ...]
    held_out: int
    teacher: str
    head: Literal["masked-lm"] | None = None
    student: Student
    objective: Weighted
    training: Training
    steps: int | None = None
    mask_rate: float = 0.0
    whole_words: bool = False
    logits_at: Literal["masked tokens", "all tokens"] = "masked tokens"
    teacher_outputs: str | None = None
    on_bad: OnBad = "stop"
    seed: int = 0
    mesh: Mesh = field(default_factory=Mesh)
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        check_steps(self.steps)
        if self.training.patience is not None:
            raise ValueError(
                "general distillation has no score to stop early by; leave training.patience out"
            )
        if self.whole_words and not self.mask_rate:
            raise ValueError("whole_words is true, and no word is masked: mask_rate is 0")
        if self.teacher_outputs is not None and self.mask_rate:
            raise ValueError(
                f"teacher_outputs is {self.teacher_outputs!r}, and mask_rate {self.mask_rate}: "
                "other tokens are hidden in every epoch, and the teacher has to run in every step"
            )

    def run(self, out: Path, *, accept_changes: bool = False) -> None:
        """Distils into `out`, going on where an interrupted run of the same recipe stopped.

        Writes results.json, and the student as a Hugging Face folder. The results have the digests
        of the student before training (`begun`) and of the tokens it was trained on (`sha256`).

        Args:
            accept_changes: goes on with what another recipe left in `out`; the results then list
                both.

        Raises:
            ValueError: `out` holds another recipe, or the recipe does not fit the corpus, or the
                teacher the objective.
        """
        begun = time.perf_counter()
        folder = out / "runs" / f"seed-{self.seed}"
        prepared = None if exists(folder / "result.json") else self.prepare()
        # Only now, so that a mistyped file leaves nothing behind that the next recipe has to equal.
        by_first(lambda: claim(out / RECIPE, self, accept_changes=accept_changes))
        if prepared is not None:
            self.train(prepared, folder, out / "student", fit_options(self, accept_changes))
        result = json.loads((folder / "result.json").read_text())
        report = {**result, **provenance(self, out, time.perf_counter() - begun)}
        by_first(lambda: publish(report, out))

    def prepare(self) -> Prepared:
        """Reads models and text; what does not fit together is refused before the text is read."""
        tokenizer = hf.load_tokenizer(self.teacher)
        teacher, student = self.models(tokenizer)
        if self.needs(teacher, student).sentence:
            check_pooling(self.teacher)
        word = Examples((["word"],), labels=None, idx=np.zeros(1, np.int32))
        what = (self.objective, student, {"teacher": teacher}, encode(tokenizer, word, None))
        check_objective(*what, masking=self.masking(tokenizer))
        corpus = read_corpus(
            self.corpus,
            held_out=self.held_out,
            tokenizer=tokenizer,
            max_length=self.training.max_length,
            seed=self.seed,
            on_bad=self.on_bad,
        )
        return Prepared(corpus, teacher, student)

    def needs(self, teacher: Model, student: Model) -> Needs:
        """What the objective reads of the teacher.

        Raises:
            ValueError: nothing, or what the two do not have.
        """
        needs = self.objective.needs(student.config, {"teacher": teacher.config})
        if "teacher" not in needs:
            raise ValueError(f"no objective reads the teacher {self.teacher}")
        return needs["teacher"]

    def models(self, tokenizer: Any) -> tuple[Model, Model]:
        """Teacher and student.

        Raises:
            ValueError: the teacher has no such head, or the student reads other tokens.
        """
        runtime = self.training.runtime()
        teacher, report = hf.read(self.teacher, head=self.head, runtime=runtime)
        if report.initialised:
            raise ValueError(
                f"{report.folder} cannot teach: it lacks {', '.join(report.initialised)}"
            )
        own = self.student.source
        if own is not None and hf.load_tokenizer(own).get_vocab() != tokenizer.get_vocab():
            raise ValueError(
                f"the student {own} has another vocabulary than the teacher {self.teacher}; in "
                "general distillation both read the same tokens"
            )
        student = made(teacher, self.student, jax.random.key(self.seed))
        return teacher, student.replace(runtime=runtime)

    def masking(self, tokenizer: Any) -> Masking | None:
        """What is hidden of the text."""
        if not self.mask_rate:
            return None
        masking = Masking.of(tokenizer, rate=self.mask_rate, whole_words=self.whole_words)
        return replace(masking, everywhere=self.logits_at == "all tokens")

    def told(self, prepared: Prepared, bars: Bars) -> Model | CachedOutputs:
        """What tells the student the teacher's outputs."""
        teacher = prepared.teacher.for_inference()
        if self.teacher_outputs is None:
            return teacher
        needs, progress = self.needs(teacher, prepared.student), bars.counting("teacher's outputs")
        given = (teacher, prepared.corpus.train, needs)
        return kept_outputs(*given, folder=self.teacher_outputs, progress=progress)

    def train(self, prepared: Prepared, folder: Path, save_to: Path, how: FitOptions) -> None:
        """Trains and evaluates; a result.json in `folder` says that this is done."""
        corpus, student = prepared.corpus, prepared.student
        teacher = prepared.teacher.for_inference()
        teachers, masking = {"teacher": teacher}, self.masking(corpus.tokenizer)

        def look(model: Model, aux: Aux) -> dict[str, float]:
            given = (self.objective, teachers, corpus.held_out)
            return evaluate_objective(model, aux, *given, masking=masking)

        def logged(model: Model, aux: Aux) -> dict[str, float]:
            return {f"held_out/{name}": x for name, x in look(model, aux).items()}

        with Bars() as bars:
            fitted = fit(
                student,
                corpus.train,
                self.objective,
                self.training,
                seed=self.seed,
                folder=folder,
                masking=masking,
                teachers={"teacher": self.told(prepared, bars)},
                begun=student.digest,
                steps=self.steps,
                evaluation=logged,
                progress=bars.training(f"seed {self.seed}"),
                **how,
            )
            metrics = look(fitted.model, fitted.aux)
            save(fitted.model, save_to, corpus.tokenizer, {"held_out": metrics})
            origin = begun_with(folder)
            result = {
                "corpus": self.corpus,
                "tokens": corpus.tokens,
                "sha256": {"train": origin["tokens"]},
                "begun": origin["begun"],
                "params": {"teacher": teacher.num_params, "student": student.num_params},
                "held_out": metrics,
                "steps": fitted.steps,
                "seconds": fitted.seconds,
                "commit": commit(),
            }
            by_first(lambda: finish(folder, result))
            bars.print(final_table(read_history(folder)))


def publish(report: Mapping[str, Any], out: Path) -> None:
    """Writes results.json, and prints the objective's terms and where everything is."""
    write_json(out / "results.json", report)
    table = Table("held out", "value", title=f"{', '.join(report['corpus'])}, distilled")
    for name, value in report["held_out"].items():
        table.add_row(name, f"{value:.4f}")
    console = Console()
    console.print(table)
    console.print(f"results.json and student/ are in {out}", highlight=False)
