"""Tasks: what each dataset is, in one table.

A `Task` says which columns hold text, what the labels are called, which splits exist, how
predictions are scored, and how GLUE spells all of this in its official folders and submission
files. Loading, importing, evaluation and submission read this table and know no task by name.
Adding a task is adding one record.

Column and split names are those of TFDS, so a record is also a description of the dataset on disk.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dataset with its labels, splits and metrics.

    Args:
        name: The TFDS name (`glue/sst2`), or a name of our own: of a generated dataset, or of
            another use of a `dataset`.
        title: The official name, which is also the name of GLUE's folder.
        text: Feature names of the text columns: one, or two for sentence pairs.
        columns: The same columns as the official TSV files call them.
        labels: Class names in id order; empty for regression.
        spelling: The same classes as the official files and submissions spell them.
        label_column: The label's column in the official files.
        headerless: Columns of labelled official files that have no header line; empty when all have
            one.
        dev: Splits for development; the first is the default.
        test: Splits whose labels are not public, except in generated data.
        metrics: Official metrics (`effjax.data.metrics`); the first is the headline.
        submission: Submission file per test split; empty when there is no leaderboard.
        score_range: Lowest and highest score of a regression task.
        kind: What is predicted, for which `effjax.data.kinds` has the rules.
        dataset: The TFDS name, where it is not the task's.
        source: `tfds`, or `generated` by `effjax.data.toy`.
        format: What official files and TFDS rows look like (`effjax.data.formats`).
        files: Official file of every split, where they do not follow from the format.
    """

    name: str
    title: str
    text: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    columns: tuple[str, ...] = ()
    spelling: tuple[str, ...] = ()
    label_column: str = "label"
    headerless: tuple[str, ...] = ()
    dev: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    submission: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    kind: Literal["text", "answers", "tags", "similarity"] = "text"
    dataset: str | None = None
    source: Literal["tfds", "generated"] = "tfds"
    format: Literal["glue", "imdb", "squad", "conll"] = "glue"
    files: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split, training first."""
        return ("train", *self.dev, *self.test)

    @property
    def tfds_name(self) -> str:
        """What TFDS calls the dataset."""
        return self.dataset or self.name

    @property
    def regression(self) -> bool:
        """True when the label is a score, not a class."""
        return not self.labels

    def has_labels(self, split: str) -> bool:
        """Whether the labels of a split are public."""
        return split not in self.test or self.source == "generated"

    def check_split(self, split: str) -> None:
        """Raises ValueError when the task has no such split."""
        if split not in self.splits:
            raise ValueError(f"{self.name}: no split {split!r}; it has {', '.join(self.splits)}")


_ENTAILMENT = ("entailment", "not_entailment")
_BINARY = ("0", "1")
_PAIR = ("sentence1", "sentence2")

_RECORDS = (
    Task(
        name="glue/cola",
        title="CoLA",
        text=("sentence",),
        columns=("sentence",),
        labels=("unacceptable", "acceptable"),
        spelling=_BINARY,
        headerless=("source", "label", "star", "sentence"),
        metrics=("matthews",),
        submission=("CoLA.tsv",),
    ),
    Task(
        name="glue/sst2",
        title="SST-2",
        text=("sentence",),
        columns=("sentence",),
        labels=("negative", "positive"),
        spelling=_BINARY,
        metrics=("accuracy",),
        submission=("SST-2.tsv",),
    ),
    Task(
        name="glue/mrpc",
        title="MRPC",
        text=_PAIR,
        columns=("#1 String", "#2 String"),
        labels=("not_equivalent", "equivalent"),
        spelling=_BINARY,
        label_column="Quality",
        metrics=("f1", "accuracy"),
        submission=("MRPC.tsv",),
    ),
    Task(
        name="glue/qqp",
        title="QQP",
        text=("question1", "question2"),
        columns=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        spelling=_BINARY,
        label_column="is_duplicate",
        metrics=("f1", "accuracy"),
        submission=("QQP.tsv",),
    ),
    Task(
        name="glue/stsb",
        title="STS-B",
        text=_PAIR,
        columns=_PAIR,
        labels=(),
        label_column="score",
        metrics=("pearson", "spearman"),
        submission=("STS-B.tsv",),
        score_range=(0.0, 5.0),
    ),
    Task(
        name="glue/mnli",
        title="MNLI",
        text=("premise", "hypothesis"),
        columns=_PAIR,
        labels=("entailment", "neutral", "contradiction"),
        spelling=("entailment", "neutral", "contradiction"),
        label_column="gold_label",
        dev=("validation_matched", "validation_mismatched"),
        test=("test_matched", "test_mismatched"),
        metrics=("accuracy",),
        submission=("MNLI-m.tsv", "MNLI-mm.tsv"),
    ),
    Task(
        name="glue/qnli",
        title="QNLI",
        text=("question", "sentence"),
        columns=("question", "sentence"),
        labels=_ENTAILMENT,
        spelling=_ENTAILMENT,
        metrics=("accuracy",),
        submission=("QNLI.tsv",),
    ),
    Task(
        name="glue/rte",
        title="RTE",
        text=_PAIR,
        columns=_PAIR,
        labels=_ENTAILMENT,
        spelling=_ENTAILMENT,
        metrics=("accuracy",),
        submission=("RTE.tsv",),
    ),
    Task(
        name="glue/wnli",
        title="WNLI",
        text=_PAIR,
        columns=_PAIR,
        labels=("not_entailment", "entailment"),
        spelling=_BINARY,
        metrics=("accuracy",),
        submission=("WNLI.tsv",),
    ),
    Task(
        name="imdb_reviews/plain_text",
        title="IMDb",
        text=("text",),
        labels=("neg", "pos"),
        dev=("test",),
        test=(),
        metrics=("accuracy",),
        format="imdb",
    ),
    Task(
        name="squad/v1.1",
        title="SQuAD v1.1",
        text=("question", "context"),
        labels=("start", "end"),
        test=(),
        metrics=("f1", "exact_match"),
        format="squad",
        files=("train-v1.1.json", "dev-v1.1.json"),
        kind="answers",
    ),
    Task(
        name="squad/v2.0",
        title="SQuAD v2.0",
        text=("question", "context"),
        labels=("start", "end"),
        test=(),
        metrics=("f1", "exact_match"),
        format="squad",
        files=("train-v2.0.json", "dev-v2.0.json"),
        kind="answers",
    ),
    Task(
        name="conll2003/conll2003",
        title="CoNLL-2003 entities",
        text=("tokens",),
        labels=(
            "O",
            *(f"{place}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for place in "BI"),
        ),
        dev=("dev", "test"),
        test=(),
        metrics=("f1", "precision", "recall"),
        format="conll",
        files=("train.txt", "valid.txt", "test.txt"),
        kind="tags",
    ),
    Task(
        name="similarity/stsb",
        title="STS-B",
        text=_PAIR,
        columns=_PAIR,
        labels=(),
        label_column="score",
        metrics=("spearman", "pearson"),
        score_range=(0.0, 5.0),
        kind="similarity",
        dataset="glue/stsb",
    ),
    Task(
        name="toy/sentiment",
        title="generated sentiment language",
        text=("sentence",),
        labels=("negative", "positive"),
        metrics=("accuracy",),
        source="generated",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _RECORDS}


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        ValueError: If there is none; the line gives the closest names, or all of them.
    """
    if name in TASKS:
        return TASKS[name]
    close = get_close_matches(name, TASKS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(TASKS)}"
    raise ValueError(f"unknown task {name!r}; {hint}")
