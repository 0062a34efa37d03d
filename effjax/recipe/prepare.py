"""Data and teacher of an experiment."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from effjax import hf
from effjax.data.datasets import load
from effjax.data.encode import Encoded
from effjax.data.examples import AnyExamples, Examples, split_off
from effjax.data.kinds import KINDS, Prepared, prepare
from effjax.data.tables import TextFiles
from effjax.data.tagged_files import TaggedFiles
from effjax.data.tasks import Task, get_task
from effjax.data.wordpiece import train_wordpiece
from effjax.distill import (
    Augmentation,
    CachedOutputs,
    Needs,
    TaskLoss,
    Weighted,
    augmented_once,
    cache_outputs,
)
from effjax.files import write_json
from effjax.models import create
from effjax.models.base import Runtime
from effjax.models.model import Model
from effjax.recipe.provenance import commit, finish
from effjax.recipe.spec import Teacher
from effjax.train import fit
from effjax.train.fitting import FitOptions
from effjax.train.labels import label_names, with_labels_of
from effjax.train.loop import Progress
from effjax.train.mesh import gathered
from effjax.train.processes import by_first, exists


@dataclass(frozen=True, eq=False)
class Data:
    """A task, tokenised.

    Attributes:
        splits: the texts behind it.
        length: the most tokens of an example.
        train: what the teacher is trained on.
        transfer: what every arm of every student is trained on; all of `train`, or a part of it.
        validation: what learning rates are chosen by, None without a search.
        evaluation: what is reported, by name.
    """

    task: Task
    splits: "Splits"
    tokenizer: Any
    length: int
    train: Encoded
    transfer: Encoded
    validation: Prepared | None
    evaluation: dict[str, Prepared]


@dataclass(frozen=True, eq=False)
class Splits:
    """A task's examples, shared out before anything is trained; fields as of `Data`."""

    task: Task
    train: AnyExamples
    transfer: AnyExamples
    validation: AnyExamples | None
    evaluation: dict[str, AnyExamples]

    def tokenised(self, tokenizer: Any, length: int) -> Data:
        """All of them in the tokens of one tokenizer, at most `length` of each example."""

        def read(examples: AnyExamples) -> Prepared:
            return prepare(self.task, tokenizer, examples, length)

        return Data(
            self.task,
            self,
            tokenizer,
            length,
            read(self.train).encoded,
            read(self.transfer).encoded,
            None if self.validation is None else read(self.validation),
            {name: read(rows) for name, rows in self.evaluation.items()},
        )


def opened(source: str | TextFiles | TaggedFiles) -> tuple[Task, Callable[[str], AnyExamples]]:
    """A recipe's task, known by name or as files of one's own, and what reads a split of it.

    Raises:
        ValueError: there is no such task, or it has no head to train.
    """
    if isinstance(source, TextFiles | TaggedFiles):
        return source.task(), source.read
    task = get_task(source)
    if KINDS[task.kind].head is None:
        raise ValueError(
            f"{task.name} has no head to train; `effjax evaluate` scores encoders on it"
        )
    return task, functools.partial(load, task)


def labelled(task: Task, split: str, examples: AnyExamples) -> AnyExamples:
    """The same examples. Raises a ValueError where they cannot be evaluated against."""
    if isinstance(examples, Examples) and examples.labels is None:
        raise ValueError(f"{task.name}: split {split!r} has no labels to evaluate against")
    return examples


def prepare_data(
    source: str | TextFiles | TaggedFiles,
    teacher: Teacher,
    *,
    splits: tuple[str, ...],
    held_out: int,
    validation: int,
    transfer: int | None,
    seed: int,
    augmentation: Augmentation | None = None,
) -> Data:
    """Loads and tokenises a task; what is evaluated is set aside before anything is trained."""
    task, read = opened(source)
    train = read("train")
    evaluation = {split: labelled(task, split, read(split)) for split in splits}
    if held_out:
        train, evaluation["held_out"] = split_off(train, held_out, seed)
    chosen_by = None
    if validation:
        train, chosen_by = split_off(train, validation, seed + 1)
    kept = split_off(train, transfer, seed + 2)[1] if transfer else train
    if augmentation is not None:
        kept = multiplied(kept, augmentation)
    tokenizer, texts = tokenizer_of(teacher, train), (train, kept, chosen_by, evaluation)
    return Splits(task, *texts).tokenised(tokenizer, teacher.training.max_length)


def multiplied(examples: AnyExamples, augmentation: Augmentation) -> Examples:
    """The examples with their copies.

    Raises:
        ValueError: they are not texts, or what should make the copies is no masked LM.
    """
    if not isinstance(examples, Examples):
        raise ValueError(f"texts are augmented, not {type(examples).__name__}; leave it out")
    model, report = hf.read(augmentation.source, head="masked-lm", runtime=Runtime.auto())
    if report.initialised:
        missing = ", ".join(report.initialised)
        raise ValueError(f"{report.folder} cannot fill in words: it lacks {missing}")
    tokenizer = hf.load_tokenizer(augmentation.source)
    return augmented_once(examples, model, tokenizer, augmentation)


