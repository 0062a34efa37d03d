"""Bad rows: what makes a row of a file bad, and what becomes of it.

A reader yields every row with its place, and in the stead of a row that is bad a `BadRow`. `parsed`
takes such rows to their next form, and `BadRows` applies the choice, stop or skip, once around it:

    idx, rows = bad.sift(path, parsed(lines, parse))

What is wrong with a whole file (a column that the header lacks, no JSON, no good row) is no bad
row: it ends the reading whatever the choice.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from effjax.choices import check_choices

log = logging.getLogger("effjax")

OnBad = Literal["stop", "skip"]
Place = int | str
"""Where a row is: a line of the file, or the place as an error line begins."""

_Raw = TypeVar("_Raw")
_Row = TypeVar("_Row")

# Text is decoded with `surrogateescape`, so that bytes that are not UTF-8 spoil one row and not the
# file. JSON can also spell half of a pair; neither TFDS nor a tokenizer takes one.
_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_SCORE = float(np.finfo(np.float32).max)


class BadRow(ValueError):
    """What is wrong with one row.

    Args:
        reason: The kind of fault, as it is counted.
        detail: The fault itself, with what is allowed.
        line: Its line, where a row has several.
    """

    def __init__(self, reason: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.line = line


@dataclass(frozen=True, eq=False)
class BadRows:
    """What becomes of bad rows, and how many were skipped so far, in whatever files.

    Args:
        on_bad: Whether the first bad row stops the reading, or bad rows are left out and counted.
        counts: Skipped rows by reason.

    Raises:
        ValueError: If `on_bad` is neither.
    """

    on_bad: OnBad = "stop"
    counts: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        check_choices(self)

    def sift(
        self,
        path: Path,
        rows: Iterable[tuple[Place, _Row | BadRow]],
        unit: str = "rows",
        needed: bool = False,
    ) -> tuple[list[int], list[_Row]]:
        """The good rows of one file; if some were skipped, one line in the log counts them.

        Args:
            path: The file, for error lines.
            rows: All its rows, the bad ones as `BadRow`.
            unit: What a row of this file is called.
            needed: Whether no row may be left out, as in a test file: a submission has a line for
                every row.

        Returns:
            The number of each good row among all rows, from 0, and the rows: skipping leaves gaps
            in the numbers and changes none.

        Raises:
            ValueError: At the first bad row, unless it may be skipped, with its place, fault and
                what is allowed; or if no row is good.
        """
        idx: list[int] = []
        good: list[_Row] = []
        faults: list[tuple[Place, BadRow]] = []
        for number, (place, row) in enumerate(rows):
            if not isinstance(row, BadRow):
                idx.append(number)
                good.append(row)
            elif needed or self.on_bad == "stop":
                raise ValueError(_line(path, place, row) + self._refusal(unit))
            else:
                faults.append((place, row))
        self._report(path, len(good), faults, unit)
        return idx, good

    def summary(self) -> str:
        """All that was skipped: `3 rows skipped: 2 empty text, 1 NUL byte`."""
        return f"{self.counts.total():,} rows skipped{_by_reason(self.counts)}"

    def _refusal(self, unit: str) -> str:
        """Why a row stops the reading although bad rows are to be skipped, if they are."""
        reason = f"; {unit} of a test file are not skipped: a submission needs them all"
        return reason if self.on_bad == "skip" else ""

    def _report(self, path: Path, good: int, faults: list[tuple[Place, BadRow]], unit: str) -> None:
        counts = Counter(fault.reason for _, fault in faults)
        if not good:
            raise ValueError(
                f"{path}: no {unit}" + (" but bad ones" if faults else "") + _by_reason(counts)
            )
        if faults:
            share = f"{len(faults):,} of {good + len(faults):,} {unit} of {path.name}"
            first = _line(path, *faults[0])
            log.warning("skipped %s%s; the first: %s", share, _by_reason(counts), first)
        self.counts.update(counts)


STOP = BadRows("stop")
"""The default of every reader. It may be shared, since what stops counts nothing."""


def parsed(
    rows: Iterable[tuple[Place, _Raw | BadRow]], parse: Callable[[_Raw], _Row]
) -> Iterator[tuple[Place, _Row | BadRow]]:
    """Rows as `parse` returns them, or the `BadRow` that it raises; bad rows stay as they are."""
    for place, raw in rows:
        try:
            row = raw if isinstance(raw, BadRow) else parse(raw)
        except BadRow as fault:
            row = fault
        yield place, row


def check_cells(row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raises BadRow unless the row has a cell in each of `columns`."""
    if missing := [name for name in columns if name not in row]:
        raise BadRow("missing column", f"no {listed(missing)}; the row has {listed(row)}")


def check_text(name: str, value: Any) -> str:
    """The value of column `name`, if it is a text to learn from; raises BadRow if not."""
    if not isinstance(value, str):
        raise BadRow("no string", f"{name} is {text_form(value)[:80]}; needs a string")
    if not value.strip():
        raise BadRow("empty text", f"{name} is empty")
    if "\0" in value:
        raise BadRow("NUL byte", f"{name} has a NUL byte at character {value.index(chr(0))}")
    if found := _SURROGATE.search(value):
        raise BadRow("not UTF-8", f"{name} is not UTF-8 text at character {found.start()}")
    return value


def check_class(name: str, value: Any, allowed: Sequence[str]) -> int:
    """The id of a class in `allowed`; raises BadRow if it is not there."""
    if (text := text_form(value)) in allowed:
        return allowed.index(text)
    choices = ", ".join(allowed)
    raise BadRow("unknown label", f"{name} is {text!r:.80}; allowed: {choices}")


def check_score(name: str, value: Any, limits: tuple[float, float] | None = None) -> float:
    """A score within `limits`, both included, or any that float32 holds; raises BadRow if not."""
    text = text_form(value)
    low, high = limits or (-_LARGEST_SCORE, _LARGEST_SCORE)
    try:
        score = np.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        score = np.nan
    if low <= score <= high:
        return score
    allowed = f"a number {low} to {high}" if limits else "a finite number"
    raise BadRow("bad score", f"{name} is {text!r:.80}; allowed: {allowed}")


def has_surrogate(text: str) -> bool:
    """Whether the text holds bytes that were not UTF-8, or half of a surrogate pair."""
    return _SURROGATE.search(text) is not None


def text_form(value: Any) -> str:
    """A string as it is; anything else as JSON writes it: `1`, `true`, `null`."""
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def listed(names: Iterable[str]) -> str:
    """Column names for an error line."""
    return ", ".join(map(repr, names))


def _line(path: Path, place: Place, fault: BadRow) -> str:
    place = place if fault.line is None else fault.line
    return f"{path}:{place}: {fault}" if isinstance(place, int) else f"{place}: {fault}"


def _by_reason(counts: Counter[str]) -> str:
    """`: 2 empty text, 1 NUL byte`, or nothing."""
    found = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    return f": {found}" if found else ""
