"""Corpora: one document per line, each once, and no token lost."""

import math
import sys
import tomllib
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from effjax.data import Encoded, Examples, corpus, datasets, token_cache, toy
from effjax.data.bad_rows import BadRows
from effjax.data.corpus import (
    TFDS_TEXTS,
    encode_documents,
    load_corpus,
    unigram_loss,
)
from effjax.data.datasets import stored_texts
from effjax.data.examples import split_off
from effjax.data.wordpiece import train_wordpiece


def documents(texts: list[str]) -> Examples:
    return Examples((texts,), None, np.arange(len(texts), dtype=np.int32))


def test_a_text_file_has_one_document_per_line(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffthe plot \r\n\n  caf\u00e9\n \nthe plot\nlast".encode())
    found = load_corpus([str(path)])
    assert list(found) == ["the plot", "caf\u00e9", "last"] and found.idx.tolist() == [0, 1, 2]


def test_bad_lines_stop_or_are_counted(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"fine\nhalf \xff of it\na \0 byte\nfine too\n")
    with pytest.raises(ValueError, match=r"texts\.txt:2: the document is not UTF-8"):
        load_corpus([str(path)])
    bad = BadRows("skip")
    assert list(load_corpus([str(path)], bad)) == ["fine", "fine too"]
    assert bad.counts == {"not UTF-8": 1, "NUL byte": 1}


def test_a_task_gives_its_training_texts(monkeypatch: pytest.MonkeyPatch):
    pairs = Examples((["a", "b"], ["c", "a"]), np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    monkeypatch.setattr(toy, "examples", lambda split: {"train": pairs}[split])
    assert list(load_corpus(["toy/sentiment"])) == ["a", "b", "c"]


def test_texts_of_tfds_lose_their_marks_and_come_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    article = "\n_START_ARTICLE_\nPlots\n_START_PARAGRAPH_\nOne.\n_NEWLINE_Two._NEWLINE_Three."
    texts = {("wiki40b/en", "text"): [article], ("pg19", "book_text"): ["A book.\n", "last"]}
    monkeypatch.setattr("effjax.data.corpus.stored_texts", lambda *asked: texts[asked])
    path = tmp_path / "texts.txt"
    path.write_text("last\nof all\n")
    found = load_corpus(["wiki40b/en", "pg19", str(path)])
    assert list(found) == ["Plots One. Two. Three.", "A book.", "last", "of all"]


def test_a_column_of_any_tfds_dataset_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Read two rows at a time, of files with three."""
    builder = tfds.builder("wiki40b/en", data_dir=tmp_path, file_format="array_record")
    builder.data_path.mkdir(parents=True)
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=3, file_format="array_record"
    )
    writer.initialize_splits(["train"])
    rest = {"version_id": "1", "wikidata_id": "Q1"}
    texts = ["Ä\nOne.", "B", "C", "D", "E", "F", "G"]
    writer.add_examples({"train": [{"text": text, **rest} for text in texts]})
    writer.close_all()
    asked, raw = [], datasets._raw
    monkeypatch.setattr(datasets, "_ROWS", 2)
    monkeypatch.setattr(datasets, "_raw", lambda *given: asked.append(given[1]) or raw(*given))
    found = stored_texts("wiki40b/en", TFDS_TEXTS["wiki40b/en"], tmp_path)
    assert next(found) == texts[0] and asked == ["train[0:2]"]
    assert list(found) == texts[1:]
    assert asked == ["train[0:2]", "train[2:4]", "train[4:6]", "train[6:7]"]


def test_what_tfds_lacks_to_prepare_a_corpus_is_in_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("urllib.request.urlopen", lambda *request, timeout: BytesIO())
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    named = r"wiki40b/en is not in .*apache_beam.*; install effjax\[corpora\].* or give text files"
    with pytest.raises(FileNotFoundError, match=named):
        next(stored_texts("wiki40b/en", TFDS_TEXTS["wiki40b/en"], tmp_path))
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    extra = " ".join(project["project"]["optional-dependencies"]["corpora"])
    assert "apache-beam[gcp]>" in extra and "tensorflow>" in extra


def test_what_is_no_corpus_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        ValueError, match="'missing' is neither a text file nor one of: wiki40b/en, pg19"
    ):
        load_corpus(["missing"])
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty\.txt: no documents"):
        load_corpus([str(tmp_path / "empty.txt")])
    monkeypatch.setattr("effjax.data.corpus.load", lambda task, split: object())
    with pytest.raises(
        ValueError, match=r"squad/v1\.1 is no corpus of texts; tasks that are: glue/"
    ):
        load_corpus(["squad/v1.1"])


def test_long_documents_are_cut_and_no_token_is_lost():
    tokenizer = train_wordpiece(toy.examples("train", size=100).texts[0], 100)
    texts = [" ".join(["the plot was good"] * 9), "dull", " ".join(["not very weak"] * 5)]
    encoded = encode_documents(tokenizer, documents(texts), 16)
    assert encoded.lengths.max() == 16 and encoded.labels is None
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    pieces = np.split(encoded.input_ids, encoded.offsets[1:-1])
    assert all((piece[0], piece[-1]) == (2, 3) for piece in pieces)
    for number, whole in enumerate(ids):
        own = [piece[1:-1] for piece, i in zip(pieces, encoded.idx, strict=True) if i == number]
        assert np.concatenate(own).tolist() == whole
        assert len(own) == math.ceil(len(whole) / 14)


def test_no_more_than_a_chunk_of_the_documents_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And the tokens are those of all documents at once, which are read as they are wanted."""
    texts = [f"the plot was {'good ' * (i % 7)}{i}" for i in range(100)]
    (tmp_path / "texts.txt").write_text("\n".join([*texts, *texts[:9]]))
    tokenizer = train_wordpiece(texts, 100)
    monkeypatch.setattr(corpus, "CHARACTERS", 200)
    read, given, ahead, documents_of = [0], [], [], corpus.documents_of

    def counted(name: str) -> Iterator[str]:
        for text in documents_of(name):
            read[0] += 1
            yield text

    def watched(batch: list[str], **how: Any) -> Any:
        given.extend(batch)
        ahead.append(read[0] - texts.index(batch[-1]) - 1)
        assert sum(map(len, batch)) < 200 + max(map(len, batch))
        return tokenizer(batch, **how)

    monkeypatch.setattr(corpus, "documents_of", counted)
    train, held_out = split_off(load_corpus([str(tmp_path / "texts.txt")]), 20, 0)
    wanted = split_off(documents(texts), 20, 0)
    for some, whole in zip((train, held_out), wanted, strict=True):
        read[0] = 0
        given.clear()
        ahead.clear()
        found = encode_documents(watched, some, 8)
        assert given == whole.texts[0] and read[0] == 109
        assert len(ahead) > 2 and not any(ahead[:-1])
        made = tokenizer(given, truncation=True, max_length=8, return_overflowing_tokens=True)
        assert found.input_ids.tolist() == list(chain.from_iterable(made["input_ids"]))
        assert np.diff(found.offsets).tolist() == list(map(len, made["input_ids"]))
        assert found.idx.tolist() == whole.idx[made["overflow_to_sample_mapping"]].tolist()
        kinds = [found.input_ids, found.token_type_ids, found.offsets, found.idx]
        assert [kind.dtype for kind in kinds] == [np.int32, np.int32, np.int64, np.int32]
        assert not found.token_type_ids.any()


def test_kept_tokens_are_those_of_the_texts_wherever_they_are(tmp_path: Path):
    tokenizer = train_wordpiece(["one two"], 40)
    keys = []
    for name, text in (("a", "one\ntwo\n"), ("b", "one\ntwo\n"), ("c", "one\ntoo\n")):
        (tmp_path / name).write_text(text)
        found = load_corpus([str(tmp_path / name)])
        parts = (found, found.take([0]), found.take([1]))
        keys.append([token_cache.key(encode_documents, tokenizer, x, 16) for x in parts])
    assert keys[0] == keys[1] and len({*keys[0], *keys[2]}) == 6
    (tmp_path / "c").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="/c: changed while it was read"):
        list(found)


def test_the_code_that_cuts_is_part_of_the_key_of_kept_tokens():
    assert "def encode_documents(" in "\n".join(token_cache._rules())


def test_the_loss_of_frequencies_alone():
    """Tokens 5, 6 and 7 are seen 3, 1 and 0 times; with one added 4, 2 and 1 of 7."""

    def encoded(ids: list[int]) -> Encoded:
        flat = np.array(ids, np.int32)
        offsets = np.array([0, len(ids)], np.int64)
        return Encoded(flat, np.zeros_like(flat), offsets, None, np.zeros(1, np.int32))

    ordinary = np.array([5, 6, 7], np.int32)
    found = unigram_loss(encoded([2, 5, 5, 6, 5, 3]), encoded([2, 5, 7, 3]), ordinary)
    assert found == pytest.approx((math.log(7 / 4) + math.log(7 / 1)) / 2)
