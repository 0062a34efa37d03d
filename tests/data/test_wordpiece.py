"""WordPiece training: repeatable, loadable offline, and in pieces that carry meaning."""

import weakref
from collections.abc import Iterator

import pytest
from transformers import AutoTokenizer

from effjax.data import toy
from effjax.data.wordpiece import SPECIAL, train_wordpiece


@pytest.fixture(scope="module")
def texts():
    return toy.examples("train", size=3000).texts[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def tokenizer(texts, folder):
    return train_wordpiece(texts, 600, folder)


def test_vocabulary(tokenizer):
    assert len(tokenizer) == 600
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL)
    assert sorted(tokenizer.get_vocab().values()) == list(range(600))
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]


def test_saved_tokenizer_gives_the_same_ids(tokenizer, folder, texts):
    loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(tokenizer)
    assert loaded.model_max_length == tokenizer.model_max_length == 512
    assert loaded(texts) == tokenizer(texts)
    assert loaded(texts[:3], texts[3:6]) == tokenizer(texts[:3], texts[3:6])


def test_round_trip(tokenizer, texts):
    ids = tokenizer(texts)["input_ids"]
    assert all(
        row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in ids
    )
    assert tokenizer.unk_token_id not in {token for row in ids for token in row}
    restored = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert [text.replace(",", " ,") for text in restored] == texts


def test_rare_words_split_into_meaningful_pieces(tokenizer):
    assert len(tokenizer.tokenize("film")) == 1
    pieces = tokenizer.tokenize("semitorporless")
    assert len(pieces) > 1 and pieces[-1] == "##less"


def test_upper_case_and_unknown_characters(tokenizer):
    assert tokenizer.tokenize("The FILM") == tokenizer.tokenize("the film")
    assert tokenizer.tokenize("☃") == ["[UNK]"]


def test_the_same_texts_give_the_same_vocabulary(tokenizer, texts):
    for order in (texts, texts[::-1]):
        assert train_wordpiece(order, 600).get_vocab() == tokenizer.get_vocab()


def test_too_small_a_vocabulary(texts):
    with pytest.raises(ValueError, match="vocab_size 10 is below the"):
        train_wordpiece(texts, 10)


class Text(str):
    """A text that can be watched."""


class Stored:
    """Texts that are made anew each time one goes through them, and counted while they live."""

    def __init__(self, texts: list[str]):
        self.texts, self.alive, self.most = texts, 0, 0

    def __iter__(self) -> Iterator[str]:
        for one in self.texts:
            text = Text(one)
            weakref.finalize(text, self.gone)
            self.alive += 1
            self.most = max(self.most, self.alive)
            yield text

    def gone(self) -> None:
        self.alive -= 1


def test_texts_are_never_all_in_memory(tokenizer, texts):
    stored = Stored(texts)
    assert train_wordpiece(stored, 600).get_vocab() == tokenizer.get_vocab()
    assert stored.most < len(texts) / 4


def test_texts_that_can_be_read_once_are_refused():
    with pytest.raises(ValueError, match="texts are a generator, which is gone through once"):
        train_wordpiece((text for text in ["a", "b"]), 600)