def tokenizer_of(teacher: Teacher, train: AnyExamples) -> Any:
    """The tokenizer of a pretrained teacher, or one trained on the texts."""
    if teacher.source is None:
        if not isinstance(train, Examples):
            raise ValueError("a new teacher's vocabulary is trained on texts; give its source")
        texts = [text for column in train.texts for text in column]
        return train_wordpiece(texts, teacher.vocab_size, max_length=teacher.training.max_length)
    return hf.load_tokenizer(teacher.source)


def untrained_teacher(teacher: Teacher, data: Data) -> Model:
    """The teacher before it has seen the task: pretrained or new, with a new head; or as it is, if
    it was fine-tuned.

    Raises:
        ValueError: it was not, or on a task with other labels.
    """
    key, runtime = jax.random.key(teacher.seed), teacher.training.runtime()
    head, labels = KINDS[data.task.kind].head, label_names(data.task)
    if teacher.fine_tuned:
        return fine_tuned_teacher(teacher, data.task)
    if teacher.source is not None:
        return hf.from_pretrained(
            teacher.source, head=head, labels=labels, key=key, runtime=runtime
        )
    assert labels is not None  # a vocabulary of one's own is trained on texts, not on questions
    return create(
        "bert",
        size="tiny",
        head=head,
        key=key,
        runtime=runtime,
        vocab_size=len(data.tokenizer),
        hidden_size=teacher.hidden,
        num_hidden_layers=teacher.layers,
        num_attention_heads=teacher.heads,
        intermediate_size=4 * teacher.hidden,
        hidden_dropout_prob=teacher.dropout,
        attention_probs_dropout_prob=teacher.dropout,
        max_position_embeddings=teacher.training.max_length,
        pad_token_id=data.tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
    )


def check_pooling(source: str) -> None:
    """Raises a ValueError for a teacher whose embeddings are not means."""
    if (pooling := hf.read_sentence_encoder(source).pooling) != "mean":
        raise ValueError(
            f"{source} embeds a text by pooling {pooling!r}; objectives of sentence embeddings "
            "compare means of the last hidden states"
        )


def fine_tuned_teacher(teacher: Teacher, task: Task) -> Model:
    """A teacher as its source is, but for the names of its labels, which are the task's.

    Raises:
        ValueError: the source has no head for the task, or other labels.
    """
    assert teacher.source is not None
    head, runtime = KINDS[task.kind].head, teacher.training.runtime()
    model, report = hf.read(teacher.source, head=head, runtime=runtime)
    if report.initialised:
        raise ValueError(
            f"{report.folder} is no fine-tuned model for {task.name}: it lacks "
            f"{', '.join(report.initialised)}"
        )
    return with_labels_of(task, model, report.folder)


def train_teacher(
    untrained: Model, teacher: Teacher, data: Data, out: Path, progress: Progress, how: FitOptions
) -> Model:
    """The teacher in `out/NAME`, which is trained first unless that is done."""
    folder, runs = out / teacher.name, out / "runs" / teacher.name
    if exists(runs / "result.json"):
        return hf.from_pretrained(folder, runtime=teacher.training.runtime())
    whole, spent = untrained, {"steps": 0, "seconds": 0.0}
    if not teacher.fine_tuned:
        result = fit(
            untrained,
            data.train,
            Weighted(task=(1.0, TaskLoss())),
            teacher.training,
            seed=teacher.seed,
            folder=runs,
            progress=progress,
            **how,
        )
        whole = result.model.replace(params=gathered(result.model.params))
        spent = {"steps": result.steps, "seconds": result.seconds}
    told = {**spent, "commit": commit()}

    def write() -> None:
        hf.save_pretrained(whole, folder, tokenizer=data.tokenizer, overwrite=True)
        if teacher.fine_tuned:
            runs.mkdir(parents=True, exist_ok=True)
            write_json(runs / "result.json", told)
        else:
            finish(runs, told)

    by_first(write)
    return hf.from_pretrained(folder, runtime=teacher.training.runtime())


def kept_outputs(
    teacher: Model,
    encoded: Encoded,
    needs: Needs,
    *,
    folder: str | None,
    top_k: int | None = None,
    progress: Callable[[int, int], None],
) -> CachedOutputs:
    """`cache_outputs`, where the first process fills the folder and all others read it."""
    run = functools.partial(
        cache_outputs, teacher, encoded, needs, folder=folder, top_k=top_k, progress=progress
    )
    if folder is not None:
        by_first(run)
    return run()
