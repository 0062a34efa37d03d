"""Corpora: one document per line, each once, and no token lost."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from effjax.data import Encoded, Examples, token_cache, toy
from effjax.data.bad_rows import BadRows
from effjax.data.corpus import TFDS_TEXTS, encode_documents, load_corpus, unigram_loss
from effjax.data.datasets import load_texts
from effjax.data.wordpiece import train_wordpiece


def documents(texts: list[str]) -> Examples:
    return Examples((texts,), None, np.arange(len(texts), dtype=np.int32))


def test_a_text_file_has_one_document_per_line(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffthe plot \r\n\n  caf\u00e9\n \nthe plot\nlast".encode())
    found = load_corpus([str(path)])
    assert found.texts == (["the plot", "caf\u00e9", "last"],)
    assert (found.labels, found.idx.tolist()) == (None, [0, 1, 2])


def test_bad_lines_stop_or_are_counted(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"fine\nhalf \xff of it\na \0 byte\nfine too\n")
    with pytest.raises(ValueError, match=r"texts\.txt:2: the document is not UTF-8"):
        load_corpus([str(path)])
    bad = BadRows("skip")
    assert load_corpus([str(path)], bad).texts == (["fine", "fine too"],)
    assert bad.counts == {"not UTF-8": 1, "NUL byte": 1}


def test_a_task_gives_its_training_texts(monkeypatch: pytest.MonkeyPatch):
    pairs = Examples((["a", "b"], ["c", "a"]), np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    monkeypatch.setattr(toy, "examples", lambda split: {"train": pairs}[split])
    assert load_corpus(["toy/sentiment"]).texts == (["a", "b", "c"],)


def test_texts_of_tfds_lose_their_marks_and_come_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    article = "\n_START_ARTICLE_\nPlots\n_START_PARAGRAPH_\nOne.\n_NEWLINE_Two._NEWLINE_Three."
    texts = {("wiki40b/en", "text"): [article], ("pg19", "book_text"): ["A book.\n", "last"]}
    monkeypatch.setattr("effjax.data.corpus.load_texts", lambda *asked: texts[asked])
    path = tmp_path / "texts.txt"
    path.write_text("last\nof all\n")
    found = load_corpus(["wiki40b/en", "pg19", str(path)])
    assert found.texts == (["Plots One. Two. Three.", "A book.", "last", "of all"],)


def test_a_column_of_any_tfds_dataset_is_a_corpus(tmp_path: Path):
    builder = tfds.builder("wiki40b/en", data_dir=tmp_path, file_format="array_record")
    builder.data_path.mkdir(parents=True)
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=9, file_format="array_record"
    )
    writer.initialize_splits(["train"])
    rest = {"version_id": "1", "wikidata_id": "Q1"}
    texts = ["Ä\nOne.", "B"]
    writer.add_examples({"train": [{"text": text, **rest} for text in texts]})
    writer.close_all()
    assert load_texts("wiki40b/en", TFDS_TEXTS["wiki40b/en"], tmp_path) == texts
    with pytest.raises(FileNotFoundError, match=r"pg19 is not in .*; give text files instead"):
        load_texts("pg19", TFDS_TEXTS["pg19"], tmp_path)


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
