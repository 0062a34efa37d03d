"""IMDb reviews (aclImdb): the official folder in, `Examples` out, and the rows TFDS keeps.

The layout is the archive's own: `train/neg/0_3.txt` is review 0 of the negative training reviews,
rated 3 of 10. The same reviews in one file per split are read too: `train.jsonl.xz` and
`test.jsonl.xz` with the keys id (`train/neg/0_3`), text, label (0 or 1) and rating.

Either way the order is neg before pos, then by review number, which begins at 0 for each label. So
no review has an official number in its split, and `idx` counts those that are read. Texts are those
of TFDS `imdb_reviews/plain_text`: line breaks stay `<br />`, ASCII white space around a review is
dropped. The unlabelled reviews are not read.
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.bad_rows import (
    STOP,
    BadRow,
    BadRows,
    check_cells,
    check_class,
    check_text,
    parsed,
)
from effjax.data.examples import Examples
from effjax.data.table_rows import read_rows

SPLITS = ("train", "test")
LABELS = ("neg", "pos")  # in id order, as in TFDS

_PACKED = ".jsonl.xz"
_COLUMNS = ("id", "text", "label")

_Review = tuple[int, int, str]  # label and number, in the order of which they are read, and text


def read_official(folder: str | Path, split: str, bad: BadRows = STOP) -> Examples:
    """All reviews of one split.

    Args:
        folder: Holds `train` and `test` as in the archive, or `train.jsonl.xz` and `test.jsonl.xz`,
            which are taken first.
        split: "train" or "test".
        bad: What becomes of a review that is empty, holds a NUL byte or bytes that are not UTF-8,
            or has no such label or name.

    Raises:
        FileNotFoundError: If the split is there in neither layout, or has no reviews.
        ValueError: If there is no such split, no good review, or at a bad one, unless it is
            skipped, with its file and, in a single file, line.
    """
    if split not in SPLITS:
        raise ValueError(f"imdb: no split {split!r}; it has {', '.join(SPLITS)}")
    path = Path(folder, split + _PACKED)
    if path.is_file():
        found = parsed(read_rows(path, _COLUMNS), partial(_packed_review, split))
    else:
        path = Path(folder, split)
        found = parsed(_files(path), _review)
    _, reviews = bad.sift(path, found, "reviews")
    # The single file has ids sorted as strings.
    reviews = sorted(reviews, key=lambda review: review[:2])
    return _examples([text for *_, text in reviews], [label for label, *_ in reviews])


def to_rows(examples: Examples) -> list[dict[str, Any]]:
    """The features of TFDS `imdb_reviews/plain_text`: text and label, no number.

    Raises:
        ValueError: If there are no labels.
    """
    if examples.labels is None:
        raise ValueError("imdb: every review of train and test has a label; these have none")
    pairs = zip(examples.texts[0], examples.labels.tolist(), strict=True)
    return [{"text": text, "label": label} for text, label in pairs]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Examples:
    """Rows of TFDS, whose texts are bytes, in the order they come; the inverse of `to_rows`."""
    texts, labels = [], []
    for row in rows:
        text = row["text"]
        texts.append(text.decode() if isinstance(text, bytes) else text)
        labels.append(row["label"])
    return _examples(texts, labels)


def _examples(texts: list[str], labels: list[int]) -> Examples:
    return Examples((texts,), np.asarray(labels, np.int32), np.arange(len(texts), dtype=np.int32))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file of one split in the archive's layout."""
    for name in LABELS:
        files = sorted(Path(folder, name).glob("*.txt"))
        if not files:
            kind = "no reviews" if Path(folder, name).is_dir() else "no such folder"
            needed = f"NUMBER_RATING.txt files as in aclImdb, or {folder}{_PACKED}"
            raise FileNotFoundError(f"{folder / name}: {kind}; needs {needed}")
        yield from ((str(file), file) for file in files)


def _review(file: Path) -> _Review:
    """The review in one file of the archive's layout; raises BadRow."""
    match = re.fullmatch(r"(\d+)_\d+\.txt", file.name)
    if not match:
        allowed = "NUMBER_RATING.txt"
        raise BadRow("bad name", f"not the name of a review; allowed: {allowed}")
    # Bytes, since text mode would change line ends.
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    text = check_text("review", text).strip(string.whitespace)
    return LABELS.index(file.parent.name), int(match[1]), text


def _packed_review(split: str, row: Mapping[str, Any]) -> _Review:
    """The review in one row of a single file; raises BadRow."""
    check_cells(row, _COLUMNS)
    name, text = (check_text(column, row[column]) for column in ("id", "text"))
    label = check_class("label", row["label"], ("0", "1"))
    if match := re.fullmatch(rf"{split}/{LABELS[label]}/(\d+)_\d+", name):
        return label, int(match[1]), text.strip(string.whitespace)
    allowed = f"{split}/{LABELS[label]}/NUMBER_RATING"
    raise BadRow("bad id", f"id is {name!r:.80}; for label {label} allowed: {allowed}")
