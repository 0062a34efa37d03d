"""A teacher's outputs over a whole training set, looked up instead of computed.

There is one array for each thing that is needed, without padding: by example, by token, or by pair
of tokens of one example; all of them in memory. Every student and every epoch then trains without
running the teacher. `effjax.distill.teacher_cache` makes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from effjax.data.encode import Encoded
from effjax.distill.objective import PER_TOKEN, Needs
from effjax.models.base import EncoderConfig, Head, LayerTrace, Outputs

Key = tuple[str, int]
"""What it is, as `Needs` calls it, and of which layer; 0 for logits and sentence embeddings. Of
logits of which the top ones are kept there are three arrays, `TOP`: these, which ones they are,
and what each of the others has.
"""

By = Literal["example", "token", "pair"]

TOP = ("top", "index", "rest")
"""The arrays in place of "logits", where the top ones are kept."""

HEADS_AXIS = {"q": 2, "k": 2, "v": 2, "scores": 3}
"""Where arrays that are indexed by tokens have the axis of heads, axis 1 in the outputs."""


CLASSES: dict[Head | None, Callable[[EncoderConfig], int]] = {
    "masked-lm": lambda config: config.vocab_size,
    "sequence-classification": lambda config: len(config.labels),
    "token-classification": lambda config: len(config.labels),
}
"""How many logits there are of an example or token, for the heads whose logits share a probability
of 1: of these, the top ones can stand for all.
"""


@dataclass(frozen=True, eq=False)
class Kept:
    """One array and what it is indexed by."""

    by: By
    array: np.ndarray


@dataclass(frozen=True, eq=False)
class CachedOutputs:
    """What the objectives need of one teacher, for every training example.

    Attributes:
        kept: the arrays.
        offsets: of the `Encoded`: where its examples begin.
        idx: of the `Encoded`: its examples' numbers, [n].
        tokens: the `digest` of the `Encoded` that a student reads.
        config: the teacher's.
        digest: SHA-256 of what the outputs depend on: the teacher, its precision, what it read, and
            how many logits are kept.
    """

    kept: Mapping[Key, Kept]
    offsets: np.ndarray
    idx: np.ndarray
    tokens: str
    config: EncoderConfig
    digest: str

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Outputs:
        """The outputs for the examples and tokens of a batch, 0 where there is padding."""
        kinds: set[By] = {kept.by for kept in self.kept.values()}
        places = {by: places_of(by, batch, self.offsets) for by in kinds}
        found = {
            key: heads_first(key[0], taken(kept.array, places[kept.by]))
            for key, kept in self.kept.items()
        }
        depth = self.config.num_layers
        layers = (
            LayerTrace(**{name: found.get((name, i + 1)) for name in PER_TOKEN}, reach=spec.reach)
            for i, spec in enumerate(self.config.layers)
        )
        return Outputs(
            embedded=found.get(("hidden", 0)),
            layers=tuple(layers),
            last_hidden=found.get(("hidden", depth)),
            logits=self.logits(found),
            sentence=found.get(("sentence", 0)),
            mask=batch["token"] >= 0,
        )

    def check(self, name: str, encoded: Encoded, *, masked: bool) -> None:
        """Raises a ValueError for training examples that the outputs are not of.

        Args:
            name: whose outputs they are, for the message.
            masked: whether the student reads them masked.
        """
        if masked:
            raise ValueError(
                f"{name} has seen unmasked text, and the student reads it masked; expected the "
                "model itself, which runs in every step"
            )
        if (tokens := encoded.digest) != self.tokens:
            raise ValueError(
                f"{name} has outputs for {len(self.idx)} examples of tokens {self.tokens}; the "
                f"{len(encoded)} training examples are of tokens {tokens}; expected outputs for "
                "these, or, for a student with a tokenizer of its own, `CachedOutputs.read_as`"
            )

    def read_as(self, encoded: Encoded) -> "CachedOutputs":
        """The same outputs for a student with a tokenizer of its own.

        Args:
            encoded: the same n examples in its tokens.

        Raises:
            ValueError: they are other examples; or some outputs are kept by token, and an example
                has more or fewer tokens than the teacher read.
        """
        if not np.array_equal(self.idx, encoded.idx):
            raise ValueError(
                f"the outputs are of {described(self.idx)}, the student reads "
                f"{described(encoded.idx)}; expected the same examples in the same order"
            )
        per_token = sorted({key[0] for key, kept in self.kept.items() if kept.by != "example"})
        if per_token and not np.array_equal(self.offsets, encoded.offsets):
            raise ValueError(
                f"{', '.join(per_token)} are kept token by token, {self.offsets[-1]} in all, and "
                f"the student reads {encoded.offsets[-1]} others; expected what there is one of "
                "for every example: logits of a whole text, sentence embeddings"
            )
        return replace(self, tokens=encoded.digest)

    def only(self, needs: Needs) -> "CachedOutputs":
        """What is needed of them: nothing else is looked up."""
        return replace(self, kept={key: x for key, x in self.kept.items() if is_read(key, needs)})

    def logits(self, found: Mapping[Key, np.ndarray]) -> np.ndarray | None:
        """All logits. Of those that were not kept, each has an equal share of the probability that
        they had together.
        """
        if ("top", 0) not in found:
            return found.get(("logits", 0))
        top, index, rest = (found[name, 0] for name in TOP)
        dense = np.repeat(rest[..., None], CLASSES[self.config.head](self.config), axis=-1)
        np.put_along_axis(dense, index, top, axis=-1)
        return dense


def is_read(key: Key, needs: Needs) -> bool:
    """Whether an array is of what is needed."""
    name, layer = key
    return needs.reads("logits" if name in TOP else name, layer)


def described(idx: np.ndarray) -> str:
    """Examples by their numbers."""
    return f"{len(idx)} examples ({', '.join(map(str, idx[:5]))}{', ...' * (len(idx) > 5)})"


def heads_first(name: str, values: np.ndarray) -> np.ndarray:
    """An array of `CachedOutputs` in the order of axes that the outputs have."""
    return np.moveaxis(values, HEADS_AXIS[name], 1) if name in HEADS_AXIS else values


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What stands at these places, 0 at those below 0."""
    found = array[at]
    found[at < 0] = 0
    return found


def pair_offsets(offsets: np.ndarray) -> np.ndarray:
    """Where the pairs of tokens of each example begin; the last is the end."""
    return np.concatenate([[0], np.cumsum(np.square(np.diff(offsets)))])


def places_of(by: By, batch: Mapping[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """Where in the arrays the examples [N], tokens [B, L] or pairs [B, L, L] of a batch stand; -1
    for padding, and for two tokens of different examples.
    """
    if by != "pair":
        return batch[by]
    token, lengths = batch["token"], np.diff(offsets)
    example = np.searchsorted(offsets, token, side="right") - 1
    begin = pair_offsets(offsets)[example]
    place = token - offsets[example]
    at = (begin + place * lengths[np.minimum(example, len(lengths) - 1)])[..., None]
    at = at + place[:, None]
    same = (example[..., None] == example[:, None]) & (token >= 0)[:, None]
    return np.where(same & (token >= 0)[..., None], at, -1)
