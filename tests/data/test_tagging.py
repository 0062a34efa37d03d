"""Tagged sentences to token labels, and token logits back to one tag per word."""

import copy
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from effjax.data.encode import Encoded
from effjax.data.tagging import IGNORED, TaggedSentences, decode_tags, encode_tags

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##x", "##y"]
TOKENS = [["a", "bxy", "cx"], ["c"], ["ax", "\u200b", "zzz", "b"]]
TAGS = [[1, 2, 0], [3], [4, 0, 5, 6]]


def _sentences(tagged: bool = True) -> TaggedSentences:
    tags = [np.array(row, np.int32) for row in TAGS] if tagged else None
    return TaggedSentences(TOKENS, tags, np.array([7, 8, 9], np.int32), (TOKENS,))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizer:
    vocab: Path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    vocab.write_text("\n".join(WORDS) + "\n")
    return BertTokenizer(str(vocab))


def _pieces(encoded: Encoded) -> list[list[tuple[str, int]]]:
    assert encoded.labels is not None
    flat = [(WORDS[i], int(y)) for i, y in zip(encoded.input_ids, encoded.labels, strict=True)]
    return [flat[a:b] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def _one_hot(encoded: Encoded) -> np.ndarray:
    """Logits that say the label where there is one, and a loud 7 where there is none."""
    assert encoded.labels is not None
    return np.eye(8)[np.where(encoded.labels == IGNORED, 7, encoded.labels)]


def test_take_keeps_rows_together_and_in_order():
    taken = _sentences().take([2, 0, 2])
    assert taken.tokens == [TOKENS[2], TOKENS[0], TOKENS[2]] == taken.others[0]
    assert taken.tags is not None
    assert [tags.tolist() for tags in taken.tags] == [TAGS[2], TAGS[0], TAGS[2]]
    assert taken.idx.tolist() == [9, 7, 9] and len(taken) == 3
    assert _sentences(tagged=False).take([1]).tags is None


@pytest.mark.parametrize(
    ("tokens", "tags", "message"),
    [
        ([["a"], ["b"]], [[0]], r"fields differ in length: \[2, 1, 2\]"),
        ([["a"], ["b"]], [[0], [0, 1]], r"sentence 1: words and tags number \[1, 2\]"),
        ([["a"], []], [[0], []], r"sentence 1: .* \[0, 0\]; needs one count, above 0"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(tokens, tags, message):
    arrays = [np.array(row, np.int32) for row in tags]
    with pytest.raises(ValueError, match=message):
        TaggedSentences(tokens, arrays, np.arange(2, dtype=np.int32))


def test_the_first_subword_carries_the_tag(tokenizer):
    encoded = encode_tags(tokenizer, _sentences(), None)
    none = IGNORED
    assert none == -100
    assert _pieces(encoded) == [
        [
            *(("[CLS]", none), ("a", 1), ("b", 2), ("##x", none), ("##y", none)),
            *(("c", 0), ("##x", none), ("[SEP]", none)),
        ],
        [("[CLS]", none), ("c", 3), ("[SEP]", none)],
        # The zero-width space, of which BERT leaves nothing, is an unknown word like zzz.
        [
            *(("[CLS]", none), ("a", 4), ("##x", none), ("[UNK]", 0), ("[UNK]", 5)),
            *(("b", 6), ("[SEP]", none)),
        ],
    ]
    assert encoded.idx.tolist() == [7, 8, 9] and not encoded.token_type_ids.any()
    for column in (encoded.input_ids, encoded.token_type_ids, encoded.labels):
        assert column is not None and column.dtype == np.int32
        assert column.shape == (encoded.offsets[-1],)


def test_every_word_comes_back_with_its_tag(tokenizer):
    encoded = encode_tags(tokenizer, _sentences(), None)
    decoded = decode_tags(encoded, _sentences(), _one_hot(encoded))
    assert [tags.tolist() for tags in decoded] == TAGS
    assert all(tags.dtype == np.int32 for tags in decoded)


def test_words_that_were_cut_off_are_outside(tokenizer):
    encoded = encode_tags(tokenizer, _sentences(), 5)
    assert encoded.lengths.tolist() == [5, 3, 5]
    logits = _one_hot(encoded)
    decoded = decode_tags(encoded, _sentences(), logits)
    assert [tags.tolist() for tags in decoded] == [[1, 2, 0], [3], [4, 0, 0, 0]]
    decoded = decode_tags(encoded, _sentences(), logits, outside=6)
    assert [tags.tolist() for tags in decoded] == [[1, 2, 6], [3], [4, 0, 6, 6]]


def test_sentences_without_tags_are_predicted_like_others(tokenizer):
    bare = _sentences(tagged=False)
    tagged, untagged = (encode_tags(tokenizer, rows, 6) for rows in (_sentences(), bare))
    logits = np.random.default_rng(0).normal(size=(len(tagged.input_ids), 8))
    for a, b in zip(
        decode_tags(tagged, _sentences(), logits), decode_tags(untagged, bare, logits), strict=True
    ):
        assert np.array_equal(a, b)


def test_what_does_not_belong_together_is_refused(tokenizer):
    encoded, rows = encode_tags(tokenizer, _sentences(), None), _sentences()
    logits = _one_hot(encoded)
    with pytest.raises(ValueError, match=r"logits \(17, 8\) for 18 tokens"):
        decode_tags(encoded, rows, logits[:-1])
    with pytest.raises(ValueError, match="not the same sentences"):
        decode_tags(encoded, rows.take([1, 0, 2]), logits)
    per_text = Encoded(
        encoded.input_ids, encoded.token_type_ids, encoded.offsets, rows.idx, encoded.idx
    )
    with pytest.raises(ValueError, match="not per token"):
        decode_tags(per_text, rows, logits)


@pytest.mark.parametrize("prefix", [False, True])
def test_byte_level_tokenizers_read_a_space_before_each_word(prefix: bool):
    core = Tokenizer(models.BPE({"a": 0, "b": 1, "Ġ": 2}, [], unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, add_prefix_space=prefix)
    rows = TaggedSentences([["a", "b"]], [np.array([3, 4], np.int32)], np.zeros(1, np.int32))
    text = tokenizer("a b")["input_ids"]
    encoded = encode_tags(tokenizer, rows, None)
    assert encoded.input_ids.tolist() == [2, 0, 2, 1]
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [3, IGNORED, 4, IGNORED]
    assert tokenizer("a b")["input_ids"] == text  # one's own reads as it did


def test_tokenizers_that_read_words_unlike_text_are_refused():
    core = Tokenizer(models.WordLevel({"a": 0, "a a": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    rows = TaggedSentences([["a"]], [np.array([3], np.int32)], np.zeros(1, np.int32))
    with pytest.raises(ValueError, match=r"words a, a as tokens \[0, 0\], and their text as \[1\]"):
        encode_tags(tokenizer, rows, None)


def test_a_sentence_is_cut_on_the_right_whatever_the_tokenizer_cuts(tokenizer):
    left = copy.deepcopy(tokenizer)
    left.truncation_side = "left"
    one, other = (encode_tags(x, _sentences(), 4) for x in (tokenizer, left))
    assert np.array_equal(one.input_ids, other.input_ids)
    assert one.labels is not None and other.labels is not None
    assert np.array_equal(one.labels, other.labels)
    assert left.truncation_side == "left"
