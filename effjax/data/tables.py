"""A user's own TSV, CSV, JSONL or Parquet files as a task.

`TextFiles` is what a recipe says about them: a file per split, which columns hold text and label,
what the labels are called, what becomes of bad rows (`effjax.data.bad_rows`). The formats are
`effjax.data.table_rows`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.bad_rows import (
    BadRow,
    BadRows,
    check_cells,
    check_class,
    check_score,
    check_text,
    parsed,
)
from effjax.data.examples import Examples
from effjax.data.metrics import METRICS, OF_SCORES
from effjax.data.own_files import OwnFiles, check_names
from effjax.data.table_rows import endings, read_rows
from effjax.data.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TextFiles(OwnFiles):
    """Labelled texts in files of one's own, of which the names' endings give the format; that of
    the test split may lack the label column.

    Args:
        text: Column of the text, or the two columns of a pair.
        label: Column of the label. Numbers and booleans in .jsonl and .parquet are matched by
            their JSON form: `1`, `true`.
        labels: Class names in id order, as they stand in the files; empty for regression, where
            the label is a score.
        metrics: Names from `effjax.data.metrics` that fit what is predicted, headline first; empty
            for accuracy, or Pearson and Spearman for regression.
        train, validation, test, name, on_bad: As of `OwnFiles`.

    Raises:
        ValueError: If a field has a value it cannot have; the line names both.
    """

    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for file in self.files.values():
            endings(Path(file))
        check_names("text", self.text)
        check_names("labels", self.labels)
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
        fitting = [name for name in METRICS if (name in OF_SCORES) != bool(self.labels)]
        if self.labels and len(self.labels) != 2:
            fitting.remove("f1")
        if wrong := [name for name in self.metrics if name not in fitting]:
            what = f"{len(self.labels)} classes" if self.labels else "a score"
            raise ValueError(
                f"metric {wrong[0]!r} is not for {what}; allowed: {', '.join(fitting)}"
            )

    def task(self) -> Task:
        """The task that these files make."""
        by_kind = ("accuracy",) if self.labels else ("pearson", "spearman")
        return Task(
            **self.fields(endings(Path(self.train))[0]),
            text=self.text,
            columns=self.text,
            labels=self.labels,
            spelling=self.labels,
            label_column=self.label,
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
        path = self.path(split)
        labelled = split != "test" or self._has_labels(path)
        columns = (*self.text, self.label) if labelled else self.text
        found = parsed(read_rows(path, columns), lambda cells: self._parse(cells, columns))
        idx, rows = BadRows(self.on_bad).sift(path, found)
        texts, labels = zip(*rows, strict=True)
        dtype = np.int32 if self.labels else np.float32
        return Examples(
            tuple(list(column) for column in zip(*texts, strict=True)),
            np.asarray(labels, dtype) if labelled else None,
            np.asarray(idx, np.int32),
        )

    def _has_labels(self, path: Path) -> bool:
        """Whether any row has a label; which rows then lack one is the business of `_parse`."""
        found = read_rows(path, (*self.text, self.label), optional=self.label)
        return any(self.label in cells for _, cells in found if not isinstance(cells, BadRow))

    def _parse(
        self, cells: dict[str, Any], columns: tuple[str, ...]
    ) -> tuple[list[str], int | float | None]:
        """Texts and label of one row; raises BadRow."""
        check_cells(cells, columns)
        texts = [check_text(name, cells[name]) for name in self.text]
        if self.label not in columns:
            return texts, None
        if self.labels:
            return texts, check_class(self.label, cells[self.label], self.labels)
        return texts, check_score(self.label, cells[self.label])
