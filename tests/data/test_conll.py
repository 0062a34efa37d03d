"""CoNLL files as they are and as they should not be, and the rows that TFDS makes of them."""

import os
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from effjax.data.bad_rows import BadRows
from effjax.data.conll import between, from_rows, read_conll, to_rows
from effjax.data.entities import entity_f1
from effjax.data.tagging import TaggedSentences, decode_tags, encode_tags

LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")

FILE = """\
-DOCSTART- -X- -X- O

Ann NNP B-NP B-PER
Lee NNP I-NP I-PER
met VBD B-VP O
Bo NNP B-NP B-PER
Chi NNP B-NP B-PER

-DOCSTART- -X- -X- O

Rome NNP B-NP B-LOC
"""
IDS = [[1, 2, 0, 1, 1], [5]]
# The same two sentences as the shared task's own files have them.
IOB1 = FILE.replace("B-", "I-").replace("Chi NNP I-NP I-PER", "Chi NNP B-NP B-PER")


def _write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _ids(sentences: TaggedSentences) -> list[list[int]]:
    assert sentences.tags is not None
    return [tags.tolist() for tags in sentences.tags]


def _same(a: TaggedSentences, b: TaggedSentences) -> bool:
    rows = (a.tokens, a.others, a.idx.tolist()) == (b.tokens, b.others, b.idx.tolist())
    return rows and _ids(a) == _ids(b)


@pytest.mark.parametrize("content", [FILE, IOB1, FILE.replace("\n", "\r\n"), "\ufeff" + FILE])
def test_sentences_tags_and_further_columns(content: str, tmp_path: Path):
    sentences = read_conll(_write(tmp_path, content), LABELS)
    assert sentences.tokens == [["Ann", "Lee", "met", "Bo", "Chi"], ["Rome"]]
    assert _ids(sentences) == IDS and sentences.idx.tolist() == [0, 1]
    assert sentences.tags is not None and sentences.tags[0].dtype == np.int32
    pos, chunks = sentences.others
    assert pos == [["NNP", "NNP", "VBD", "NNP", "NNP"], ["NNP"]]
    assert chunks == [["B-NP", "I-NP", "B-VP", "B-NP", "B-NP"], ["B-NP"]]


def test_the_tag_may_be_in_any_column_or_in_none(tmp_path: Path):
    path = _write(tmp_path, FILE.replace(" ", "\t"))
    by_pos = read_conll(path, ("NNP", "VBD"), column=1)
    assert _ids(by_pos) == [[0, 0, 1, 0, 0], [0]] and len(by_pos.others) == 2
    bare = read_conll(_write(tmp_path, "a\u00a0b\nc\n\nd\n"), LABELS, column=None)
    assert bare.tokens == [["a\u00a0b", "c"], ["d"]]
    assert bare.tags is None and bare.others == ()


