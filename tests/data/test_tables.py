"""A user's own files: every format and compression, every bad row, stop and skip."""

import bz2
import gzip
import json
import logging
import lzma
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax.data import Examples
from effjax.data.tables import TextFiles

ROWS = [
    {"title": "Fine", "body": 'He said "go",\tand ünïted', "stars": "good"},
    {"title": "Dull", "body": "a, b", "stars": "bad"},
    {"title": "Odd", "body": "c", "stars": "good"},
]
OPENERS: dict[str, Callable[..., Any]] = {
    "": open,
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
}
TEXT_SUFFIXES = [form + by for form in (".tsv", ".csv", ".jsonl") for by in OPENERS]


def put(path: Path, content: str | bytes) -> Path:
    """Writes text as UTF-8, or bytes, in the compression of the name."""
    data = content.encode() if isinstance(content, str) else content
    with OPENERS.get(path.suffix, open)(path, "wb") as file:
        file.write(data)
    return path


def put_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the name; values must fit it."""
    kind = re.sub(r"\.(xz|gz|bz2)$", "", path.name).rsplit(".")[-1]
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if kind == "jsonl":
        return put(path, "".join(json.dumps(row) + "\n" for row in rows))
    table = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    if kind == "csv":
        table = [['"' + cell.replace('"', '""') + '"' for cell in cells] for cells in table]
    separator = "," if kind == "csv" else "\t"
    return put(path, "".join(separator.join(cells) + "\n" for cells in table))


def reviews(train: Path, **changes: Any) -> TextFiles:
    fields = {"text": ("title", "body"), "label": "stars", "labels": ("bad", "good")}
    return TextFiles(train=str(train), **{**fields, **changes})


def plain(train: Path, **changes: Any) -> TextFiles:
    fields = {"text": ("text",), "label": "label", "labels": ("neg", "pos")}
    return TextFiles(train=str(train), **{**fields, **changes})


def labels_of(examples: Examples) -> list[Any]:
    assert examples.labels is not None
    return examples.labels.tolist()


@pytest.mark.parametrize("suffix", [*TEXT_SUFFIXES, ".parquet"])
def test_every_format_gives_the_same_examples(suffix: str, tmp_path: Path):
    rows = [{"more": str(i), **row} for i, row in enumerate(ROWS)]
    if suffix.startswith(".tsv"):  # which has no way to write a tab
        rows = [{**row, "body": row["body"].replace("\t", " ")} for row in rows]
    examples = reviews(put_rows(tmp_path / f"train{suffix}", rows)).read("train")
    assert examples.texts == ([r["title"] for r in rows], [r["body"] for r in rows])
    assert labels_of(examples) == [1, 0, 1]
    assert examples.labels is not None and examples.labels.dtype == np.int32
    assert examples.idx.tolist() == [0, 1, 2] and examples.idx.dtype == np.int32


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_no_labels_means_scores(suffix: str, tmp_path: Path):
    values = [0.25, 5.0, -1e3]
    rows = [{"text": "a", "score": value} for value in values]
    files = plain(put_rows(tmp_path / f"train{suffix}", rows), label="score", labels=())
    examples = files.read("train")
    assert labels_of(examples) == values
    assert examples.labels is not None and examples.labels.dtype == np.float32
    assert files.task().regression


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("values", "names"), [([1, 0, 2], ("2", "1", "0")), ([True, False, True], ("true", "false"))]
)
def test_integer_and_boolean_labels(
    suffix: str, values: list[Any], names: tuple[str, ...], tmp_path: Path
):
    rows = [{"text": "a", "label": value} for value in values]
    examples = plain(put_rows(tmp_path / f"train{suffix}", rows), labels=names).read("train")
    assert labels_of(examples) == [names.index(json.dumps(value)) for value in values]


def test_quotes_line_breaks_and_blank_lines(tmp_path: Path):
    content = '\ufefftext,label\r\n"two\r\nlines ""q""",pos\r\n\r\n\u2028x,neg\r\n'
    examples = plain(put(tmp_path / "a.csv", content)).read("train")
    assert examples.texts == (['two\r\nlines "q"', "\u2028x"],)
    content = '\ufefftext\tlabel\r\n"open, quote\tpos\r\n\r\nx\u2028y\tneg'
    examples = plain(put(tmp_path / "a.tsv", content)).read("train")
    assert examples.texts == (['"open, quote', "x\u2028y"],)
    content = (
        '\n{"text": "x\u2028y", "label": "pos"}\r\n\n{"label": "neg", "text": "\\ud83d\\ude00"}'
    )
    examples = plain(put(tmp_path / "a.jsonl", content)).read("train")
    assert examples.texts == (["x\u2028y", "😀"],)
    assert labels_of(examples) == [1, 0] and examples.idx.tolist() == [0, 1]


