"""Formats: what a task's official files and its rows in TFDS look like.

A format reads the official files of a split, and turns examples into TFDS's rows and back.
Importing and loading (`effjax.data.datasets`) know no dataset beyond this table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data import conll, glue_folder, imdb, squad
from effjax.data.bad_rows import BadRows
from effjax.data.examples import AnyExamples, Examples
from effjax.data.tasks import Task

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """One family of datasets.

    Attributes:
        check: raises FileNotFoundError, naming them, where a folder lacks files of the task.
        read: the good examples of a split out of an official folder, for a TFDS builder with these
            features.
        to_rows: examples as the builder's rows.
        from_rows: the way back; the split says whether labels are public.
    """

    check: Callable[[Task, Path], None]
    read: Callable[[Task, Path, str, Any, BadRows], Any]
    to_rows: Callable[[Task, Any, Any], Rows]
    from_rows: Callable[[Task, Iterable[Mapping[str, Any]], Any, str], AnyExamples]


def glue_to_rows(task: Task, examples: Examples, features: Any) -> Rows:
    """Labels that are not public are -1, as TFDS has them."""
    del features
    hidden = -1.0 if task.regression else -1
    labels = [hidden] * len(examples) if examples.labels is None else examples.labels.tolist()
    columns = zip(*examples.texts, strict=True)
    return [
        {**dict(zip(task.text, texts, strict=True)), "label": label, "idx": int(idx)}
        for texts, label, idx in zip(columns, labels, examples.idx, strict=True)
    ]


def glue_from_rows(
    task: Task, rows: Iterable[Mapping[str, Any]], features: Any, split: str
) -> Examples:
    """In official order, by `idx`: TFDS shuffles its own."""
    del features
    rows = sorted(rows, key=lambda row: row["idx"])
    texts = tuple([row[column].decode() for row in rows] for column in task.text)
    dtype = np.float32 if task.regression else np.int32
    labels = np.asarray([row["label"] for row in rows], dtype) if task.has_labels(split) else None
    return Examples(texts, labels, np.asarray([row["idx"] for row in rows], np.int32))


def check_files(task: Task, folder: Path) -> None:
    """Every split's file, by `task.files`."""
    if missing := [name for name in task.files if not (folder / name).is_file()]:
        wanted = ", ".join(task.files)
        raise FileNotFoundError(f"{folder}: no {', '.join(missing)}; {task.name} needs {wanted}")


def file_of(task: Task, folder: Path, split: str) -> Path:
    """The official file of a split."""
    return folder / task.files[task.splits.index(split)]


FORMATS: dict[str, Format] = {
    "glue": Format(
        glue_folder.check_folder,
        lambda task, folder, split, features, bad: glue_folder.read_official(
            task, folder, split, bad
        ),
        glue_to_rows,
        glue_from_rows,
    ),
    "imdb": Format(
        lambda task, folder: None,  # two layouts: the reader says what it looked for
        lambda task, folder, split, features, bad: imdb.read_official(folder, split, bad),
        lambda task, examples, features: imdb.to_rows(examples),
        lambda task, rows, features, split: imdb.from_rows(rows),
    ),
    "squad": Format(
        check_files,
        lambda task, folder, split, features, bad: squad.read_official(
            file_of(task, folder, split), bad, version=task.name.partition("/")[2]
        ),
        lambda task, examples, features: squad.to_rows(examples),
        lambda task, rows, features, split: squad.from_rows(rows),
    ),
    "conll": Format(
        check_files,
        lambda task, folder, split, features, bad: conll.read_conll(
            file_of(task, folder, split), task.labels, others=conll.between(features), bad=bad
        ),
        lambda task, examples, features: conll.to_rows(examples, features),
        lambda task, rows, features, split: conll.from_rows(rows, features),
    ),
}
