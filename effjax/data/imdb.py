"""IMDb reviews (aclImdb): the official folder in, `Examples` out, and the rows TFDS keeps.

The layout is the archive's own: `train/neg/0_3.txt` is review 0 of the negative training reviews,
rated 3 of 10. The same reviews in one file per split are read too: `train.jsonl.xz` and
`test.jsonl.xz` with the keys id (`train/neg/0_3`), text, label (0 or 1) and rating.

Either way the order is neg before pos, then by review number, and `idx` counts in that order: the
archive numbers each folder from 0. Texts are those of TFDS `imdb_reviews/plain_text`: line breaks
stay `<br />`, ASCII white space around a review is dropped. The unlabelled reviews are not read.
"""

import re
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.examples import Examples
from effjax.data.table_rows import BadRow, check_text
from effjax.data.tables import TextFiles

SPLITS = ("train", "test")
LABELS = ("neg", "pos")  # in id order, as in TFDS

_PACKED = ".jsonl.xz"


def read_official(folder: str | Path, split: str) -> Examples:
    """All reviews of one split.

    Args:
        folder: Holds `train` and `test` as in the archive, or `train.jsonl.xz` and `test.jsonl.xz`,
            which are taken first.
        split: "train" or "test".

    Raises:
        FileNotFoundError: If the split is there in neither layout, or has no reviews.
        ValueError: If there is no such split, or a review or its name is bad.
    """
    if split not in SPLITS:
        raise ValueError(f"imdb: no split {split!r}; it has {', '.join(SPLITS)}")
    packed = Path(folder, split + _PACKED)
    texts, labels = _read_packed(packed) if packed.is_file() else _read_folders(Path(folder, split))
    return _examples(texts, labels)


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


def _read_folders(folder: Path) -> tuple[list[str], list[int]]:
    """Texts and labels of one split in the archive's layout."""
    texts, labels = [], []
    for label, name in enumerate(LABELS):
        found = sorted((_number(path), path) for path in Path(folder, name).glob("*.txt"))
        if not found:
            kind = "no reviews" if Path(folder, name).is_dir() else "no such folder"
            needed = f"NUMBER_RATING.txt files as in aclImdb, or {folder}{_PACKED}"
            raise FileNotFoundError(f"{folder / name}: {kind}; needs {needed}")
        texts += [_review(path) for _, path in found]
        labels += [label] * len(found)
    return texts, labels


def _number(path: Path) -> int:
    if match := re.fullmatch(r"(\d+)_\d+\.txt", path.name):
        return int(match[1])
    raise ValueError(f"{path}: not the name of a review; allowed: NUMBER_RATING.txt")


def _review(path: Path) -> str:
    # Bytes, since text mode would change line ends.
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    try:
        return check_text("review", text).strip(string.whitespace)
    except BadRow as fault:
        raise ValueError(f"{path}: {fault}") from None


def _read_packed(file: Path) -> tuple[list[str], list[int]]:
    """Texts and labels of one split from its single file, sorted: there ids sort as strings."""
    # The id is read as a first text, to sort by.
    table = TextFiles(train=str(file), text=("id", "text"), label="label", labels=("0", "1"))
    examples = table.read("train")
    assert examples.labels is not None  # as in every training split
    reviews = [
        (label, _packed_number(file, name, label), text.strip(string.whitespace))
        for name, text, label in zip(*examples.texts, examples.labels.tolist(), strict=True)
    ]
    reviews.sort(key=lambda review: review[:2])
    return [text for *_, text in reviews], [label for label, *_ in reviews]


def _packed_number(file: Path, name: str, label: int) -> int:
    split = file.name.removesuffix(_PACKED)
    if match := re.fullmatch(rf"{split}/{LABELS[label]}/(\d+)_\d+", name):
        return int(match[1])
    wanted = f"{split}/{LABELS[label]}/NUMBER_RATING"
    raise ValueError(f"{file}: id is {name!r:.80}; for label {label} allowed: {wanted}")