# Text of the bad second row (None: the cell is not there), its label, the error, and how it counts.
FAULTS = {
    "label": ("ok", "meh", "label is 'meh'; allowed: neg, pos", "unknown label"),
    "space": ("ok", "pos ", "label is 'pos '; allowed: neg, pos", "unknown label"),
    "empty": ("", "pos", "text is empty", "empty text"),
    "blank": (" \u00a0", "pos", "text is empty", "empty text"),
    "nul": ("ab\0", "pos", "text has a NUL byte at character 2", "NUL byte"),
    "bytes": ("caf\udce9", "pos", "text is not UTF-8 text at character 3", "not UTF-8"),
}


def _faulty(suffix: str, text: str, label: str) -> bytes:
    """Three rows, the second as given; bytes that are not UTF-8 stand in the file as they are."""
    if suffix == ".jsonl":
        rows = [("first", "pos"), (text, label), ("third", "neg")]
        lines = [json.dumps({"text": t, "label": y}, ensure_ascii=False) for t, y in rows]
        content = "\n".join(lines).replace("\0", "\\u0000")
    else:
        quote, tab = ('"', ",") if suffix == ".csv" else ("", "\t")
        content = (
            f"text{tab}label\nfirst{tab}pos\n{quote}{text}{quote}{tab}{label}\nthird{tab}neg\n"
        )
    return content.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_stops_or_is_skipped(
    suffix: str, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    text, label, error, reason = FAULTS[fault]
    path = put(tmp_path / f"a{suffix}", _faulty(suffix, text, label))
    line = 2 if suffix == ".jsonl" else 3
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}:{line}: {error}')}$"):
        plain(path).read("train")
    with caplog.at_level(logging.WARNING, "effjax"):
        examples = plain(path, on_bad="skip").read("train")
    assert examples.texts == (["first", "third"],) and labels_of(examples) == [1, 0]
    assert examples.idx.tolist() == [0, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"skipped 1 of 3 rows of {path.name}: 1 {reason}; the first: {path}:{line}: {error}"
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "not JSON: "),
        ("[1, 2]", "needs an object with columns as keys, not [1, 2]"),
        ('{"label": "pos", "x": 1}', "no 'text'; the row has 'label', 'x'"),
        ('{"text": "a"}', "no 'label'; the row has 'text'"),
        ('{"text": 3, "label": "pos"}', "text is 3; needs a string"),
        ('{"text": null, "label": "pos"}', "text is null; needs a string"),
        ('{"text": "a", "label": null}', "label is 'null'; allowed: neg, pos"),
        ('{"text": "a", "label": 1.0}', "label is '1.0'; allowed: neg, pos"),
        ('{"text": "\\ud800", "label": "pos"}', "text is not UTF-8 text at character 0"),
    ],
)
def test_bad_json_lines(line: str, error: str, tmp_path: Path):
    good = '{"text": "a", "label": "pos"}'
    path = put(tmp_path / "a.jsonl", f"{good}\n{line}\n{good}\n")
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}:2: {error}')}"):
        plain(path).read("train")
    assert plain(path, on_bad="skip").read("train").idx.tolist() == [0, 2]


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize("cells", [["a"], ["a", "b", "pos"]])
def test_too_few_or_too_many_cells(suffix: str, cells: list[str], tmp_path: Path):
    comma = "," if suffix == ".csv" else "\t"
    rows = [["text", "label"], ["a", "pos"], cells, ["b", "neg"]]
    path = put(tmp_path / f"a{suffix}", "".join(comma.join(row) + "\n" for row in rows))
    error = f"{path}:3: {len(cells)} cells; the header has 2"
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        plain(path).read("train")
    assert plain(path, on_bad="skip").read("train").idx.tolist() == [0, 2]


