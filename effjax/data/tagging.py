"""Token classification: sentences of tagged words, to token labels and back.

`TaggedSentences` is to words what `Examples` is to texts. The tag of a word is carried by its first
sub-word, and comes back as one tag per word, so that a score always covers every word of the text,
whatever the tokenizer or the longest length did to it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from effjax.data.encode import IGNORED, Encoded


@dataclass(frozen=True, eq=False)
class TaggedSentences:
    """Words with their tags; row i of every field belongs together.

    Args:
        tokens: The words of each sentence, at least one.
        tags: int32 tag ids of each sentence, one per word; None where they are not public.
        idx: The sentence's number in its source, int32, shape [n].
        others: Further columns of the source, each shaped as `tokens`: part of speech and chunk in
            CoNLL-2003.

    Raises:
        ValueError: If the fields differ in length, or a sentence has no words.
    """

    tokens: list[list[str]]
    tags: list[np.ndarray] | None
    idx: np.ndarray
    others: tuple[list[list[str]], ...] = ()

    def __post_init__(self) -> None:
        columns = [self.tokens, *self.others, *([] if self.tags is None else [self.tags])]
        sizes = [len(column) for column in columns] + [len(self.idx)]
        if len(set(sizes)) != 1:
            raise ValueError(f"TaggedSentences: fields differ in length: {sizes}")
        for number, *row in zip(self.idx, *columns, strict=True):
            words = [len(cells) for cells in row]
            if len(set(words)) != 1 or not words[0]:
                raise ValueError(
                    f"sentence {number}: words and tags number {words}; needs one count, above 0"
                )

    def __len__(self) -> int:
        return len(self.idx)

    def take(self, indices: Sequence[int] | np.ndarray) -> "TaggedSentences":
        """The sentences at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        tags = None if self.tags is None else [self.tags[i] for i in rows]
        others = tuple([column[i] for i in rows] for column in self.others)
        return TaggedSentences([self.tokens[i] for i in rows], tags, self.idx[rows], others)


def encode_tags(tokenizer: Any, sentences: TaggedSentences, max_length: int | None) -> Encoded:
    """Tokenises word by word; the first sub-word of a word carries its tag.

    A word of which the tokenizer leaves nothing (a lone zero-width space) becomes its unknown
    token: it has a tag, so something has to carry it. Sentences are cut on the right.

    Args:
        tokenizer: A Hugging Face fast tokenizer. A byte-level one reads the words as it would in
            a text, with a space before each; in Hugging Face one asks for that with
            `add_prefix_space=True`.
        sentences: Without tags, 0 stands for each, so that `decode_tags` knows where words are.
        max_length: As in `encode`; words cut off lose their tag.

    Returns:
        Labels are int32 [T], aligned with `input_ids`: tag ids, and `IGNORED` on special tokens
        and further sub-words.

    Raises:
        ValueError: If the tokenizer reads words unlike text.
    """
    tokenizer = reading_words(tokenizer)
    options = {} if max_length is None else {"truncation": True, "max_length": max_length}
    types = "token_type_ids" in tokenizer.model_input_names
    words = _readable(tokenizer, sentences.tokens)
    made = tokenizer(
        words,
        is_split_into_words=True,
        return_attention_mask=False,
        return_token_type_ids=types,
        **options,
    )
    offsets = np.zeros(len(sentences) + 1, np.int64)
    np.cumsum([len(ids) for ids in made["input_ids"]], out=offsets[1:])
    ids = np.fromiter(chain.from_iterable(made["input_ids"]), np.int32, offsets[-1])
    type_ids = np.zeros_like(ids)
    if types:
        type_ids[:] = list(chain.from_iterable(made["token_type_ids"]))
    labels = np.full_like(ids, IGNORED)
    for i, start in enumerate(offsets[:-1]):
        at = start + _first_subwords(made.word_ids(i))
        labels[at] = 0 if sentences.tags is None else sentences.tags[i][: len(at)]
    return Encoded(ids, type_ids, offsets, labels, sentences.idx)


def decode_tags(
    encoded: Encoded, sentences: TaggedSentences, logits: np.ndarray, *, outside: int = 0
) -> list[np.ndarray]:
    """The best tag of every word, int32; `outside` for words that were cut off.

    Args:
        encoded: `sentences` through `encode_tags`.
        sentences: What was encoded.
        logits: One row per token, [T, C].
        outside: The id of `O`.

    Raises:
        ValueError: If the three do not belong together.
    """
    if encoded.labels is None or encoded.labels.shape != encoded.input_ids.shape:
        raise ValueError("decode_tags: labels are not per token; encode with encode_tags")
    if not np.array_equal(encoded.idx, sentences.idx):
        raise ValueError("decode_tags: encoded and sentences are not the same sentences")
    if logits.ndim != 2 or len(logits) != len(encoded.input_ids):
        raise ValueError(f"decode_tags: logits {logits.shape} for {len(encoded.input_ids)} tokens")
    carries = encoded.labels != IGNORED
    best = np.argmax(logits, axis=-1).astype(np.int32)
    decoded = []
    for words, start, stop in zip(
        sentences.tokens, encoded.offsets[:-1], encoded.offsets[1:], strict=True
    ):
        found = best[start:stop][carries[start:stop]]
        decoded.append(np.full(len(words), outside, np.int32))
        decoded[-1][: len(found)] = found
    return decoded


def reading_words(tokenizer: Any) -> Any:
    """The same tokenizer, reading words as it reads them in a text, and cutting on the right.

    Raises:
        ValueError: If words stay other tokens than they are in a text.
    """
    found = copy.deepcopy(tokenizer)
    found.truncation_side = "right"
    spaces = found.backend_tokenizer.pre_tokenizer
    if isinstance(spaces, ByteLevel):  # it writes the space into the token
        spaces.add_prefix_space = found.add_prefix_space = True
    words = found(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = found("a a", add_special_tokens=False)["input_ids"]
    if words != text:
        raise ValueError(
            f"encode_tags: the tokenizer reads the words a, a as tokens {words}, and their text as "
            f"{text}; expected one that reads words as text"
        )
    return found


def _readable(tokenizer: Any, tokens: list[list[str]]) -> list[list[str]]:
    """The words, with the unknown token for those of which the tokenizer leaves nothing."""
    distinct = sorted(set(chain.from_iterable(tokens)))
    alone = tokenizer(
        [[word] for word in distinct], is_split_into_words=True, add_special_tokens=False
    )
    lost = {word for word, ids in zip(distinct, alone["input_ids"], strict=True) if not ids}
    if not lost:
        return tokens
    return [[tokenizer.unk_token if word in lost else word for word in words] for words in tokens]


def _first_subwords(word_ids: list[int | None]) -> np.ndarray:
    """Positions of the first sub-word of every word."""
    words = np.array([-1 if word is None else word for word in word_ids], np.int64)
    return np.flatnonzero((words >= 0) & (words != np.append(-1, words[:-1])))
