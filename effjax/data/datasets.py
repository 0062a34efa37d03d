"""Datasets on disk: official folders into TFDS, and TFDS or generated data into `Examples`.

`import_folder` writes what TFDS itself would have prepared (the builder's own features, version and
folder, in array_record, the format that can be read without TensorFlow), so afterwards
`tfds.data_source("glue/sst2")` works everywhere, not only here. `load` is the one way from a task
and a split to `Examples`.

TFDS is imported inside functions: naming tasks must stay fast.
"""

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effjax.data.bad_rows import STOP, BadRows
from effjax.data.examples import AnyExamples
from effjax.data.formats import FORMATS, Rows
from effjax.data.tasks import Task

# A host that TFDS downloads from. TFDS retries an unreachable one for more than three minutes, so
# whether there is a network is asked first.
_PROBE_URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
_PROBE_SECONDS = 5.0

_ROWS = 256
"""Texts that are read at once; books of pg19 have 0.4 MB each."""


def load(task: Task, split: str, data_dir: str | Path | None = None) -> Any:
    """All examples of one split, in official order where TFDS keeps one: `Examples`, `Questions` or
    `TaggedSentences`, by the task's kind.

    A TFDS dataset that is not on disk is downloaded and prepared by TFDS where its host can be
    reached.

    Args:
        task: From `get_task`.
        split: One of `task.splits`.
        data_dir: TFDS's data folder; None is TFDS's default (TFDS_DATA_DIR, or tensorflow_datasets
            in the home folder).

    Raises:
        ValueError: If the task has no such split, or the dataset on disk cannot be read.
        FileNotFoundError: If the dataset is neither on disk nor can be downloaded; the line has the
            import command.
    """
    task.check_split(split)
    if task.source == "generated":
        from effjax.data import toy

        return toy.examples(split)
    builder = _builder(task.tfds_name, data_dir)
    otherwise = f"run: effjax data import {task.tfds_name} --source FOLDER"
    return _read(task, _there(task.tfds_name, builder, otherwise), split)


def stored_texts(name: str, column: str, data_dir: str | Path | None = None) -> Iterator[str]:
    """One column of the training split of any TFDS dataset, a few rows at a time, downloaded where
    it is not on disk.

    Args:
        data_dir: As in `load`.

    Raises:
        ValueError: If the dataset on disk cannot be read.
        FileNotFoundError: If it is neither on disk nor can be downloaded; the line has the extra of
            effjax that this takes.
    """
    otherwise = "install effjax[corpora], what TFDS prepares it with, or give text files instead"
    builder = _there(name, _builder(name, data_dir), otherwise)
    count = builder.info.splits["train"].num_examples
    for start in range(0, count, _ROWS):
        for row in _raw(builder, f"train[{start}:{min(start + _ROWS, count)}]"):
            yield row[column].decode()


def import_folder(
    task: Task, source: str | Path, data_dir: str | Path | None = None, bad: BadRows = STOP
) -> Path:
    """Turns a folder in a task's official layout into the TFDS dataset of the same name.

    The dataset appears under its name only when complete. Importing the same content again changes
    nothing.

    Args:
        task: Any that is not generated.
        source: The folder with the official files; for GLUE train.tsv, dev.tsv and test.tsv.
        data_dir: As in `load`.
        bad: What becomes of bad rows, and where they are counted. GLUE's rows keep their official
            numbers where others are skipped, and no row of its test files is.

    Returns:
        The dataset's folder.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a row is bad and not skipped, or the dataset exists with other content.
    """
    if task.source != "tfds":
        raise ValueError(f"{task.name} is generated; there is nothing to import")
    form, folder = FORMATS[task.format], Path(source)
    form.check(task, folder)
    builder = _builder(task.tfds_name, data_dir)
    features = builder.info.features
    splits = {split: form.read(task, folder, split, features, bad) for split in task.splits}
    if builder.data_path.exists():
        _check_identical(task, builder, splits)
    else:
        _write(task, builder, splits)
    return Path(builder.data_dir)


def _builder(name: str, data_dir: str | Path | None) -> Any:
    """TFDS's own builder: it owns the features, the version and the place on disk."""
    import tensorflow_datasets as tfds

    # TFDS reads what is on disk here, and fails in as many ways as files can be broken.
    try:
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except Exception as error:
        where, reason = data_dir or "TFDS's default folder", _one_line(error)
        raise ValueError(f"{name} in {where} cannot be opened by TFDS: {reason}") from error


def _read(task: Task, builder: Any, split: str) -> AnyExamples:
    """One split through TFDS's random-access reader."""
    return FORMATS[task.format].from_rows(task, _raw(builder, split), builder.info.features, split)


def _raw(builder: Any, split: str) -> Any:
    """The rows of one split as TFDS has them."""
    # A dataset may be cut short or in another file format; which error comes is TFDS's affair.
    try:
        source = builder.as_data_source(split=split)
        return source.__getitems__(list(range(len(source))))  # one by one is five times slower
    except Exception as error:
        place, reason = builder.data_dir, _one_line(error)
        raise ValueError(f"{place}: split {split!r} cannot be read: {reason}") from error


def _there(name: str, builder: Any, otherwise: str) -> Any:
    """The builder, once its dataset is on disk, where TFDS prepares it; any failure becomes the one
    line that says how to go on.
    """
    if builder.data_path.exists():
        return builder
    # No network, a moved file, a changed checksum, a full disk: the way on is the same.
    try:
        probe = urllib.request.Request(_PROBE_URL, method="HEAD")
        urllib.request.urlopen(probe, timeout=_PROBE_SECONDS).close()
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        reason = _one_line(error)
        missing = f"{name} is not in {builder.data_dir} and cannot be downloaded ({reason})"
        raise FileNotFoundError(f"{missing}; {otherwise}") from error
    return builder


def _write(task: Task, builder: Any, splits: dict[str, AnyExamples]) -> None:
    """Writes beside the dataset's place, then renames."""
    import tensorflow_datasets as tfds

    target = Path(builder.data_dir)
    root = target.parents[2]  # root/glue/sst2/2.0.0
    root.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".importing-", dir=root))
    try:
        draft = tfds.builder(task.tfds_name, data_dir=beside, file_format="array_record")
        draft.data_path.mkdir(parents=True)
        writer = tfds.core.SequentialWriter(
            draft.info, max_examples_per_shard=1_000_000, file_format="array_record"
        )
        writer.initialize_splits(list(splits))
        writer.add_examples({name: _rows(task, builder, rows) for name, rows in splits.items()})
        writer.close_all()
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(draft.data_path, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _rows(task: Task, builder: Any, examples: AnyExamples) -> Rows:
    return FORMATS[task.format].to_rows(task, examples, builder.info.features)


def _check_identical(task: Task, builder: Any, splits: dict[str, AnyExamples]) -> None:
    """Raises ValueError unless the dataset on disk holds exactly these rows, in whatever order."""
    for split, wanted in splits.items():
        found = _read(task, builder, split)
        one, other = (sorted(map(repr, _rows(task, builder, x))) for x in (found, wanted))
        if one != other:
            place = builder.data_dir
            raise ValueError(f"{place} exists with other rows in {split!r}; remove it to import")


def _one_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
