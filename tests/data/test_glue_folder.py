"""GLUE's official files row by row: what is read, and every way in which a row can be bad."""

import logging
import re
from pathlib import Path

import pytest

from effjax.data import get_task
from effjax.data.bad_rows import STOP, BadRows
from effjax.data.glue_folder import read_official

HEADERS = {
    "glue/sst2": "sentence\tlabel\n",
    "glue/stsb": "index\tsentence1\tsentence2\tscore\n",
    "glue/cola": "",
}
GOOD = {"glue/sst2": "fine \t1", "glue/stsb": "0\ta\tb\t2.5", "glue/cola": "gj04\t1\t\ts"}

# Task, bad row, its error, how it is counted.
FAULTS = [
    ("glue/sst2", b"no label", "1 columns, needs at least 2", "missing column"),
    ("glue/cola", b"gj04\t1\t", "3 columns, needs at least 4", "missing column"),
    ("glue/sst2", b"a\t2", "label is '2'; allowed: 0, 1", "unknown label"),
    ("glue/sst2", b"a\t\xe9", "label is '\\udce9'; allowed: 0, 1", "unknown label"),
    ("glue/stsb", b"0\ta\tb\t-0.1", "score is '-0.1'; allowed: a number 0.0 to 5.0", "bad score"),
    ("glue/stsb", b"0\ta\tb\thigh", "score is 'high'; allowed: a number 0.0 to 5.0", "bad score"),
    ("glue/stsb", b"0\ta\tb\t", "score is ''; allowed: a number 0.0 to 5.0", "bad score"),
    ("glue/stsb", b"0\ta\t \t1", "sentence2 is empty", "empty text"),
    ("glue/cola", b"gj04\t1\t\t\xc2\xa0", "sentence is empty", "empty text"),
    ("glue/sst2", b"ab\0c\t1", "sentence has a NUL byte at character 2", "NUL byte"),
    ("glue/sst2", b"caf\xe9\t1", "sentence is not UTF-8 text at character 3", "not UTF-8"),
    ("glue/stsb", b"0\ta\t\xff\xfe\t1", "sentence2 is not UTF-8 text at char", "not UTF-8"),
]


@pytest.mark.parametrize(("name", "row", "error", "reason"), FAULTS)
def test_a_bad_row_stops_or_is_skipped_and_keeps_its_number(
    name: str, row: bytes, error: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = GOOD[name].encode()
    path = tmp_path / "train.tsv"
    path.write_bytes(HEADERS[name].encode() + b"\n".join([good, b"", row, good]) + b"\n")
    line = 3 + bool(HEADERS[name])  # a blank line is no row, but a line
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}:{line}: {error}')}") as caught:
        read_official(get_task(name), tmp_path, "train")
    assert "\n" not in str(caught.value)
    bad = BadRows("skip")
    with caplog.at_level(logging.WARNING, "effjax"):
        examples = read_official(get_task(name), tmp_path, "train", bad)
    assert examples.idx.tolist() == [0, 2] and bad.counts == {reason: 1}
    assert examples.labels is not None and len(examples.labels) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"skipped 1 of 3 rows of train.tsv: 1 {reason}; the first: {caught.value}"
    ]


def test_no_row_of_a_test_file_is_skipped(tmp_path: Path):
    """A submission gives its rows numbers by their order, so one left out would shift the rest."""
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\ta\n1\t\n2\tb\n")
    task = get_task("glue/sst2")
    with pytest.raises(ValueError, match=r"test\.tsv:3: sentence is empty$"):
        read_official(task, tmp_path, "test", STOP)
    message = r"test\.tsv:3: sentence is empty; rows of a test file are not skipped: a submission"
    with pytest.raises(ValueError, match=message):
        read_official(task, tmp_path, "test", BadRows("skip"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\tlabel\na\t1\n", r"train\.tsv:1: no column 'sentence'; the header has 'text', 'lab"),
        ("sentence\tlabel\n", r"train\.tsv: no rows$"),
        ("sentence\tlabel\n\t1\n", r"train\.tsv: no rows but bad ones: 1 empty text"),
    ],
)
def test_what_is_wrong_with_a_file_is_never_skipped(content: str, message: str, tmp_path: Path):
    (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_official(get_task("glue/sst2"), tmp_path, "train", BadRows("skip"))


def test_another_encoding_is_seen_at_the_header(tmp_path: Path):
    (tmp_path / "train.tsv").write_bytes("sentence\tlabel\na\t1\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"train\.tsv:1: the header is not UTF-8 text"):
        read_official(get_task("glue/sst2"), tmp_path, "train", BadRows("skip"))


def test_columns_that_are_not_read_may_hold_anything(tmp_path: Path):
    (tmp_path / "train.tsv").write_bytes(b"gj\xe9\t1\t\0\ts\n")
    assert read_official(get_task("glue/cola"), tmp_path, "train").texts == (["s"],)