def test_a_row_is_named_by_the_line_it_begins_at(tmp_path: Path):
    path = put(tmp_path / "a.csv", 'text,label\n"1\n2",pos\n\n"5\n6",meh\n')
    with pytest.raises(ValueError, match=r"a\.csv:5: label is 'meh'"):
        plain(path).read("train")


@pytest.mark.parametrize("score", ["nan", "inf", "1e39", "high", "", "true"])
def test_scores_are_finite_numbers(score: str, tmp_path: Path):
    path = put(tmp_path / "a.tsv", f"text\tlabel\na\t3\nb\t{score}\n")
    with pytest.raises(ValueError, match=f":3: label is '{score}'; allowed: a finite number$"):
        plain(path, labels=()).read("train")
    assert labels_of(plain(path, labels=(), on_bad="skip").read("train")) == [3.0]


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        (
            "a.tsv",
            "title\tlabel\na\tpos\n",
            ":1: no column 'text'; the header has 'title', 'label'",
        ),
        ("a.csv", "", ":1: no column 'text', 'label'; the header has nothing"),
        ("a.csv", "text,text,label\na,b,pos\n", ":1: more than one column 'text'"),
        ("a.csv", "text,label\na,pos\n", ":1: no column 'label'; the header has 'text', 'Label'"),
        ("a.tsv", "text\tlabel\n".encode("utf-16"), ":1: the header is not UTF-8 text"),
        ("a.csv", 'text,label\na,pos\n"b,pos\nc,neg\n', ":3: the row cannot be parsed: "),
        ("a.csv", 'text,label\n"a"b,pos\n', ":2: the row cannot be parsed: "),
        ("a.csv", "text,label\n", ": no rows"),
        ("a.jsonl", "\n", ": no rows"),
    ],
)
def test_what_is_wrong_with_a_file_always_stops(
    name: str, content: str | bytes, error: str, on_bad: Any, tmp_path: Path
):
    content = "text,Label\na,pos\n" if "'Label'" in error else content
    path = put(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}{error}')}"):
        plain(path, on_bad=on_bad).read("train")


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".bz2"])
@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_broken_compression(suffix: str, damage: str, tmp_path: Path):
    path = put(tmp_path / f"a.tsv{suffix}", "text\tlabel\n" + "a\tpos\n" * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"text\tlabel\na\tpos\n")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: cannot be read: "):
        plain(path).read("train")