BAD = [
    ("a O\nb\n\nc O\n", r"file\.txt:2: 1 columns; the first line has 2"),
    ("a O\n\nb x O\n", r"file\.txt:3: 3 columns; the first line has 2"),
    ("a O\n\nb B-DOG\n", r"file\.txt:3: tag is 'B-DOG'; allowed: O, B-PER, I-PER"),
    ("a O\n\n\nb\0 O\n", r"file\.txt:4: the line has a NUL byte at character 1"),
    ("a O\n\nb O\n\u00a0 O\n", r"file\.txt:4: the word is empty"),
    (b"a O\n\nb O\n\xe9t\xe9 O\n", r"file\.txt:4: the line is not UTF-8 text at character 0"),
    ("a B-PER\n\nb B-PER\n\nc O\nd I-PER\n", r"file\.txt:6: tag is 'I-PER'.* IOB2, has B-PER"),
    ("a I-PER\n\nb I-PER\n\nc O\nd B-PER\n", r"file\.txt:6: tag is 'B-PER'.* IOB1, has I-PER"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_a_bad_line_stops_or_costs_its_sentence(content, message, tmp_path: Path, caplog):
    path = _write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_conll(path, LABELS)
    assert "\n" not in str(caught.value) and not caplog.records
    bad = BadRows("skip")
    kept = read_conll(path, LABELS, bad=bad)
    numbers = [i for i in range(len(kept) + 1) if i not in kept.idx]
    assert len(numbers) == 1  # one sentence is missing, and the others keep their numbers
    (record,) = caplog.records
    assert record.name == "effjax"
    (reason,) = bad.counts
    assert record.getMessage() == (
        f"skipped 1 of {len(kept) + 1} sentences of file.txt: 1 {reason}; the first: {caught.value}"
    )


def test_the_first_bad_line_is_the_first_of_the_file(tmp_path: Path, caplog):
    """Tags are read when all lines are, but a bad tag above a bad line is told first."""
    path = _write(tmp_path, "a B-DOG\n\nb\n\nc O\n")
    with pytest.raises(ValueError, match=r"file\.txt:1: tag is 'B-DOG'"):
        read_conll(path, LABELS)
    assert read_conll(path, LABELS, bad=BadRows("skip")).idx.tolist() == [2]
    assert "skipped 2 of 3 sentences of file.txt: 1 unknown tag, 1 wrong number" in caplog.text


@pytest.mark.parametrize(
    ("content", "column", "on_bad", "message"),
    [
        ("", -1, "stop", r"file\.txt: no sentences"),
        ("-DOCSTART- O\n\n \n", -1, "skip", r"file\.txt: no sentences"),
        ("a X\n", -1, "skip", r"file\.txt: no sentences but bad ones: 1 unknown tag"),
        ("\na O\n", 2, "skip", r"file\.txt:2: no column 2; the line has 2"),
    ],
)
def test_a_file_of_nothing_is_refused(content, column, on_bad, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        read_conll(_write(tmp_path, content), LABELS, column=column, bad=BadRows(on_bad))


@pytest.fixture
def builder(tmp_path: Path) -> Any:
    folder = tmp_path / "tfds"
    return tfds.builder("conll2003/conll2003", data_dir=folder, file_format="array_record")


def test_rows_are_what_tfds_reads_from_the_same_file(builder, tmp_path: Path):
    features = builder.info.features
    assert tuple(features["ner"].feature.names) == LABELS
    path = _write(tmp_path, FILE + "\n")
    theirs = [features.encode_example(row) for _, row in builder._generate_examples(path)]
    ours = [features.encode_example(row) for row in to_rows(read_conll(path, LABELS), features)]
    assert len(theirs) == 3 and len(theirs[2]["tokens"]) == 0  # of the blank line at the end
    for a, b in zip(theirs, ours, strict=False):
        assert a.keys() == b.keys() == {"tokens", "pos", "chunks", "ner"}
        assert all(list(a[name]) == list(b[name]) for name in a)
    theirs = [row for _, row in builder._generate_examples(path)]
    ids = {name: features[name].feature.str2int for name in ("pos", "chunks", "ner")}
    coded = [
        {"tokens": row["tokens"], **{name: [ids[name](x) for x in row[name]] for name in ids}}
        for row in theirs
    ]
    assert _same(from_rows(coded, features), read_conll(path, LABELS))


def test_a_written_dataset_comes_back(builder, tmp_path: Path):
    sentences = read_conll(_write(tmp_path, FILE.replace("Ann", "Änn")), LABELS)
    builder.data_path.mkdir(parents=True)
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=100, file_format="array_record"
    )
    writer.initialize_splits(["dev"])
    writer.add_examples({"dev": to_rows(sentences, builder.info.features)})
    writer.close_all()
    rows: Any = tfds.data_source("conll2003/conll2003", split="dev", data_dir=tmp_path / "tfds")
    assert _same(from_rows(rows, builder.info.features), sentences)


def test_further_columns_are_those_that_tfds_knows(builder, tmp_path: Path, caplog):
    """In the file's own scheme: what begins a chunk with I- in it is known too."""
    known = between(builder.info.features)
    assert list(known) == ["pos", "chunks"] and {"NNP", "B-NP", "I-NP"} <= {*chain(*known.values())}
    for content in (FILE, IOB1):
        path = _write(tmp_path, content)
        assert _same(read_conll(path, LABELS, others=known), read_conll(path, LABELS))
    with pytest.raises(ValueError, match=r"file\.txt: 2 columns; needs word, pos, chunks, tag$"):
        read_conll(_write(tmp_path, "a O\n"), LABELS, others=known)
    path = _write(tmp_path, "a NN O O\n\nb NN O O\nc XY O O\n\nd NN B-X O\n")
    with pytest.raises(ValueError, match=r"file\.txt:4: pos is 'XY'; allowed: .*NNP"):
        read_conll(path, LABELS, others=known)
    bad = BadRows("skip")
    assert read_conll(path, LABELS, others=known, bad=bad).idx.tolist() == [0]
    assert (
        bad.counts == {"unknown pos": 1, "unknown chunks": 1} and "file.txt:4: pos" in caplog.text
    )


@pytest.fixture(scope="module")
def valid() -> TaggedSentences:
    if "EFFJAX_ASSETS" not in os.environ:
        pytest.skip("EFFJAX_ASSETS is not set")
    return read_conll(Path(os.environ["EFFJAX_ASSETS"], "data", "conll2003", "valid.txt"), LABELS)


def test_the_real_file_has_the_published_entities(valid: TaggedSentences, builder):
    assert len(valid) == 3250 and valid.tags is not None
    counts = np.bincount(np.concatenate(valid.tags), minlength=len(LABELS))
    published = {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}
    assert {name: counts[LABELS.index(f"B-{name}")] for name in published} == published
    features = builder.info.features
    assert _same(from_rows(to_rows(valid, features), features), valid)


def test_the_real_file_through_a_real_tokenizer(valid: TaggedSentences):
    from transformers import BertTokenizer

    vocab = Path(os.environ["EFFJAX_ASSETS"], "vocab", "bert-base-cased-vocab.txt")
    tokenizer = BertTokenizer(str(vocab), do_lower_case=False)
    some = valid.take(range(0, len(valid), 5))
    assert some.tags is not None
    for max_length, all_there in ((None, True), (16, False)):
        encoded = encode_tags(tokenizer, some, max_length)
        assert encoded.labels is not None
        logits = np.eye(len(LABELS), dtype=np.float32)[np.maximum(encoded.labels, 0)]
        scores = entity_f1(some.tags, decode_tags(encoded, some, logits), LABELS)
        assert (scores["f1"] == 1.0) == all_there and scores["f1"] > 0.5
