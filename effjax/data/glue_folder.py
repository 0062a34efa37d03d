"""GLUE's official folders: TSV files in, `Examples` out.

The layout is GLUE's own: `train.tsv`, `dev.tsv`, `test.tsv` (for MNLI `dev_matched.tsv` and so on),
tabs between columns, quotes with no meaning, a header line everywhere but in CoLA's labelled files.
What the files of a task call their columns and labels is in `effjax.data.tasks`. Row numbers count
from 0 within a file, bad rows included, as in TFDS, and are the index that a submission file
carries.

Official files have bad rows too: some of QQP's training rows lack columns, and TFDS leaves them out
as skipping does; two have an empty question, and those TFDS keeps.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from effjax.data.bad_rows import (
    STOP,
    BadRow,
    BadRows,
    check_class,
    check_score,
    check_text,
    parsed,
)
from effjax.data.examples import Examples
from effjax.data.table_rows import check_header, tsv_lines
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


def read_official(task: Task, source: Path, split: str, bad: BadRows = STOP) -> Examples:
    """Reads one official TSV file.

    Args:
        task: A GLUE task.
        source: The official folder.
        split: One of `task.splits`.
        bad: What becomes of a row with missing columns, an empty text, a NUL byte, bytes that are
            not UTF-8, or a label outside the task's set or range. Rows of test splits are never
            skipped: a submission needs them all, at their own numbers.

    Returns:
        The good rows in file order; `idx` counts all rows, so skipped ones leave gaps. `labels` is
        None for test splits.

    Raises:
        ValueError: If the file has no good row, its header lacks a column, or at a bad row, unless
            it is skipped, with file and line.
    """
    path, labelled = source / official_file(split), task.has_labels(split)
    wanted = (*task.columns, task.label_column) if labelled else task.columns
    lines = _lines(path, wanted, task.headerless if labelled else ())
    found = parsed(lines, partial(_parse, task, labelled))
    idx, rows = bad.sift(path, found, needed=not labelled)
    texts, labels = zip(*rows, strict=True)
    dtype = np.float32 if task.regression else np.int32
    return Examples(
        tuple(list(column) for column in zip(*texts, strict=True)),
        np.asarray(labels, dtype) if labelled else None,
        np.asarray(idx, np.int32),
    )


def _lines(
    path: Path, wanted: tuple[str, ...], header: tuple[str, ...]
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yields (line number, the wanted cells) for every row.

    Blank lines are no rows and cells beyond the header are left alone, as in TFDS; a stray tab that
    shifts the label is caught where the label is parsed.
    """
    # utf-8-sig: MRPC is distributed with a byte-order mark, which would become part of the first
    # column's name.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = tsv_lines(file)
        names = header or next(lines, (1, []))[1]
        check_header(path, names, wanted)
        at = [names.index(name) for name in wanted]
        for number, cells in lines:
            if len(cells) > max(at):
                yield number, [cells[i] for i in at]
            else:
                counts = f"{len(cells)} columns, needs at least {max(at) + 1}"
                yield number, BadRow("missing column", counts)


def _parse(task: Task, labelled: bool, cells: list[str]) -> tuple[list[str], int | float | None]:
    """Texts of one row and its class id or score; raises BadRow."""
    texts = [check_text(*cell) for cell in zip(task.columns, cells, strict=False)]
    if not labelled:
        return texts, None
    if task.regression:
        return texts, check_score(task.label_column, cells[-1], task.score_range)
    return texts, check_class(task.label_column, cells[-1], task.spelling)
