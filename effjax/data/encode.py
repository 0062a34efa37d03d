"""Tokenised examples: one flat array of ids with offsets, no padding.

Padding is decided per batch (`effjax.data.batches`), so what is stored is ragged: two int32 arrays
for any number of examples, instead of a list of lists.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from effjax.data.examples import Examples

IGNORED = -100
"""The label of a token that carries none, as in Hugging Face."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of n examples, T in all; example i is `input_ids[offsets[i]:offsets[i + 1]]`.

    Args:
        input_ids: int32 [T].
        token_type_ids: int32 [T]; zeros where the tokenizer makes none.
        offsets: int64 [n + 1].
        labels: As in `Examples`, [n]; of tokens, int32 [T], `IGNORED` where a token has none; of
            answers, int32 [n, 2], first and last token; or None.
        idx: As in `Examples`, [n].
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None
    idx: np.ndarray

    def __len__(self) -> int:
        return len(self.idx)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example, int64 [n]."""
        return np.diff(self.offsets)

    @property
    def digest(self) -> str:
        """SHA-256 of the tokens: of their ids and types, and of where examples begin."""
        found = hashlib.sha256()
        for array in (self.input_ids, self.token_type_ids, self.offsets):
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    @property
    def labels_per_token(self) -> bool:
        return (
            self.labels is not None and self.labels.shape == self.input_ids.shape != self.idx.shape
        )


def encode(tokenizer: Any, examples: Examples, max_length: int | None) -> Encoded:
    """Tokenises with the tokenizer's own template (`[CLS] a [SEP] b [SEP]` for BERT).

    Args:
        tokenizer: A Hugging Face fast tokenizer.
        examples: One text column, or two for pairs.
        max_length: Longest example in tokens, special tokens included; longer ones lose tokens from
            the end of their longer text (`longest_first`). None keeps all tokens.
    """
    options = {} if max_length is None else {"truncation": True, "max_length": max_length}
    types = "token_type_ids" in tokenizer.model_input_names
    made = tokenizer(
        *examples.texts, return_attention_mask=False, return_token_type_ids=types, **options
    )
    offsets = np.zeros(len(examples) + 1, np.int64)
    np.cumsum([len(ids) for ids in made["input_ids"]], out=offsets[1:])
    ids = _flat(made["input_ids"], offsets)
    type_ids = _flat(made["token_type_ids"], offsets) if types else np.zeros_like(ids)
    return Encoded(ids, type_ids, offsets, examples.labels, examples.idx)


def rows(encoded: Encoded, start: int, stop: int) -> Encoded:
    """Some of the examples, without their labels."""
    first, last = encoded.offsets[start], encoded.offsets[stop]
    return Encoded(
        encoded.input_ids[first:last],
        encoded.token_type_ids[first:last],
        encoded.offsets[start : stop + 1] - first,
        None,
        encoded.idx[start:stop],
    )


def _flat(rows: list[list[int]], offsets: np.ndarray) -> np.ndarray:
    flat = np.empty(offsets[-1], np.int32)
    for row, start, stop in zip(rows, offsets[:-1], offsets[1:], strict=True):
        flat[start:stop] = row
    return flat
