"""Bad rows: what is one, and what stopping and skipping do with it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effjax.data.bad_rows import (
    STOP,
    BadRow,
    BadRows,
    Place,
    check_cells,
    check_class,
    check_score,
    check_text,
    parsed,
)

PATH = Path("folder/train.tsv")
ROWS: list[tuple[Place, str | BadRow]] = [
    (2, "a"),
    (3, BadRow("too short", "1 column")),
    (4, ""),
    (5, "b"),
    (6, ""),
]


def text(value: str) -> str:
    return check_text("text", value)


def test_stop_names_file_line_and_fault():
    with pytest.raises(ValueError, match=r"^folder/train\.tsv:3: 1 column$") as caught:
        STOP.sift(PATH, parsed(ROWS, text))
    assert not isinstance(caught.value, BadRow)  # which a reader of rows would take for its own
    assert not STOP.counts


def test_skip_keeps_numbers_and_says_once_what_was_skipped(caplog: pytest.LogCaptureFixture):
    bad = BadRows("skip")
    with caplog.at_level(logging.WARNING, "effjax"):
        assert bad.sift(PATH, parsed(ROWS, text)) == ([0, 3], ["a", "b"])
    assert [record.getMessage() for record in caplog.records] == [
        "skipped 3 of 5 rows of train.tsv: 2 empty text, 1 too short; "
        "the first: folder/train.tsv:3: 1 column"
    ]


def test_skipped_rows_are_counted_over_files(caplog: pytest.LogCaptureFixture):
    bad = BadRows("skip")
    assert bad.summary() == "0 rows skipped"
    bad.sift(PATH, [(1, "a")])
    assert not caplog.records
    bad.sift(PATH, parsed(ROWS, text))
    bad.sift(PATH, [(1, BadRow("too short", "x"))] * 1200 + [(2, "a")], "questions")
    assert "skipped 1,200 of 1,201 questions of train.tsv: 1,200 too short" in caplog.text
    assert bad.summary() == "1,203 rows skipped: 1,201 too short, 2 empty text"


def test_rows_that_are_needed_are_never_skipped():
    message = (
        r"train\.tsv:3: 1 column; rows of a test file are not skipped: a submission needs them"
    )
    with pytest.raises(ValueError, match=message):
        BadRows("skip").sift(PATH, ROWS, needed=True)
    with pytest.raises(ValueError, match=r"train\.tsv:3: 1 column$"):
        STOP.sift(PATH, ROWS, needed=True)
    assert BadRows("skip").sift(PATH, [(1, "a")], needed=True) == ([0], ["a"])


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_a_file_without_good_rows_is_refused(on_bad: Any):
    with pytest.raises(ValueError, match=r"^folder/train\.tsv: no sentences$"):
        BadRows(on_bad).sift(PATH, [], "sentences")
    with pytest.raises(ValueError, match=r"train\.tsv: no rows but bad ones: 1 too short$"):
        BadRows("skip").sift(PATH, ROWS[1:2])


def test_a_place_is_a_line_or_words_and_a_fault_may_know_its_line():
    for place, fault, line in (
        ("folder/a.json: question 7", BadRow("x", "odd"), "folder/a.json: question 7: odd"),
        (3, BadRow("x", "odd", line=5), "folder/train.tsv:5: odd"),
    ):
        with pytest.raises(ValueError, match=f"^{line}$"):
            STOP.sift(PATH, [(place, fault)])


def test_only_bad_rows_are_caught():
    def broken(_: str) -> str:
        raise ValueError("a mistake of the reader")

    with pytest.raises(ValueError, match="a mistake of the reader"):
        BadRows("skip").sift(PATH, parsed([(1, "a")], broken))


def test_the_choice_is_stop_or_skip():
    bad = BadRows()
    object.__setattr__(bad, "on_bad", "ignore")  # the type checker of the tests refuses it first
    with pytest.raises(ValueError, match="on_bad is 'ignore'; allowed: stop, skip"):
        bad.__post_init__()


@pytest.mark.parametrize(
    ("check", "reason", "detail"),
    [
        (lambda: check_cells({"a": 1}, ("a", "b")), "missing column", "no 'b'; the row has 'a'"),
        (lambda: check_text("t", None), "no string", "t is null; needs a string"),
        (lambda: check_text("t", " \u00a0"), "empty text", "t is empty"),
        (lambda: check_text("t", "ab\0"), "NUL byte", "t has a NUL byte at character 2"),
        (lambda: check_text("t", "a\udce9"), "not UTF-8", "t is not UTF-8 text at character 1"),
        (lambda: check_class("y", 2, ("0", "1")), "unknown label", "y is '2'; allowed: 0, 1"),
        (lambda: check_score("y", "x"), "bad score", "y is 'x'; allowed: a finite number"),
        (lambda: check_score("y", "1_0"), "bad score", "y is '1_0'; allowed: a finite number"),
        (lambda: check_score("y", "1e39"), "bad score", "y is '1e39'; allowed: a finite number"),
        (
            lambda: check_score("y", "5.1", (0.0, 5.0)),
            "bad score",
            "y is '5.1'; allowed: a number 0.0 to 5.0",
        ),
        (
            lambda: check_score("y", "nan", (0.0, 5.0)),
            "bad score",
            "y is 'nan'; allowed: a number 0.0 to 5.0",
        ),
    ],
)
def test_what_makes_a_row_bad(check: Callable[[], Any], reason: str, detail: str):
    with pytest.raises(BadRow) as caught:
        check()
    assert (caught.value.reason, str(caught.value)) == (reason, detail)


def test_what_is_good_comes_back_as_it_is_meant():
    check_cells({"a": 1, "b": 2}, ("b",))
    assert check_text("t", " a ") == " a "
    assert check_class("y", True, ("false", "true")) == 1
    assert check_score("y", "5.000", (0.0, 5.0)) == 5.0 and check_score("y", -1e3) == -1000.0
