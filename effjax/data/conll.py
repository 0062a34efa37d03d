"""CoNLL files, and TFDS's rows of them: tagged sentences in and out.

A file has a word per line, columns parted by spaces or tabs, and a blank line between sentences.
Rows are those of `conll2003/conll2003` in TFDS.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.bad_rows import STOP, BadRow, BadRows, check_text, parsed
from effjax.data.entities import beginnings, scheme, to_iob2
from effjax.data.tagging import TaggedSentences

# Only these two part columns: a no-break space may be inside a word.
_CELL = re.compile(r"[^ \t]+")


@dataclass(frozen=True)
class _Block:
    """A sentence of a file: its lines' numbers from 1, cells by column."""

    lines: list[int]
    columns: list[list[str]]
    tags: np.ndarray | None = None


def between(features: Any) -> dict[str, list[str]]:
    """What TFDS knows in the columns between the word and the entity tag, by its names of them.

    Args:
        features: `builder.info.features`.
    """
    return {name: features[name].feature.names for name in ("pos", "chunks")}


def read_conll(
    path: str | Path,
    labels: Sequence[str],
    *,
    column: int | None = -1,
    others: Mapping[str, Sequence[str]] | None = None,
    bad: BadRows = STOP,
) -> TaggedSentences:
    """Reads a file with a word per line and a blank line between sentences.

    Columns are parted by spaces or tabs, the word is the first, and `-DOCSTART-` lines are no
    words. Tags may be IOB1, as the shared task distributed them, or IOB2; what comes out is IOB2,
    in the other columns too.

    Args:
        path: The file.
        labels: The tags in id order.
        column: Where the tag is, negative from the end; None for a file without tags.
        others: Names of the columns that are neither word nor tag, and what each may hold; None for
            any columns.
        bad: What becomes of a sentence with a line that has another number of columns than the
            first, an empty word, a NUL byte, bytes that are not UTF-8, a tag that is not in
            `labels` or not in the file's scheme, or a cell that is not in `others`.

    Returns:
        The good sentences; `idx` counts all sentences, so skipped ones leave gaps.

    Raises:
        ValueError: If there is no such column, a column too few or too many, no good sentence, or
            at a bad line, unless its sentence is skipped, with file and line.
    """
    path = Path(path)
    raw = _raw_blocks(path)
    width = _width(path, raw, column)
    places = [i for i in range(1, width) if column is None or i != column % width]
    if others is not None and len(places) != len(others):
        needed = ", ".join(["word", *others] + ["tag"] * (column is not None))
        raise ValueError(f"{path}: {width} columns; needs {needed}")
    found = list(parsed(((block[0][0], block) for block in raw), partial(_parse, width)))
    if column is not None:
        kind = scheme([block.columns[column] for _, block in found if isinstance(block, _Block)])
        found = parsed(found, partial(_tag, column, kind, labels))
    for place, (name, allowed) in zip(places, (others or {}).items(), strict=False):
        found = parsed(found, partial(_known, place, name, allowed))
    idx, blocks = bad.sift(path, found, "sentences")
    tags = [block.tags for block in blocks if block.tags is not None]
    return TaggedSentences(
        [block.columns[0] for block in blocks],
        None if column is None else tags,
        np.array(idx, np.int32),
        tuple(_uniform([block.columns[i] for block in blocks]) for i in places),
    )


def to_rows(sentences: TaggedSentences, features: Any) -> list[dict[str, Any]]:
    """Sentences as the rows of TFDS's `conll2003/conll2003`.

    These are the rows that TFDS itself prepares from the same file, but for one: where a file ends
    in a blank line, TFDS's reader adds a sentence of no words.

    Args:
        sentences: Read with `others=between(features)`; tag ids in TFDS's order.
        features: `builder.info.features`.
    """
    assert sentences.tags is not None
    rows = [
        {"tokens": tokens, "ner": tags.tolist()}
        for tokens, tags in zip(sentences.tokens, sentences.tags, strict=True)
    ]
    for (name, known), column in zip(between(features).items(), sentences.others, strict=True):
        ids = {text: i for i, text in enumerate(known)}
        for row, cells in zip(rows, column, strict=True):
            row[name] = [ids[cell] for cell in cells]
    return rows


