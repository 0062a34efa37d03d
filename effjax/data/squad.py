"""SQuAD v1.1 and v2: questions with their contexts, from the official JSON and to and from TFDS.

`Questions` is to question answering what `Examples` is to sentences: columns of one split, before
tokenisation. This module owns how SQuAD is written down, in its official files and in the rows of
the TFDS builders `squad/v1.1` and `squad/v2.0`; windows of tokens are in `effjax.data.spans`,
scores in `effjax.data.squad_metrics`.

Source: Rajpurkar et al., 1606.05250 (v1.1) and 1806.03822 (v2, with questions that the context does
not answer).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from effjax.data.bad_rows import STOP, BadRow, BadRows, check_cells, check_text, parsed

Golds = tuple[tuple[str, int], ...]
"""What annotators marked for one question: (text, its first character's place in the context)."""


@dataclass(frozen=True, eq=False)
class Questions:
    """n questions, each with the paragraph that it is asked about; row i of every column together.

    Args:
        ids: The official ids, by which predictions are kept.
        questions: What is asked.
        contexts: The paragraphs; one is repeated for each of its questions.
        answers: Per question the gold answers; empty where the context has none (v2).
        titles: Of the articles.
        plausible: v2: per unanswerable question, spans that look like answers. None in v1.1.

    Raises:
        ValueError: If the columns differ in length.
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[Golds]
    titles: list[str]
    plausible: list[Golds] | None = None

    def __post_init__(self) -> None:
        columns = (self.ids, self.questions, self.contexts, self.answers, self.titles)
        sizes = [len(column) for column in columns]
        sizes += [] if self.plausible is None else [len(self.plausible)]
        if len(set(sizes)) != 1:
            raise ValueError(f"Questions: columns differ in length: {sizes}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def version(self) -> Literal["v1.1", "v2.0"]:
        """Which SQuAD this is, as TFDS spells it."""
        return "v1.1" if self.plausible is None else "v2.0"

    def take(self, indices: Sequence[int] | np.ndarray) -> "Questions":
        """The rows at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return Questions(
            [self.ids[i] for i in rows],
            [self.questions[i] for i in rows],
            [self.contexts[i] for i in rows],
            [self.answers[i] for i in rows],
            [self.titles[i] for i in rows],
            None if self.plausible is None else [self.plausible[i] for i in rows],
        )


def read_official(
    path: str | Path, bad: BadRows = STOP, *, version: str | None = None
) -> Questions:
    """Reads an official JSON file, in file order; a file with `is_impossible` is v2.

    Args:
        path: train-v1.1.json, dev-v2.0.json and the like.
        version: which SQuAD is expected, v1.1 or v2.0; None takes either.
        bad: What becomes of a question with a missing or empty field, a NUL, bytes that are not
            UTF-8, an id seen before, or a gold answer that is not at its place in the context.

    Raises:
        ValueError: If the file is not SQuAD's JSON, is of another version, holds no good question,
            or at a bad one, unless it is skipped, with file and id.
    """
    raw = list(_raw_questions(Path(path)))
    version_2 = any("is_impossible" in row for row in raw)
    found, told = ("v2.0", "some") if version_2 else ("v1.1", "no")
    if version not in (None, found):
        raise ValueError(
            f"{path}: this is SQuAD {found}, {told} question has `is_impossible`; {version} is "
            "expected"
        )
    places = ((_place(path, number, row), row) for number, row in enumerate(raw))
    found = parsed(places, partial(_check, version_2, set()))
    _, rows = bad.sift(Path(path), found, "questions")
    return _columns(rows, version_2)


def to_rows(questions: Questions) -> list[dict[str, Any]]:
    """One dict per question with the features of TFDS's `squad/v1.1`, or `squad/v2.0` for v2."""
    rows: list[dict[str, Any]] = [
        {"id": id_, "title": title, "context": context, "question": asked, "answers": _apart(golds)}
        for id_, title, context, asked, golds in zip(
            questions.ids,
            questions.titles,
            questions.contexts,
            questions.questions,
            questions.answers,
            strict=True,
        )
    ]
    if questions.plausible is not None:
        for row, golds, plausible in zip(rows, questions.answers, questions.plausible, strict=True):
            row |= {"plausible_answers": _apart(plausible), "is_impossible": not golds}
    return rows


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Questions:
    """The way back from `to_rows`, in the order given; text may be bytes, as TFDS reads it.

    TFDS keeps no official order: what it prepared itself comes shuffled.
    """
    plain = [
        {name: _text(row[name]) for name in ("id", "title", "context", "question")}
        | {name: _together(row[name]) for name in ("answers", "plausible_answers") if name in row}
        for row in rows
    ]
    return _columns(plain, version_2=any("plausible_answers" in row for row in plain))


def _raw_questions(path: Path) -> Iterator[dict[str, Any]]:
    """Every question's dict of the file, with its article's title and paragraph's context added."""
    # Bytes that are not UTF-8 spoil the questions that hold them, not the file.
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                above = {"title": article.get("title", "")}
                above |= {"context": paragraph["context"]} if "context" in paragraph else {}
                for question in paragraph["qas"]:
                    yield {**question, **above}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not SQuAD's layout data / paragraphs / qas: {type(error).__name__} {error}"
        ) from error


