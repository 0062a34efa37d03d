"""A teacher's outputs over a whole training set, computed once and kept in memory.

There is one array for each thing that is needed, without padding: by example, by token, or by pair
of tokens of one example. Logits and sentence embeddings are kept in float32, all else in float16.
Every student and every epoch then trains without running the teacher.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.distill.objective import Needs
from effjax.models.base import EncoderConfig, LayerTrace, Outputs
from effjax.models.model import Model

Progress = Callable[[int, int], None]
Key = tuple[str, int]
"""What it is, as `Needs` calls it, and of which layer; 0 for logits and sentence embeddings."""

By = Literal["example", "token", "pair"]

EXACT = ("logits", "sentence")
"""What is kept in float32."""

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
            logits=found.get(("logits", 0)),
            sentence=found.get(("sentence", 0)),
            mask=batch["token"] >= 0,
        )


def cache_outputs(
    teacher: Model,
    encoded: Encoded,
    needs: Needs,
    *,
    batch_size: int = 32,
    progress: Progress = lambda i, n: None,
) -> CachedOutputs:
    """Runs the teacher over all examples and keeps what `needs` names.

    Raises:
        ValueError: a number is too large for float16.
    """
    teacher, kept = teacher.for_inference(), dict[Key, Kept]()
    sizes = {
        "example": len(encoded),
        "token": int(encoded.offsets[-1]),
        "pair": int(np.square(encoded.lengths).sum()),
    }
    pad_id, chunk = teacher.config.pad_token_id, teacher.runtime.chunk_tokens
    batches = eval_batches(encoded, batch_size, pad_id=pad_id, tokens=chunk)
    for i, batch in enumerate(batches):
        places = dict[By, np.ndarray]()
        for key, by, values in needed(teacher.trace(batch), needs):
            if by not in places:
                places[by] = places_of(by, batch, encoded.offsets)
            there = places[by] >= 0
            values = values[there]
            if key not in kept:
                kind = np.float32 if key[0] in EXACT else np.float16
                kept[key] = Kept(by, np.zeros((sizes[by], *values.shape[1:]), kind))
            check_range(key, values, kept[key].array.dtype)
            kept[key].array[places[by][there]] = values
        progress(i + 1, len(batches))
    return CachedOutputs(kept, encoded.offsets, teacher.config)


def needed(outputs: Outputs, needs: Needs) -> Iterator[tuple[Key, By, np.ndarray]]:
    """What is needed of some outputs, what it is indexed by, and the values, those places first."""
    if needs.logits:
        logits = np.asarray(outputs.logits, np.float32)
        yield ("logits", 0), "token" if logits.ndim > 2 else "example", logits
    if needs.sentence:
        yield ("sentence", 0), "example", np.asarray(outputs.sentence, np.float32)
    for layer in needs.hidden:
        yield ("hidden", layer), "token", np.asarray(outputs.hidden(layer), np.float32)
    for name in ("q", "k", "v", "scores"):
        for layer in getattr(needs, name):
            values: Any = np.asarray(outputs.of_layer(name, layer), np.float32)
            values = np.moveaxis(values, 1, HEADS_AXIS[name])
            yield (name, layer), "pair" if name == "scores" else "token", values


def check_range(key: Key, values: np.ndarray, dtype: np.dtype) -> None:
    """Raises a ValueError for numbers that an array of this type cannot hold."""
    largest, limit = np.abs(values).max(initial=0), np.finfo(dtype).max
    if largest > limit:
        raise ValueError(
            f"{key[0]} {key[1]} of the teacher reaches {largest:.3g}; {dtype} ends at {limit:.6g}"
        )


def heads_first(name: str, values: np.ndarray) -> np.ndarray:
    """An array of `CachedOutputs` in the order of axes that the outputs have."""
    return np.moveaxis(values, HEADS_AXIS[name], 1) if name in HEADS_AXIS else values


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What stands at these places, 0 at those below 0."""
    found = array[at]
    found[at < 0] = 0
    return found


def places_of(by: By, batch: Mapping[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """Where in the arrays the examples [N], tokens [B, L] or pairs [B, L, L] of a batch stand; -1
    for padding, and for two tokens of different examples.
    """
    if by != "pair":
        return batch[by]
    token, lengths = batch["token"], np.diff(offsets)
    example = np.searchsorted(offsets, token, side="right") - 1
    begin = np.concatenate([[0], np.cumsum(np.square(lengths))])[example]
    place = token - offsets[example]
    at = (begin + place * lengths[np.minimum(example, len(lengths) - 1)])[..., None]
    at = at + place[:, None]
    same = (example[..., None] == example[:, None]) & (token >= 0)[:, None]
    return np.where(same & (token >= 0)[..., None], at, -1)