def from_rows(rows: Iterable[Mapping[str, Any]], features: Any) -> TaggedSentences:
    """The inverse of `to_rows`, for rows of a TFDS data source; rows without words are left out.

    The dataset has no index, and TFDS shuffles what it prepares: `idx` counts the rows as they
    come.
    """
    kept = [row for row in rows if len(row["tokens"])]
    tokens = [[w.decode() if isinstance(w, bytes) else w for w in row["tokens"]] for row in kept]
    others = tuple(
        [[known[i] for i in row[name]] for row in kept] for name, known in between(features).items()
    )
    tags = [np.asarray(row["ner"], np.int32) for row in kept]
    return TaggedSentences(tokens, tags, np.arange(len(kept), dtype=np.int32), others)


def _raw_blocks(path: Path) -> list[list[tuple[int, bytes]]]:
    """The lines of every sentence with their numbers, undecoded: one bad byte spoils one line."""
    blocks: list[list[tuple[int, bytes]]] = [[]]
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.startswith(b"-DOCSTART-") or not line.strip():
            blocks.append([])
        else:
            blocks[-1].append((number, line.rstrip(b"\r")))
    return [block for block in blocks if block]


def _width(path: Path, raw: list[list[tuple[int, bytes]]], column: int | None) -> int:
    """Columns of the first line; what its bytes mean does not matter for counting them."""
    if not raw:
        raise ValueError(f"{path}: no sentences")
    line, content = raw[0][0]
    width = len(_CELL.findall(content.decode("latin-1")))
    if column is not None and not -width <= column < width:
        raise ValueError(f"{path}:{line}: no column {column}; the line has {width}")
    return width


def _parse(width: int, raw: list[tuple[int, bytes]]) -> _Block:
    """A sentence from its lines; raises BadRow."""
    rows = []
    for number, content in raw:
        line = content.decode("utf-8", "surrogateescape")
        rows.append(_CELL.findall(line))
        try:
            check_text("the line", line)
            check_text("the word", rows[-1][0])
        except BadRow as fault:
            raise BadRow(fault.reason, str(fault), number) from None
        if len(rows[-1]) != width:
            counts = f"{len(rows[-1])} columns; the first line has {width}"
            raise BadRow("wrong number of columns", counts, number)
    columns = [list(column) for column in zip(*rows, strict=True)]
    return _Block([number for number, _ in raw], columns)


def _tag(column: int, kind: str, labels: Sequence[str], block: _Block) -> _Block:
    """The block with its tag ids; raises BadRow."""
    written = block.columns[column]
    tags = to_iob2(written) if kind == "IOB1" else written
    for line, text, tag in zip(block.lines, written, tags, strict=True):
        if tag not in labels:
            raise BadRow("unknown tag", f"tag is {text!r}; allowed: {', '.join(labels)}", line)
    if odd := beginnings(written, "B-" if kind == "IOB1" else "I-"):
        tag = written[odd[0]]
        there = ("I" if kind == "IOB1" else "B") + tag[1:]
        fault = f"tag is {tag!r}; the file's scheme, {kind}, has {there} there"
        raise BadRow("tag not in the scheme", fault, block.lines[odd[0]])
    return replace(block, tags=np.array([labels.index(tag) for tag in tags], np.int32))


def _known(place: int, name: str, allowed: Sequence[str], block: _Block) -> _Block:
    """The same block; raises BadRow."""
    for line, cell in zip(block.lines, block.columns[place], strict=True):
        if cell not in allowed:
            fault = f"{name} is {cell!r}; allowed: {', '.join(allowed)}"
            raise BadRow(f"unknown {name}", fault, line)
    return block


def _uniform(column: list[list[str]]) -> list[list[str]]:
    """A further column in IOB2; one without such tags stays as it is."""
    return [to_iob2(cells) for cells in column] if scheme(column) == "IOB1" else column
