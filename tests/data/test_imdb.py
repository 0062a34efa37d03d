"""IMDb: the archive's folder and its single files give the same examples, as TFDS has them."""

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax.data import Examples
from effjax.data.bad_rows import BadRows
from effjax.data.imdb import LABELS, from_rows, read_official, to_rows

# Id and raw text. As strings, 10 sorts before 9, and pos/2 is a number that neg has too.
REVIEWS = [
    ("pos/2_10", "Größe.\r\nYes.\n"),
    ("neg/10_1", "\x0b Bad.<br /><br />Very. "),
    ("neg/9_4", "Dull.\u00a0"),
    ("pos/0_7", "Nice"),
    ("neg/2_3", "No"),
]
ORDERED = ["No", "Dull.\u00a0", "Bad.<br /><br />Very.", "Nice", "Größe.\r\nYes."]


def put_folder(root: Path, split: str = "train") -> Path:
    for name, text in REVIEWS:
        path = root / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return root


def put_packed(root: Path, split: str = "train", **changes: Any) -> Path:
    """One file of all reviews; `changes` are made to the last."""
    rows = [
        {"id": f"{split}/{name}", "text": text, "label": LABELS.index(name[:3]), "rating": 5}
        for name, text in REVIEWS
    ]
    rows[-1].update(changes)
    root.mkdir(parents=True, exist_ok=True)
    with lzma.open(root / f"{split}.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return root


def assert_same(a: Examples, b: Examples) -> None:
    assert a.texts == b.texts
    assert a.labels is not None and b.labels is not None
    assert a.labels.dtype == b.labels.dtype == np.int32
    assert np.array_equal(a.labels, b.labels) and np.array_equal(a.idx, b.idx)


@pytest.mark.parametrize("put", [put_folder, put_packed])
@pytest.mark.parametrize("split", ["train", "test"])
def test_both_layouts_are_sorted_by_label_and_number(put: Any, split: str, tmp_path: Path):
    examples = read_official(put(tmp_path, split), split)
    assert examples.texts == (ORDERED,)
    assert examples.labels is not None and examples.labels.tolist() == [0, 0, 0, 1, 1]
    assert examples.labels.dtype == np.int32 and examples.idx.tolist() == [0, 1, 2, 3, 4]


def test_rows_of_tfds_and_back(tmp_path: Path):
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder("imdb_reviews/plain_text", data_dir=tmp_path)
    features = builder.info.features
    assert features["label"].names == list(LABELS)
    examples = read_official(put_folder(tmp_path), "train")
    rows = to_rows(examples)
    assert rows[0] == {"text": "No", "label": 0} and set(rows[0]) == set(features)
    encoded = [features.encode_example(row) for row in rows]
    stored = [features.deserialize_example_np(features.serialize_example(row)) for row in encoded]
    assert isinstance(stored[0]["text"], bytes)
    assert_same(from_rows(stored), examples)
    assert_same(from_rows(rows), examples)


def test_rows_need_labels():
    with pytest.raises(ValueError, match="these have none"):
        to_rows(Examples((["a"],), None, np.zeros(1, np.int32)))


def test_what_is_missing_is_named(tmp_path: Path):
    needed = r"needs NUMBER_RATING\.txt files as in aclImdb, or .*train\.jsonl\.xz"
    with pytest.raises(FileNotFoundError, match=f"train/neg: no such folder; {needed}"):
        read_official(tmp_path, "train")
    put_folder(tmp_path)
    for path in (tmp_path / "train" / "pos").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=f"train/pos: no reviews; {needed}"):
        read_official(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="test/neg: no such folder"):
        read_official(tmp_path, "test")
    with pytest.raises(ValueError, match="imdb: no split 'unsupervised'; it has train, test"):
        read_official(tmp_path, "unsupervised")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("7_1.txt", b" \n", "7_1.txt: review is empty"),
        ("7_1.txt", b"a\0", "7_1.txt: review has a NUL byte at character 1"),
        ("7_1.txt", b"caf\xe9", "7_1.txt: review is not UTF-8 text at character 3"),
        ("notes.txt", b"a", r"notes.txt: not the name of a review; allowed: NUMBER_RATING\.txt"),
    ],
)
def test_bad_reviews(name: str, content: bytes, error: str, tmp_path: Path):
    put_folder(tmp_path)
    (tmp_path / "train" / "neg" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"train/neg/{error}$"):
        read_official(tmp_path, "train")
    examples = read_official(tmp_path, "train", BadRows("skip"))
    assert examples.texts == (ORDERED,) and examples.idx.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"text": ""}, "xz:5: text is empty"),
        ({"label": 2}, "xz:5: label is '2'; allowed: 0, 1"),
        ({"label": 1}, "xz:5: id is 'train/neg/2_3'; for label 1 allowed: train/pos/NUMBER_RATING"),
        (
            {"id": "test/neg/2_3"},
            "xz:5: id is 'test/neg/2_3'; for label 0 allowed: train/neg/NUMBER",
        ),
        ({"id": 5}, "xz:5: id is 5; needs a string"),
        ({"text": "caf\udce9"}, "xz:5: text is not UTF-8 text at character 3"),
    ],
)
def test_bad_rows_of_a_single_file(changes: dict[str, Any], error: str, tmp_path: Path):
    with pytest.raises(ValueError, match=error):
        read_official(put_packed(tmp_path, **changes), "train")
    assert read_official(tmp_path, "train", BadRows("skip")).texts == (ORDERED[1:],)


def test_a_row_of_a_single_file_may_lack_no_column(tmp_path: Path):
    with lzma.open(tmp_path / "train.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write('{"id": "train/neg/0_1", "label": 0}\n')
    with pytest.raises(ValueError, match=r"xz:1: no 'text'; the row has 'id', 'label'$"):
        read_official(tmp_path, "train")


@pytest.mark.parametrize("put", [put_folder, put_packed])
def test_bad_reviews_are_skipped_and_counted(
    put: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    put(tmp_path)
    bad = BadRows("skip")
    if put is put_folder:
        (tmp_path / "train" / "neg" / "2_3.txt").write_text("")
        place = f"{tmp_path / 'train' / 'neg' / '2_3.txt'}: review"
    else:
        put_packed(tmp_path, text="")
        place = f"{tmp_path / 'train.jsonl.xz'}:5: text"
    examples = read_official(tmp_path, "train", bad)
    assert examples.texts == (ORDERED[1:],) and examples.idx.tolist() == [0, 1, 2, 3]
    assert examples.labels is not None and examples.labels.tolist() == [0, 0, 1, 1]
    (record,) = caplog.records
    assert record.getMessage().startswith("skipped 1 of 5 reviews of train")
    assert record.getMessage().endswith(f": 1 empty text; the first: {place} is empty")
    assert bad.counts == {"empty text": 1}


def test_the_real_reviews(assets: Path):
    examples = read_official(assets / "data" / "imdb", "test")
    assert examples.labels is not None
    assert np.array_equal(examples.labels, np.repeat([0, 1], 12500))
    assert examples.texts[0][0].startswith("Once again Mr. Costner has dragged out a movie")
    assert sum("<br />" in text for text in examples.texts[0]) == 14533
