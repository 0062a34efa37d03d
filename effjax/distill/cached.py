"""A teacher's outputs over a whole training set, looked up instead of computed.

There is one array for each thing that is needed, without padding: by example, by token, or by pair
of tokens of one example. Every student and every epoch then trains without running the teacher.
`effjax.distill.teacher_cache` makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effjax.models.base import EncoderConfig, LayerTrace, Outputs

Key = tuple[str, int]
"""What it is, as `Needs` calls it, and of which layer; 0 for logits and sentence embeddings. Of
logits of which the top ones are kept there are three arrays: `top`, their `index`, and the `rest`.
"""

By = Literal["example", "token", "pair"]

HEADS_AXIS = {"q": 2, "k": 2, "v": 2, "scores": 3}
"""Where arrays that are indexed by tokens have the axis of heads, axis 1 in the outputs."""


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
        config: the teacher's.
    """

    kept: Mapping[Key, Kept]
    offsets: np.ndarray
    config: EncoderConfig

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
            {name: found.get((name, i + 1)) for name in ("hidden", "q", "k", "v", "scores")}
            for i in range(depth)
        )
        return Outputs(
            embedded=found.get(("hidden", 0)),
            layers=tuple(LayerTrace(**values) for values in layers),
            last_hidden=found.get(("hidden", depth)),
            logits=self.logits(found),
            sentence=found.get(("sentence", 0)),
            mask=batch["token"] >= 0,
        )

    def logits(self, found: Mapping[Key, np.ndarray]) -> np.ndarray | None:
        """All logits. Of those that were not kept, each has an equal share of the probability that
        they had together.
        """
        if ("top", 0) not in found:
            return found.get(("logits", 0))
        config = self.config
        classes = config.vocab_size if config.head == "masked-lm" else len(config.labels)
        top, index, rest = (found[name, 0] for name in ("top", "index", "rest"))
        dense = np.repeat(rest[..., None], classes, axis=-1)
        np.put_along_axis(dense, index, top, axis=-1)
        return dense


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
