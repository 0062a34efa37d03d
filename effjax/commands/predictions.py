"""`effjax evaluate` and `effjax predict`: a model folder meets a task or lines of text."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from effjax.data.examples import Examples
    from effjax.data.tasks import Task
    from effjax.hf import SentenceEncoder
    from effjax.models.model import Model

DType = Literal["float32", "bfloat16"]

LONGEST = 512
"""Tokens of an example, where nothing else is said and the model reads as many."""


@dataclass(frozen=True)
class Evaluate:
    """Print the official metrics of a model on a labelled split of a task.

    Example: effjax evaluate out/student --task glue/sst2

    Example: effjax evaluate sentence-transformers/all-MiniLM-L6-v2 --task similarity/stsb
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """A model folder with its tokenizer, or a hub id."""
    task: str
    """The task, such as glue/sst2; `effjax list tasks` shows all."""
    split: str | None = None
    """The split; the task's first development split if not given."""
    max_length: int = LONGEST
    """Tokens per example at most; longer texts are truncated, longer contexts read in windows."""
    batch_size: int = 32
    """Examples at a time."""
    dtype: DType = "float32"
    """What products are computed in."""
    data_dir: Path | None = None
    """Where TFDS datasets live; TFDS's own default if not given."""
    out: Path | None = None
    """A JSON file that gets them too, with the machine, versions and commit."""

    def __call__(self) -> None:
        from effjax.data.datasets import load
        from effjax.data.kinds import prepare
        from effjax.data.metrics import wilson_interval
        from effjax.data.tasks import get_task
        from effjax.files import write_json
        from effjax.recipe.provenance import provenance
        from effjax.train import evaluate

        begun, task = time.perf_counter(), get_task(self.task)
        split = self.split or task.dev[0]
        task.check_split(split)
        if not task.has_labels(split):
            raise ValueError(f"{task.name}: the labels of split {split!r} are not public")
        examples = load(task, split, self.data_dir)
        model, tokenizer, longest = _answering(self.folder, self.dtype, task)
        prepared = prepare(task, tokenizer, examples, min(self.max_length, longest))
        metrics, right = evaluate(model, task, prepared, batch_size=self.batch_size)
        for metric, value in metrics.items():
            print(f"{metric}  {value:.4f}")
        print(f"n  {len(examples)}  ({task.name}, {split})")
        if len(right):
            low, high = wilson_interval(int(right.sum()), len(right))
            print(f"wholly right, 95% interval  {low:.4f} to {high:.4f}")
        if self.out is not None:
            found = {"split": split, "n": len(examples), "metrics": dict(metrics)}
            found |= {"sha256": {split: prepared.encoded.digest}}
            write_json(self.out, found | provenance(self, None, time.perf_counter() - begun))


