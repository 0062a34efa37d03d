"""Tokens on disk: found again as they were, only where all that decides them is the same."""

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.normalizers import BertNormalizer
from transformers import BertTokenizer

from effjax.data import Encoded, Examples, encode, get_task, token_cache
from effjax.data.kinds import encode_questions, prepare
from effjax.data.spans import Windows
from effjax.data.squad import Questions
from effjax.data.tagging import TaggedSentences, encode_tags
from effjax.data.token_cache import cached, key
from effjax.data.wordpiece import train_wordpiece

CONTEXT = "the cat sat on the mat and the dog lay by the door of the old house"
IDX = np.arange(2, dtype=np.int32)
TEXTS = Examples((["the cat sat", "a dog"], ["on the mat", ""]), np.array([1, 0], np.int32), IDX)
QUESTIONS = Questions(
    ["q0", "q1"],
    ["who sat", "who lay"],
    [CONTEXT] * 2,
    [(("the cat", 0),), ()],
    ["T"] * 2,
    [()] * 2,
)
TAGGED = TaggedSentences(
    [["the", "cat"], ["dog"]], [np.array([0, 1], np.int32), np.array([2], np.int32)], IDX
)
KINDS = {
    "text": ("glue/mrpc", encode, TEXTS, Encoded),
    "text without labels": ("glue/mrpc", encode, replace(TEXTS, labels=None), Encoded),
    "answers": ("squad/v2.0", encode_questions, QUESTIONS, Windows),
    "tags": ("conll2003/conll2003", encode_tags, TAGGED, Encoded),
}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where entries of this test go; two examples are many."""
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "MIN_EXAMPLES", 2)
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return train_wordpiece([CONTEXT, "who a"] * 9, 90)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no tokenizer works."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tokenised again")

    return lambda: monkeypatch.setattr(BertTokenizer, "__call__", refuse)


def assert_same(made: Encoded, found: Encoded) -> None:
    assert type(made) is type(found)
    for field in fields(made):
        a, b = getattr(made, field.name), getattr(found, field.name)
        assert type(a) is type(b)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def one_line(caplog: pytest.LogCaptureFixture, message: str) -> None:
    """The log holds this warning and no other."""
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("effjax", logging.WARNING)
    assert message in record.message
    caplog.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_call_reads_what_the_first_made(kind, tokenizer, silent, folder):
    name, rule, examples, made_type = KINDS[kind]
    made = prepare(get_task(name), tokenizer, examples, 16).encoded
    assert type(made) is made_type
    silent()
    found = prepare(get_task(name), tokenizer, examples, 16).encoded
    assert_same(made, found)
    assert isinstance(found.input_ids.base, np.memmap) and not found.input_ids.flags.writeable
    assert [path.name for path in folder.iterdir()] == [key(rule, tokenizer, examples, 16)]


TOKENIZERS: dict[str, Callable[[Any], Any]] = {
    "vocabulary": lambda t: t.add_tokens(["cats"]),
    "normalizer": lambda t: setattr(
        t.backend_tokenizer, "normalizer", BertNormalizer(lowercase=False)
    ),
    "token types": lambda t: setattr(t, "model_input_names", ["input_ids"]),
    "unknown token": lambda t: setattr(t, "unk_token", "[MASK]"),
    "side that is cut": lambda t: setattr(t, "truncation_side", "left"),
    "special tokens in texts": lambda t: setattr(t, "split_special_tokens", True),
    "class": lambda t: setattr(t, "__class__", type("Other", (BertTokenizer,), {})),
}


@pytest.mark.parametrize("change", TOKENIZERS)
def test_another_tokenizer_has_another_key(change, tokenizer):
    before = key(encode, tokenizer, TEXTS, 16)
    TOKENIZERS[change](tokenizer)
    assert key(encode, tokenizer, TEXTS, 16) != before


def test_what_was_tokenised_before_leaves_the_key(tokenizer):
    again = train_wordpiece([CONTEXT, "who a"] * 9, 90)
    before = key(encode, tokenizer, TEXTS, 16)
    assert key(encode, again, TEXTS, 16) == before
    for options in (
        {"truncation": True, "max_length": 5},
        {"padding": "max_length", "max_length": 9, "truncation": "only_first", "stride": 2},
        {"padding": True, "pad_to_multiple_of": 8},
    ):
        state = tokenizer.backend_tokenizer.to_str()
        tokenizer(["the cat sat on the mat"], **options)
        assert tokenizer.backend_tokenizer.to_str() != state
        assert key(encode, tokenizer, TEXTS, 16) == before


def texts(*columns: list[str], **others: Any) -> Examples:
    return replace(TEXTS, texts=columns, **others)


DIFFERENT: dict[str, list[Any]] = {
    "text": [
        texts(["ab", "c"]),
        texts(["a", "bc"]),
        texts(['ab", "c', ""]),
        texts(["ab", "c"], ["", ""]),
        texts(["ab", "c"], labels=None),
        texts(["ab", "c"], labels=np.array([0, 1], np.int32)),
        texts(["ab", "c"], labels=np.array([1, 0], np.float32)),
        texts(["ab", "c"], idx=IDX + 1),
        texts(["ab", "\U0001f600"]),
        texts(["ab", "\ud83d\ude00"]),  # the same character as two halves, which are no text
    ],
    "answers": [
        QUESTIONS,
        replace(QUESTIONS, questions=["who", "sat who lay"]),
        replace(QUESTIONS, contexts=[CONTEXT, CONTEXT + "s"]),
        replace(QUESTIONS, answers=[(("the cat", 1),), ()]),
        replace(QUESTIONS, answers=[(("the cat", 0), ("the cat", 0)), ()]),
        replace(QUESTIONS, answers=[(), (("the cat", 0),)]),
        replace(QUESTIONS, plausible=None),
    ],
    "tags": [
        TAGGED,
        replace(TAGGED, tokens=[["the", "dog"], ["cat"]]),
        replace(TAGGED, tags=None),
        replace(TAGGED, tags=[np.array([0, 2], np.int32), np.array([1], np.int32)]),
    ],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_other_examples_have_another_key(kind, tokenizer):
    keys = [key(encode, tokenizer, examples, 16) for examples in DIFFERENT[kind]]
    assert len(set(keys)) == len(keys)
    copy = replace(DIFFERENT[kind][0], **({"idx": IDX.copy()} if kind != "answers" else {}))
    assert key(encode, tokenizer, copy, 16) == keys[0]


def test_length_rule_code_and_libraries_are_part_of_the_key(tokenizer, monkeypatch):
    keys = [
        key(encode, tokenizer, TEXTS, 16),
        key(encode, tokenizer, TEXTS, 17),
        key(encode_tags, tokenizer, TEXTS, 16),
    ]
    for name, value in (
        ("FORMAT", 0),
        ("_rules", lambda: ["MAX_STRIDE = 64"]),
        ("version", lambda library: "9" if library == "tokenizers" else "5.0"),
        ("version", lambda library: "0.22" if library == "tokenizers" else "9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(token_cache, name, value)
            keys.append(key(encode, tokenizer, TEXTS, 16))
    assert len(set(keys)) == len(keys)


def test_the_code_in_the_key_is_all_that_tokenises():
    code = "\n".join(token_cache._rules())
    for name in ("encode", "windows", "encode_questions", "encode_tags"):
        assert f"def {name}(" in code
    assert "MAX_STRIDE = " in code


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def describe(**changes: Any) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        path = entry / token_cache.DESCRIPTION
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def garble(entry: Path) -> None:
    content = bytearray((entry / "spans.npy").read_bytes())
    content[-1] ^= 1
    (entry / "spans.npy").write_bytes(content)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated array": lambda entry: shorten(entry / "input_ids.npy"),
    "empty array": lambda entry: (entry / "offsets.npy").write_bytes(b""),
    "one bit": garble,
    "array of another length": lambda entry: np.save(entry / "labels.npy", np.zeros((1, 2))),
    "missing array": lambda entry: (entry / "idx.npy").unlink(),
    "missing description": lambda entry: (entry / token_cache.DESCRIPTION).unlink(),
    "nothing left": lambda entry: [path.unlink() for path in entry.iterdir()],
    "truncated JSON": lambda entry: shorten(entry / token_cache.DESCRIPTION),
    "endless JSON": lambda entry: (entry / token_cache.DESCRIPTION).write_text("[" * 100_000),
    "other JSON": lambda entry: (entry / token_cache.DESCRIPTION).write_text("[1]"),
    "array undescribed": describe(arrays={}),
    "other type": describe(type="Encoded"),
    "unknown type": describe(type="Tokens"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(damage, tokenizer, silent, folder, caplog):
    made = cached(encode_questions, tokenizer, QUESTIONS, 16)
    (entry,) = folder.iterdir()
    DAMAGE[damage](entry)
    assert_same(made, cached(encode_questions, tokenizer, QUESTIONS, 16))
    one_line(caplog, f"{entry}: damaged, made again")
    silent()
    assert_same(made, cached(encode_questions, tokenizer, QUESTIONS, 16))
    assert list(folder.iterdir()) == [entry]


def test_off_neither_writes_nor_reads(tokenizer, silent, folder, monkeypatch):
    cached(encode, tokenizer, TEXTS, 16)
    files = sorted(folder.rglob("*"))
    monkeypatch.setenv("EFFJAX_CACHE", "off")
    cached(encode, tokenizer, TEXTS, 17)
    assert sorted(folder.rglob("*")) == files
    silent()
    with pytest.raises(AssertionError, match="tokenised again"):
        cached(encode, tokenizer, TEXTS, 16)


def test_few_examples_are_not_kept(tokenizer, folder, monkeypatch):
    monkeypatch.setattr(token_cache, "MIN_EXAMPLES", 3)
    cached(encode, tokenizer, TEXTS, 16)
    assert not folder.exists()


def test_the_default_is_in_the_users_cache_folder(tokenizer, monkeypatch, tmp_path):
    monkeypatch.delenv("EFFJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached(encode, tokenizer, TEXTS, 16)
    entry = tmp_path / "effjax" / "tokens" / key(encode, tokenizer, TEXTS, 16)
    assert (entry / "input_ids.npy").is_file()


def test_a_folder_that_cannot_be_written_is_one_line(tokenizer, folder, caplog):
    folder.parent.mkdir()
    folder.write_text("in the way, for root too")
    for _ in range(2):
        assert_same(encode(tokenizer, TEXTS, 16), cached(encode, tokenizer, TEXTS, 16))
        one_line(caplog, "not kept (")


def test_a_full_disk_is_one_line_and_leaves_nothing(tokenizer, folder, caplog, monkeypatch):
    def full(path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert_same(encode(tokenizer, TEXTS, 16), cached(encode, tokenizer, TEXTS, 16))
    one_line(caplog, "not kept (OSError: [Errno 28] No space left on device)")
    assert not list(folder.iterdir())


def test_damage_that_cannot_be_removed_is_one_line(tokenizer, folder, caplog, monkeypatch):
    made = cached(encode, tokenizer, TEXTS, 16)
    (entry,) = folder.iterdir()
    shorten(entry / "input_ids.npy")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert_same(made, cached(encode, tokenizer, TEXTS, 16))
    one_line(caplog, "damaged, made again")


def test_a_tokenizer_without_a_key_works_uncached(tokenizer, folder, caplog):
    class Alone:
        """A fast tokenizer whose state cannot be written down."""

        is_fast = True
        model_input_names = tokenizer.model_input_names

        @property
        def backend_tokenizer(self) -> Any:
            raise Exception("Custom PreTokenizer cannot be serialized")

        def __call__(self, *texts: Any, **options: Any) -> Any:
            return tokenizer(*texts, **options)

    assert_same(encode(tokenizer, TEXTS, 16), cached(encode, Alone(), TEXTS, 16))
    one_line(caplog, "Custom PreTokenizer cannot be serialized")
    assert not folder.exists()


def test_two_writers_of_one_key_leave_one_entry(tokenizer, silent, folder, caplog, monkeypatch):
    """Both have begun to write before either is done."""
    made, found = encode(tokenizer, TEXTS, 16), []
    write, both = token_cache.write_json, threading.Barrier(2, timeout=30)

    def write_together(*arguments: Any) -> None:
        both.wait()
        write(*arguments)

    monkeypatch.setattr(token_cache, "write_json", write_together)

    def stored(*_: Any) -> Encoded:
        return made  # a tokenizer itself is not for two threads

    stored.__module__, stored.__qualname__ = encode.__module__, encode.__qualname__
    threads = [
        threading.Thread(target=lambda: found.append(cached(stored, tokenizer, TEXTS, 16)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and not caplog.records
    assert [path.name for path in folder.iterdir()] == [key(encode, tokenizer, TEXTS, 16)]
    silent()
    assert_same(made, cached(encode, tokenizer, TEXTS, 16))