def test_parquet_faults(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = pyarrow.array([b"a", b"caf\xe9", None, b"d"], pyarrow.binary()).view(pyarrow.string())
    labels = pyarrow.array(["pos", "neg", "neg", None])
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
    with pytest.raises(ValueError, match=r"a\.parquet:2: text is not UTF-8 text at character 3"):
        plain(path).read("train")
    skipped = plain(path, on_bad="skip").read("train")
    assert skipped.texts == (["a"],) and skipped.idx.tolist() == [0]
    with pytest.raises(ValueError, match=r"no column 'body'; the header has 'text', 'label'"):
        plain(path, text=("body",)).read("train")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read as Parquet: "):
        plain(path).read("train")


def test_parquet_without_pyarrow_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = put(tmp_path / "a.parquet", "x")
    with pytest.raises(ValueError, match="needs pyarrow; run: pip install pyarrow"):
        plain(path).read("train")


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_only_a_test_file_may_lack_the_label_column(suffix: str, tmp_path: Path):
    hidden = str(put_rows(tmp_path / f"hidden{suffix}", [{"id": "7", "text": "a"}]))
    shown = put_rows(tmp_path / f"shown{suffix}", [{"text": "a", "label": "pos"}])
    files = plain(shown, validation=hidden, test=hidden)
    assert files.read("test").labels is None and files.read("test").texts == (["a"],)
    assert labels_of(plain(shown, test=str(shown)).read("test")) == [1]
    with pytest.raises(
        ValueError, match=r"no (column )?'label'; the (header|row) has 'id', 'text'"
    ):
        files.read("validation")


def test_a_test_file_with_some_labels_needs_all(tmp_path: Path):
    path = put(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "label": "pos"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:1: no 'label'; the row has 'text'"):
        plain(path, test=str(path)).read("test")


def test_missing_splits_and_files(tmp_path: Path):
    path = tmp_path / "a.tsv"
    with pytest.raises(FileNotFoundError, match="no such file; it is to hold the split 'train'"):
        plain(path).read("train")
    with pytest.raises(ValueError, match="no file for split 'test'; there is train, validation"):
        plain(path, validation=str(path)).read("test")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.csv.zip", "a.parquet.gz", "a.xz", ".csv"])
def test_an_unknown_suffix_is_refused_before_reading(name: str):
    allowed = ".tsv, .csv, .jsonl (each also with .xz, .gz, .bz2), .parquet"
    with pytest.raises(ValueError, match=f"{re.escape(f'{name}: unknown kind of file')}.*") as info:
        plain(Path("b.csv"), validation=name)
    assert str(info.value).endswith(allowed)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"text": ()}, r"text is \(\); needs a tuple of one or two"),
        ({"text": ("a", "b", "c")}, "needs a tuple of one or two"),
        ({"text": ("a", "a")}, r"\('a', 'a', 'label'\); needs different columns"),
        ({"text": ("label",)}, "needs different columns"),
        ({"labels": ("pos",)}, r"labels is \('pos',\); needs two or more different names"),
        ({"labels": ("pos", "pos")}, "needs two or more different names"),
        ({"metrics": ("acuracy",)}, "unknown metric 'acuracy'; allowed: accuracy, f1"),
        (
            {"metrics": ("accuracy", "pearson")},
            "metric 'pearson' is not for 2 classes; allowed: accuracy, f1, matthews$",
        ),
        (
            {"labels": ("a", "b", "c"), "metrics": ("f1",)},
            "metric 'f1' is not for 3 classes; allowed: accuracy, matthews$",
        ),
        (
            {"labels": (), "metrics": ("accuracy",)},
            "metric 'accuracy' is not for a score; allowed: pearson, spearman$",
        ),
    ],
)
def test_bad_fields(changes: dict[str, Any], error: str):
    with pytest.raises(ValueError, match=error):
        plain(Path("a.csv"), **changes)


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("labels", (0, 1), "('0', '1')"),
        ("labels", "01", "('01',)"),
        ("labels", [True, False], "('True', 'False')"),
        ("text", "text", "('text',)"),
        ("text", (1,), "('1',)"),
    ],
)
def test_labels_and_columns_are_names(field: str, value: Any, names: str):
    files = plain(Path("a.csv"))
    object.__setattr__(files, field, value)  # the type checker of the tests refuses it first
    with pytest.raises(ValueError) as caught:
        files.__post_init__()
    wanted = f"{field} is {value!r}; needs names as they stand in the files: {names}"
    assert str(caught.value) == wanted


def test_on_bad_is_stop_or_skip():
    files = plain(Path("a.csv"))
    object.__setattr__(files, "on_bad", "ignore")  # the type checker of the tests refuses it first
    with pytest.raises(ValueError, match="on_bad is 'ignore'; allowed: stop, skip"):
        files.__post_init__()


def test_the_task():
    task = reviews(Path("x/reviews.2024.csv.xz"), validation="d.tsv").task()
    assert task.name == task.title == "reviews.2024"
    assert task.splits == ("train", "validation")
    assert task.text == ("title", "body") and task.labels == ("bad", "good")
    assert task.metrics == ("accuracy",) and not task.regression
    named = plain(Path("a.csv"), test="t.csv", name="mine", metrics=("f1", "accuracy")).task()
    assert (named.name, named.metrics) == ("mine", ("f1", "accuracy"))
    assert named.splits == ("train", "test")
    scored = plain(Path("a.csv"), labels=()).task()
    assert scored.metrics == ("pearson", "spearman") and scored.regression