def _place(path: str | Path, number: int, row: Mapping[str, Any]) -> str:
    """Where a question is, as error lines begin."""
    return f"{path}: question {row['id']!r:.80}" if "id" in row else f"{path}: question {number}"


def _check(version_2: bool, seen: set[str], row: dict[str, Any]) -> dict[str, Any]:
    """The question if it is good, its id then added to those seen; raises BadRow if not."""
    check_cells(row, ("id", "question", "context", "answers"))
    for name in ("id", "question", "context"):
        check_text(name, row[name])
    if row["title"] != "":
        check_text("title", row["title"])
    if row["id"] in seen:
        raise BadRow("repeated id", "an earlier question has this id")
    for name in ("answers", "plausible_answers"):
        _check_answers(name, row.get(name, []), row["context"])
    if version_2:
        check_cells(row, ("is_impossible",))
    impossible = bool(row.get("is_impossible", False))
    if impossible == bool(row["answers"]):
        counts = f"{len(row['answers'])} answers with is_impossible {str(impossible).lower()}"
        raise BadRow("wrong number of answers", f"{counts}; allowed: none with true, else some")
    seen.add(row["id"])
    return row


def _check_answers(name: str, golds: Any, context: str) -> None:
    """Raises BadRow unless these are answers, those to be learned each at its place."""
    if not isinstance(golds, list) or not all(isinstance(gold, dict) for gold in golds):
        raise BadRow("bad answer", f"{name} is not a list of objects")
    for gold in golds:
        check_cells(gold, ("text", "answer_start"))
        text, start = check_text(f"{name}: text", gold["text"]), gold["answer_start"]
        if type(start) is not int:  # True is an int, too
            raise BadRow("bad answer", f"{name}: answer_start is {start!r:.80}; needs an integer")
        # Those that only look plausible are not learned, and need no place.
        if name == "answers" and (start < 0 or not context.startswith(text, start)):
            there = f"not at character {start} of the context, which has"
            found = context[max(start, 0) : max(start, 0) + len(text)]
            raise BadRow("misplaced answer", f"{name}: {text!r:.80} is {there} {found!r:.80}")


def _columns(rows: Iterable[Mapping[str, Any]], version_2: bool) -> Questions:
    rows = list(rows)
    ids, questions, contexts, titles = (
        [row[name] for row in rows] for name in ("id", "question", "context", "title")
    )
    answers = [_pairs(row["answers"]) for row in rows]
    plausible = [_pairs(row.get("plausible_answers", [])) for row in rows] if version_2 else None
    return Questions(ids, questions, contexts, answers, titles, plausible)


def _pairs(golds: list[dict[str, Any]]) -> Golds:
    return tuple((gold["text"], gold["answer_start"]) for gold in golds)


def _apart(golds: Golds) -> dict[str, list[Any]]:
    """TFDS's way to write a sequence of dicts: a dict of sequences."""
    return {"text": [text for text, _ in golds], "answer_start": [start for _, start in golds]}


def _together(golds: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"text": _text(text), "answer_start": int(start)}
        for text, start in zip(golds["text"], golds["answer_start"], strict=True)
    ]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