@dataclass(frozen=True)
class Predict:
    """Write a model's predictions for lines of text, or the submission files of a task.

    A line of text becomes a line of label and probability, tab-separated; of the score alone where
    the model is a regression. Line n of the output is of line n of the text: where that was bad and
    skipped, it is empty.

    Of SQuAD, predictions.json and null_odds.json are written, as the official scripts read them; in
    v2 the answer is empty where "no answer" scores better than every span.

    Example: effjax predict out/student reviews.txt --out predictions.tsv

    Example: effjax predict out/student --task glue/sst2 --out submission

    Example: effjax predict runs/finetune_squad/model --task squad/v1.1 --out answers
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """A model folder with its tokenizer, or a hub id."""
    text: Positional[Annotated[Path | None, arg(metavar="[TEXT]")]] = None
    """A text file, one example per line."""
    out: Path = Path("predictions.tsv")
    """The file that is written; with --task, the folder of the submission files."""
    task: str | None = None
    """A task in place of a text file."""
    split: str | None = None
    """One test split of the task; all of them if not given. Of SQuAD, whose test questions are not
    public, any split; the development split if not given."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do at a line of text that is empty, is not UTF-8 or has a NUL byte: stop, or skip it
    and count it."""
    batch_size: int = 32
    """Examples at a time."""
    dtype: DType = "float32"
    """What products are computed in."""
    data_dir: Path | None = None
    """Where TFDS datasets live; TFDS's own default if not given."""

    def __call__(self) -> None:
        if (self.task is None) == (self.text is None):
            raise ValueError("predict takes either a text file or --task")
        if self.task is not None:
            if self.on_bad != "stop":
                raise ValueError("predict: --on-bad is for a text file; a task has no bad rows")
            self._submission(self.task)
        elif self.text is not None:
            if self.split is not None:
                raise ValueError("predict: --split is for --task; a text file has no splits")
            self._lines(self.text)
        print(f"{self.out}: written")

    def _lines(self, text: Path) -> None:
        from effjax.data.bad_rows import BadRows, check_text, parsed
        from effjax.data.corpus import lines
        from effjax.data.examples import Examples
        from effjax.files import atomic_file

        rows = list(parsed(lines(text), partial(check_text, "the line")))
        idx, texts = BadRows(self.on_bad).sift(text, rows, unit="lines")
        model, tokenizer = _load(self.folder, self.dtype)
        examples = Examples((texts,), None, np.array(idx, np.int32))
        logits = _logits(model, tokenizer, examples, self.batch_size)
        answers = dict(zip(idx, label_lines(logits, model.config.labels), strict=True))
        with atomic_file(self.out) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            file.writelines(f"{answers.get(i, '')}\n" for i in range(len(rows)))

    def _submission(self, name: str) -> None:
        from effjax.data.datasets import load
        from effjax.data.metrics import decide
        from effjax.data.submission import check_leaderboard, write_submission
        from effjax.data.tasks import get_task

        task = get_task(name)
        if task.kind == "answers":
            self._answers(task)
            return
        check_leaderboard(task)
        splits = (self.split,) if self.split else task.test
        examples = {split: load(task, split, self.data_dir) for split in splits}
        model, tokenizer = _load(self.folder, self.dtype, task)
        predictions = {
            split: decide(task, _logits(model, tokenizer, rows, self.batch_size))
            for split, rows in examples.items()
        }
        write_submission(task, predictions, self.out)

    def _answers(self, task: "Task") -> None:
        from effjax.data.datasets import load
        from effjax.data.kinds import KINDS, encode_questions
        from effjax.data.spans import answers
        from effjax.data.submission import write_answers
        from effjax.train.evaluate import predict

        asked = load(task, self.split or task.dev[0], self.data_dir)
        model, tokenizer = _load(self.folder, self.dtype, task)
        longest = model.config.max_length
        if model.config.head != (head := KINDS[task.kind].head):
            raise ValueError(
                f"{self.folder} has the head {model.config.head!r}; {task.name} wants {head}"
            )
        windows = encode_questions(tokenizer, asked, min(LONGEST, longest))
        logits = predict(model, windows, batch_size=self.batch_size)
        threshold = 0.0 if asked.version == "v2.0" else None
        found = answers(windows, asked, logits[:, 0], logits[:, 1], null_threshold=threshold)
        write_answers(found, self.out)


def label_lines(logits: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """One line per example: the label's name, a tab and its probability; or the score."""
    from scipy.special import softmax

    if logits.shape[1] == 1:
        return [f"{score:.6f}" for score in logits[:, 0]]
    rows = zip(logits.argmax(1), softmax(logits, axis=1).max(1), strict=True)
    return [f"{labels[best]}\t{probability:.6f}" for best, probability in rows]


def _answering(
    folder: str, dtype: DType, task: "Task"
) -> tuple["Model | SentenceEncoder", Any, int]:
    """What answers a task, its tokenizer, and the most tokens of a text that it reads."""
    from effjax.data.kinds import KINDS
    from effjax.hf import load_tokenizer, read_sentence_encoder
    from effjax.models.base import Runtime

    if KINDS[task.kind].head is not None:
        model, tokenizer = _load(folder, dtype, task)
        return model, tokenizer, model.config.max_length
    encoder = read_sentence_encoder(folder, runtime=Runtime.auto(dtype))
    return encoder, load_tokenizer(folder), encoder.longest


def _load(folder: str, dtype: DType, task: "Task | None" = None) -> tuple["Model", Any]:
    """The model with its tokenizer. Raises a ValueError if its labels are not the task's."""
    from effjax.hf import from_pretrained, load_tokenizer
    from effjax.models.base import Runtime
    from effjax.train.labels import with_labels_of

    model = from_pretrained(folder, runtime=Runtime.auto(dtype))
    if task is not None:
        model = with_labels_of(task, model, folder)
    return model, load_tokenizer(folder)


def _logits(model: "Model", tokenizer: Any, examples: "Examples", batch_size: int) -> np.ndarray:
    from effjax.data.encode import encode
    from effjax.train.evaluate import predict

    if model.config.head != "sequence-classification":
        raise ValueError(
            "lines of text are for the head sequence-classification; "
            f"this model has {model.config.head!r}"
        )
    encoded = encode(tokenizer, examples, model.config.max_length)
    return predict(model, encoded, batch_size=batch_size)
