"""GLUE's official folders: TSV files in, `Examples` out.

The layout is GLUE's own: `train.tsv`, `dev.tsv`, `test.tsv` (for MNLI `dev_matched.tsv` and so on),
tabs between columns, quotes with no meaning, a header line everywhere but in CoLA's labelled files.
What the files of a task call their columns and labels is in `effjax.data.tasks`. Row numbers count
from 0 within a file, as in TFDS, and are the index that a submission file carries.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from effjax.data.examples import Examples
from effjax.data.tasks import Task


def official_file(split: str) -> str:
    """The file name of a TFDS split: `validation_matched` is `dev_matched.tsv`."""
    return split.replace("validation", "dev") + ".tsv"


def check_folder(task: Task, source: Path) -> None:
    """Raises FileNotFoundError naming every official file of `task` that `source` lacks."""
    files = [official_file(split) for split in task.splits]
    if missing := [name for name in files if not (source / name).is_file()]:
        wanted = ", ".join(files)
        raise FileNotFoundError(f"{source}: no {', '.join(missing)}; {task.name} needs {wanted}")


def read_official(task: Task, source: Path, split: str) -> Examples:
    """Reads one official TSV file.

    Returns:
        All rows in file order; `labels` is None for test splits.

    Raises:
        ValueError: At the first row with missing columns or a label outside the task's set, with
            file and line.
    """
    path, labelled = source / official_file(split), task.has_labels(split)
    wanted = (*task.columns, task.label_column) if labelled else task.columns
    header = task.headerless if labelled else ()
    texts: list[list[str]] = [[] for _ in task.columns]
    labels: list[int | float] = []
    for line, cells in _rows(path, wanted, header):
        for column, cell in zip(texts, cells, strict=False):
            column.append(cell)
        if labelled:
            labels.append(_parse_label(task, cells[-1], f"{path}:{line}"))
    dtype = np.float32 if task.regression else np.int32
    idx = np.arange(len(texts[0]), dtype=np.int32)
    return Examples(tuple(texts), np.asarray(labels, dtype) if labelled else None, idx)


def _parse_label(task: Task, text: str, where: str) -> int | float:
    """A class id, or a score within the task's range; `where` starts the error line.

    Raises:
        ValueError: If the text is neither.
    """
    if not task.regression:
        if text in task.spelling:
            return task.spelling.index(text)
        allowed = ", ".join(task.spelling)
        raise ValueError(f"{where}: {task.label_column} is {text!r}; allowed: {allowed}")
    low, high = task.score_range or (-np.inf, np.inf)
    try:
        score = float(text)
    except ValueError:
        score = np.nan
    if low <= score <= high:
        return score
    raise ValueError(f"{where}: {task.label_column} is {text!r}; allowed: a number {low} to {high}")


def _rows(
    path: Path, wanted: tuple[str, ...], header: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, the wanted cells) for every row.

    Blank lines are no rows and cells beyond the header are left alone, as in TFDS; a stray tab that
    shifts the label is caught where the label is parsed.
    """
    # utf-8-sig: MRPC is distributed with a byte-order mark, which would become part of the first
    # column's name.
    with path.open(encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            names = header or tuple(next(reader, ()))
            if missing := [name for name in wanted if name not in names]:
                found = ", ".join(names) or "nothing"
                raise ValueError(
                    f"{path}:1: no column {', '.join(missing)}; the header has {found}"
                )
            at = [names.index(name) for name in wanted]
            for row in filter(None, reader):
                if len(row) <= max(at):
                    need = f"at least {max(at) + 1}"
                    raise ValueError(f"{path}:{reader.line_num}: {len(row)} columns, needs {need}")
                yield reader.line_num, [row[i] for i in at]
        except UnicodeDecodeError as error:
            line = reader.line_num
            raise ValueError(f"{path}: not UTF-8 text after line {line}: {error.reason}") from error
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: {error}") from error
