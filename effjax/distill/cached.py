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
from effjax.models.base import LayerTrace, Outputs
from effjax.models.model import Model

Progress = Callable[[int, int], None]
Key = tuple[str, int]
"""What it is, as `Needs` calls it, and of which layer; 0 for logits and sentence embeddings."""

By = Literal["example", "token", "pair"]


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
        depth: the teacher's number of layers.
    """

    kept: Mapping[Key, Kept]
    offsets: np.ndarray
    depth: int

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Outputs:
        """The outputs for the examples and tokens of a batch, 0 where there is padding."""
        places = places_of(batch, self.offsets)
        found = {
            key: outputs_first(key[0], taken(kept.array, places[kept.by]()))
            for key, kept in self.kept.items()
        }
        layers = (
            {name: found.get((name, i + 1)) for name in ("hidden", "q", "k", "v", "scores")}
            for i in range(self.depth)
        )
        return Outputs(
            embedded=found.get(("hidden", 0)),
            layers=tuple(LayerTrace(**values) for values in layers),
            last_hidden=found.get(("hidden", self.depth)),
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
        places = places_of(batch, encoded.offsets)
        for key, by, values in needed(teacher.trace(batch), needs):
            at = places[by]()
            values = values[at >= 0]
            if key not in kept:
                kind = np.float32 if key[1] == 0 and key[0] != "hidden" else np.float16
                kept[key] = Kept(by, np.zeros((sizes[by], *values.shape[1:]), kind))
            if np.abs(values).max() > np.finfo(kept[key].array.dtype).max:
                raise ValueError(
                    f"{key[0]} {key[1]} of the teacher reaches {np.abs(values).max():.3g}; "
                    "float16 ends at 65504"
                )
            kept[key].array[at[at >= 0]] = values
        progress(i + 1, len(batches))
    return CachedOutputs(kept, encoded.offsets, teacher.config.num_layers)


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
            yield (name, layer), "pair" if name == "scores" else "token", places_first(name, values)


def places_first(name: str, values: np.ndarray) -> np.ndarray:
    """Queries [B, H, L, K] as [B, L, H, K], scores [B, H, L, M] as [B, L, M, H]."""
    if name == "scores":
        return np.moveaxis(values, 1, 3)
    return np.moveaxis(values, 1, 2) if name in ("q", "k", "v") else values


def outputs_first(name: str, values: np.ndarray) -> np.ndarray:
    """The way back."""
    if name == "scores":
        return np.moveaxis(values, 3, 1)
    return np.moveaxis(values, 2, 1) if name in ("q", "k", "v") else values


def taken(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What stands at these places, 0 at those below 0."""
    found = array[at]
    found[at < 0] = 0
    return found


def places_of(
    batch: Mapping[str, np.ndarray], offsets: np.ndarray
) -> dict[By, Callable[[], np.ndarray]]:
    """Where in the arrays the examples [N], tokens [B, L] and pairs [B, L, L] of a batch stand; -1
    for padding, and for two tokens of different examples.
    """
    token = batch["token"]

    def pairs() -> np.ndarray:
        example = np.searchsorted(offsets, token, side="right") - 1
        lengths = np.diff(offsets)
        begin = np.concatenate([[0], np.cumsum(np.square(lengths))])[example]
        place = token - offsets[example]
        at = (begin + place * lengths[np.minimum(example, len(lengths) - 1)])[..., None]
        at = at + place[:, None]
        same = (example[..., None] == example[:, None]) & (token >= 0)[:, None]
        return np.where(same & (token >= 0)[..., None], at, -1)

    return {"example": lambda: batch["example"], "token": lambda: token, "pair": pairs}
