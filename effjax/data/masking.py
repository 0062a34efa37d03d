"""Masked-LM inputs: which tokens a model has to predict, and what it sees in their place.

What becomes of a token depends on (seed, epoch, its place in the `Encoded`) and on nothing else:
not on micro-batches, nor on how many processes make the batch. So a run that goes on after an
interruption masks what it would have masked, and every epoch masks anew.

A batch names the places that are to be predicted, so that nothing is computed for other words.
There is room for as many in a row as chance chooses but once in a million rows; in such a row the
last ones are left as they were.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from effjax.data.encode import IGNORED
from effjax.data.layouts import Batch

MASKS = 1
"""Sets the random numbers of masks apart from those of the order of examples."""


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Chooses tokens at random, and hides them: [MASK], another token, or what was there.

    Source: arXiv 1810.04805, section 3.1 and appendix A.1; anew each time an example is seen, arXiv
    1907.11692, section 4.1. Deviations: tokens are chosen independently, so that `rate` of them
    are chosen on average and not of every example; the other token is never a special one, since a
    padding id would move the positions of RoBERTa. With `continuing`, words are chosen whole, and
    what becomes of each of their tokens is drawn alone, as in the whole-word masking of the same
    authors' README; a word that the end of a row cuts is whole in neither.

    Attributes:
        mask_id: the id of [MASK].
        special: ids that are neither predicted nor put in a token's place, [UNK] among them.
        vocab_size: ids that there are.
        rate: share of the tokens that are predicted.
        masked: share of these that the model sees as [MASK].
        replaced: share of these that it sees as a random token.
        continuing: ids of the pieces that go on with the word before them, which are chosen with
            it; empty for tokens that are chosen one by one.
        everywhere: a head over tokens answers for all of them, not for those with a label alone.
    """

    mask_id: int
    special: tuple[int, ...]
    vocab_size: int
    rate: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1
    continuing: tuple[int, ...] = ()
    everywhere: bool = False

    def __post_init__(self) -> None:
        for name in ("rate", "masked", "replaced"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"masking: {name} is {getattr(self, name)}; a share is 0 to 1")
        if self.masked + self.replaced > 1 or not self.rate:
            raise ValueError(
                f"masking: rate {self.rate}, masked {self.masked}, replaced {self.replaced}; "
                "the rate must be above 0, the two others at most 1 together"
            )
        if not len(self.ordinary):
            raise ValueError(f"masking: all of {self.vocab_size} tokens are special")

    @classmethod
    def of(cls, tokenizer: Any, *, rate: float = 0.15, whole_words: bool = False) -> "Masking":
        """The masking for a Hugging Face tokenizer.

        Raises:
            ValueError: it has no mask token, or words are to be whole that nothing marks.
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(f"{type(tokenizer).__name__} has no mask token to hide others behind")
        return cls(
            mask_id=tokenizer.mask_token_id,
            special=tuple(sorted(tokenizer.all_special_ids)),
            vocab_size=len(tokenizer),
            rate=rate,
            continuing=continuing(tokenizer) if whole_words else (),
        )

    @functools.cached_property
    def ordinary(self) -> np.ndarray:
        """The ids that are not special, ascending, int32."""
        return np.setdiff1d(np.arange(self.vocab_size, dtype=np.int32), self.special)

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        """The batch as the model sees it in an epoch of a run.

        Returns:
            A batch with other `input_ids`; with `labels` int32 [B, L], the token that was there
            where it is to be predicted, `IGNORED` elsewhere; and, unless `everywhere`, with
            `predicted` int32 [B, P], the places in each row that have a label, ascending, L after
            the last one.
        """
        ids, token = batch["input_ids"], batch["token"]
        keys = np.random.SeedSequence((seed, epoch, MASKS)).generate_state(3, np.uint64)
        choice = noise(keys[0], self.firsts(ids, token))
        fate, other = (noise(key, token) for key in keys[1:])
        chosen = (token >= 0) & ~np.isin(ids, self.special) & below(choice, self.rate)
        length, most = ids.shape[1], self.most(ids.shape[1])
        chosen &= chosen.cumsum(axis=1) <= most
        predicted = np.sort(np.where(chosen, np.arange(length, dtype=np.int32), length))[:, :most]
        drawn = self.ordinary[other % np.uint64(len(self.ordinary))]
        kept = np.where(below(fate, self.masked + self.replaced), drawn, ids)
        hidden = np.where(below(fate, self.masked), np.int32(self.mask_id), kept)
        labels = np.where(chosen, ids, np.int32(IGNORED))
        seen = np.where(chosen, hidden, ids)
        places = {} if self.everywhere else {"predicted": predicted}
        return {**batch, "input_ids": seen, "labels": labels, **places}

    def firsts(self, ids: np.ndarray, token: np.ndarray) -> np.ndarray:
        """The place [B, L] of the first token of everyone's word; its own, if tokens are chosen one
        by one.
        """
        if not self.continuing:
            return token
        begins = ~np.isin(ids, self.continuing)
        column = np.maximum.accumulate(np.where(begins, np.arange(ids.shape[1]), 0), axis=1)
        return np.take_along_axis(token, column, axis=1)

    def most(self, length: int) -> int:
        """P, room for the chosen tokens of a row: five standard deviations more than on average,
        and a multiple of 8. Words of several pieces, of which few have more than two, double the
        variance.
        """
        average = self.rate * length
        variance = average * (1 - self.rate) * (2 if self.continuing else 1)
        wanted = average + 5 * math.sqrt(variance)
        return min(length, 8 * math.ceil(wanted / 8))


def continuing(tokenizer: Any) -> tuple[int, ...]:
    """The ids of the pieces that go on with a word, ascending.

    Raises:
        ValueError: the tokenizer is of a kind that marks neither these nor where words begin.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind, tokens = type(getattr(backend, "model", None)).__name__, tokenizer.get_vocab().items()
    if kind == "WordPiece":
        return tuple(sorted(i for token, i in tokens if token.startswith("##")))
    begin, special = ("Ġ", "▁"), set(tokenizer.all_special_ids)
    found = sorted(i for token, i in tokens if not token.startswith(begin) and i not in special)
    if kind not in ("BPE", "Unigram") or len(found) + len(special) >= len(tokens):
        raise ValueError(
            f"{type(tokenizer).__name__} does not mark where words begin; expected WordPiece, or "
            "pieces that begin with Ġ or ▁"
        )
    return tuple(found)


def noise(key: np.uint64, index: np.ndarray) -> np.ndarray:
    """Random words, uint64: those at `index` of the sequence that begins at `key`.

    Source: SplitMix64 of G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number
    generators" (OOPSLA 2014), whose words can be had in any order.
    """
    words = (index + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def below(words: np.ndarray, share: float) -> np.ndarray:
    """True for this share of random words."""
    return (words >> np.uint64(11)) * 2.0**-53 < share
