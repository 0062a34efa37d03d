"""A user's own TSV, CSV, JSONL or Parquet files as a task.

`TextFiles` is what a recipe says about them: a file per split, which columns hold text and label,
what the labels are called. It also decides what makes a row bad, and what becomes of it; the
formats are `effjax.data.table_rows`.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from effjax.data.examples import Examples
from effjax.data.metrics import METRICS
from effjax.data.table_rows import BadRow, check_text, endings, listed, read_rows, text_form
from effjax.data.tasks import Task

log = logging.getLogger("effjax")

_LARGEST_SCORE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Labelled texts in files of one's own.

    Args:
        train: File of the training split; the name's ending gives the format.
        validation: File of the validation split, if there is one.
        test: File of the test split, if there is one; it may lack the label column.
        text: Column of the text, or the two columns of a pair.
        label: Column of the label. Numbers and booleans in .jsonl and .parquet are matched by
            their JSON form: `1`, `true`.
        labels: Class names in id order, as they stand in the files; empty for regression, where
            the label is a score.
        name: The task's name; None is the training file's name without its endings.
        metrics: Names from `effjax.data.metrics`, headline first; empty for accuracy, or Pearson
            and Spearman for regression.
        on_bad: Whether the first bad row stops the reading, or bad rows are left out and counted.

    Raises:
        ValueError: If a field has a value it cannot have; the line names both.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    name: str | None = None
    metrics: tuple[str, ...] = ()
    on_bad: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        for file in self._files.values():
            endings(Path(file))
        columns = (*self.text, self.label)
        if len(self.text) not in (1, 2):
            raise ValueError(f"text is {self.text!r}; needs a tuple of one or two columns")
        if len(set(columns)) != len(columns):
            raise ValueError(f"text and label are {columns}; needs different columns")
        if len(self.labels) == 1 or len(set(self.labels)) != len(self.labels):
            raise ValueError(
                f"labels is {self.labels!r}; needs two or more different names, () for regression"
            )
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise ValueError(f"unknown metric {unknown[0]!r}; allowed: {', '.join(METRICS)}")
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is {self.on_bad!r}; allowed: stop, skip")

    def task(self) -> Task:
        """The task that these files make."""
        name = self.name or endings(Path(self.train))[0]
        by_kind = ("accuracy",) if self.labels else ("pearson", "spearman")
        return Task(
            name=name,
            title=name,
            text=self.text,
            columns=self.text,
            labels=self.labels,
            spelling=self.labels,
            label_column=self.label,
            dev=("validation",) if self.validation is not None else (),
            test=("test",) if self.test is not None else (),
            metrics=self.metrics or by_kind,
        )

    def read(self, split: str) -> Examples:
        """All good rows of one split, in file order.

        Returns:
            `idx` counts all rows of the file from 0, so bad rows that were skipped leave gaps.
            `labels` is None where a test file has no label column (in .jsonl: in no row).

        Raises:
            FileNotFoundError: If the split's file is not there.
            ValueError: If there is no such split, the file cannot be read, no row is good, or,
                unless they are skipped, at the first bad row, with file and row: the line a row
                begins at, or in .parquet its number from 1.
        """
        path = self._path(split)
        labelled = split != "test" or self._has_labels(path)
        columns = (*self.text, self.label) if labelled else self.text
        texts, labels, idx, bad = [], [], [], Counter()
        for index, (number, cells) in enumerate(read_rows(path, columns)):
            try:
                row_texts, label = self._parse(cells, labelled)
            except BadRow as fault:
                if self.on_bad == "stop":
                    raise ValueError(f"{path}:{number}: {fault}") from None
                bad[fault.reason] += 1
                continue
            texts.append(row_texts)
            labels.append(label)
            idx.append(index)
        _report(path, len(idx), bad)
        dtype = np.int32 if self.labels else np.float32
        return Examples(
            tuple(list(column) for column in zip(*texts, strict=True)),
            np.asarray(labels, dtype) if labelled else None,
            np.asarray(idx, np.int32),
        )

    @property
    def _files(self) -> dict[str, str]:
        files = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: file for split, file in files.items() if file is not None}

    def _path(self, split: str) -> Path:
        if split not in self._files:
            raise ValueError(f"no file for split {split!r}; there is {', '.join(self._files)}")
        path = Path(self._files[split])
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; it is to hold the split {split!r}")
        return path

    def _has_labels(self, path: Path) -> bool:
        """Whether any row has a label; which rows then lack one is the business of `_parse`."""
        found = read_rows(path, (*self.text, self.label), optional=self.label)
        return any(self.label in cells for _, cells in found if not isinstance(cells, BadRow))

    def _parse(
        self, cells: dict[str, Any] | BadRow, labelled: bool
    ) -> tuple[list[str], int | float | None]:
        """Texts and label of one row; raises BadRow."""
        if isinstance(cells, BadRow):
            raise cells
        columns = (*self.text, self.label) if labelled else self.text
        for name in columns:
            if name not in cells:
                raise BadRow("missing column", f"no {name!r}; the row has {listed(cells)}")
        texts = [check_text(name, cells[name]) for name in self.text]
        return texts, self._parse_label(text_form(cells[self.label])) if labelled else None

    def _parse_label(self, text: str) -> int | float:
        if self.labels:
            if text in self.labels:
                return self.labels.index(text)
            allowed = ", ".join(self.labels)
            raise BadRow("unknown label", f"{self.label} is {text!r:.80}; allowed: {allowed}")
        try:
            score = float(text)
        except ValueError:
            score = np.nan
        if abs(score) <= _LARGEST_SCORE:
            return score
        raise BadRow("bad score", f"{self.label} is {text!r:.80}; allowed: a finite number")


def _report(path: Path, good: int, bad: Counter[str]) -> None:
    """Says what was skipped; raises ValueError where nothing is left."""
    counts = ", ".join(f"{count} {reason}" for reason, count in bad.most_common())
    if not good:
        raise ValueError(f"{path}: no rows" + (f" but bad ones: {counts}" if bad else ""))
    if bad:
        total = bad.total() + good
        log.warning("%s: %d of %d rows skipped: %s", path, bad.total(), total, counts)
