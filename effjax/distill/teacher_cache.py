"""Running a teacher once over a training set, and keeping what objectives need of it.

What is kept lies in memory, or in a folder too, that any number of trainings read: shards of
examples, compressed, each written whole with its checksum beside it, so that an interrupted run
goes on; and `outputs.json`, which says of what teacher and of what tokens they are. The checksums
are over what it says as well, so that no shard of one teacher passes for another's.

A teacher computes an example in the rows that it lies in. Where these are not those that it would
have in a student's batch, as where short texts are packed, its numbers differ in the last bits, as
they do between any two batches.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded, rows
from effjax.distill.cached import (
    CLASSES,
    HEADS_AXIS,
    By,
    CachedOutputs,
    Kept,
    Key,
    is_read,
    pair_offsets,
    places_of,
)
from effjax.distill.objective import Needs
from effjax.files import atomic_file, write_json
from effjax.models.base import Outputs
from effjax.models.model import Model

Progress = Callable[[int, int], None]

SHARD = 4096
"""Examples that are computed, written and checked together."""

TYPES = {"logits": "float32", "sentence": "float32", "top": "float32", "rest": "float32"}
TYPES |= {"index": "int32"}
"""What is not kept in float16."""

DESCRIPTION = "outputs.json"


def cache_outputs(
    teacher: Model,
    encoded: Encoded,
    needs: Needs,
    *,
    folder: str | Path | None = None,
    top_k: int | None = None,
    batch_size: int = 32,
    progress: Progress = lambda i, n: None,
) -> CachedOutputs:
    """Runs the teacher over all examples and keeps what `needs` names.

    Logits and sentence embeddings are kept in float32, all else in float16.

    Args:
        folder: where it is kept for later trainings; what is there already is read, not computed,
            and may be more than is needed now. None keeps it in memory alone.
        top_k: how many logits of each example or token are kept, if there are more, besides the
            probability of all others together.
        progress: called with (shards done, shards).

    Raises:
        ValueError: a number is none, or too large for float16. Or there are no top logits: of fewer
            than one, or of a head whose logits share no probability. Or the folder is of another
            teacher or other examples, has less than is needed, or is damaged.
    """
    check_top(top_k, teacher)
    origin = origin_of(teacher, encoded, top_k)
    shelf = None if folder is None else shelf_of(Path(folder), origin, needs)
    teacher, kept = teacher.for_inference(), dict[Key, Kept]()
    begins = bounds(encoded)
    shards = range(0, len(encoded), SHARD)
    for i, start in enumerate(shards):
        stop = min(start + SHARD, len(encoded))
        found = None if shelf is None else shelf.read(start, needs)
        if found is None:
            wanted = needs if shelf is None else shelf.needs
            found = computed(teacher, rows(encoded, start, stop), wanted, top_k, batch_size)
            if shelf is not None:
                shelf.write(start, found)
        for key, part in found.items():
            if not is_read(key, needs):
                continue
            first, last = begins[part.by][start], begins[part.by][stop]
            if key not in kept:
                shape = (begins[part.by][-1], *part.array.shape[1:])
                kept[key] = Kept(part.by, np.zeros(shape, part.array.dtype))
            kept[key].array[first:last] = part.array
        progress(i + 1, len(shards))
    digest = hashlib.sha256(json.dumps(origin).encode()).hexdigest()
    places = (encoded.offsets, encoded.idx, encoded.digest)
    return CachedOutputs(kept, *places, teacher.config, digest)


def bounds(encoded: Encoded) -> dict[By, np.ndarray]:
    """Where each example begins in arrays by example, by token and by pair; the last is the end."""
    examples, tokens = np.arange(len(encoded) + 1), encoded.offsets
    return {"example": examples, "token": tokens, "pair": pair_offsets(tokens)}


def computed(
    teacher: Model, encoded: Encoded, needs: Needs, top_k: int | None, batch_size: int
) -> dict[Key, Kept]:
    """What is needed of the teacher for some examples."""
    found, sizes = dict[Key, Kept](), {by: x[-1] for by, x in bounds(encoded).items()}
    pad_id, chunk = teacher.config.pad_token_id, teacher.runtime.chunk_tokens
    for batch in eval_batches(encoded, batch_size, pad_id=pad_id, tokens=chunk):
        places = dict[By, np.ndarray]()
        for key, by, values in needed(teacher.trace(batch), needs, top_k):
            if by not in places:
                places[by] = places_of(by, batch, encoded.offsets)
            there = places[by] >= 0
            values = values[there]
            if key not in found:
                shape = (sizes[by], *values.shape[1:])
                found[key] = Kept(by, np.zeros(shape, TYPES.get(key[0], "float16")))
            check_range(key, values, found[key].array.dtype)
            found[key].array[places[by][there]] = values
    return found


def needed(
    outputs: Outputs, needs: Needs, top_k: int | None
) -> Iterator[tuple[Key, By, np.ndarray]]:
    """What is needed of some outputs, what it is indexed by, and the values, those places first."""
    if needs.logits:
        logits = np.asarray(outputs.logits, np.float32)
        by: By = "token" if logits.ndim > 2 else "example"
        k = logits.shape[-1] if top_k is None else top_k
        parts = top_logits(logits, k) if k < logits.shape[-1] else {"logits": logits}
        for name, kept in parts.items():
            yield (name, 0), by, kept
    if needs.sentence:
        yield ("sentence", 0), "example", np.asarray(outputs.sentence, np.float32)
    for layer in needs.hidden:
        yield ("hidden", layer), "token", np.asarray(outputs.hidden(layer), np.float32)
    for name in ("q", "k", "v", "scores"):
        for layer in getattr(needs, name):
            values: Any = np.asarray(outputs.of_layer(name, layer), np.float32)
            values = np.moveaxis(values, 1, HEADS_AXIS[name])
            yield (name, layer), "pair" if name == "scores" else "token", values


def top_logits(logits: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The k largest logits [..., k], their places, and the logit that each of the others would have
    if they shared their probability equally.
    """
    order = np.argpartition(logits, -k, axis=-1)
    top = np.take_along_axis(logits, order[..., -k:], axis=-1)
    others = np.take_along_axis(logits, order[..., :-k], axis=-1)
    rest = jax.nn.logsumexp(others, axis=-1) - np.log(others.shape[-1])
    return {"top": top, "index": order[..., -k:].astype(np.int32), "rest": np.asarray(rest)}


def check_range(key: Key, values: np.ndarray, dtype: np.dtype) -> None:
    """Raises a ValueError for numbers that an array of this type cannot hold, or that are none."""
    largest, end = np.abs(values).max(initial=0), np.finfo(np.float16).max
    if not np.isfinite(largest) or (dtype == np.float16 and largest > end):
        raise ValueError(
            f"{key[0]} {key[1]} of the teacher reaches {largest:.3g}; {dtype} is for finite "
            f"numbers{f', up to {end}' * (dtype == np.float16)}"
        )


def check_top(top_k: int | None, teacher: Model) -> None:
    """Raises a ValueError for top logits that there cannot be."""
    if top_k is None:
        return
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected 1 logit or more, or None for all of them")
    if teacher.config.head not in CLASSES:
        raise ValueError(
            f"top_k is {top_k}, of the head {teacher.config.head}, whose logits share no "
            f"probability; expected None, or one of the heads {', '.join(map(str, CLASSES))}"
        )


def origin_of(teacher: Model, encoded: Encoded, top_k: int | None) -> dict[str, str]:
    """What the outputs depend on; the tokens are data and tokenizer in one."""
    return {
        "teacher": teacher.digest,
        "precision": teacher.runtime.dtype,
        "tokens": encoded.digest,
        "top_k": str(top_k),
        "examples to a shard": str(SHARD),
    }


def shelf_of(folder: Path, origin: dict[str, str], needs: Needs) -> "Shelf":
    """The folder of these outputs, made if there is none.

    Raises:
        ValueError: it keeps others, or not all of these, or cannot be read.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        write_json(file, origin | {"needs": asdict(needs)})
    try:
        there = dict(json.loads(file.read_text(encoding="utf-8")))
        kept: Any = there.pop("needs")
        kept = {x: tuple(y) if isinstance(y, list) else y for x, y in kept.items()}
        shelf = Shelf(folder, there, Needs(**kept))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged; remove the folder to have all computed again"
        ) from error
    here, there = origin | {"needs": needs}, shelf.origin | {"needs": shelf.needs}
    other = [name for name in origin if there.get(name) != here[name]]
    if shelf.needs | needs != shelf.needs:
        other.append("needs")
    if other:
        shown = "; ".join(f"{x} {there.get(x)} there, {here[x]} here" for x in other)
        raise ValueError(
            f"{folder} keeps a teacher's outputs for something else: {shown}; name another folder"
        )
    return shelf


@dataclass(frozen=True, eq=False)
class Shelf:
    """The folder of one teacher's outputs.

    Attributes:
        origin: what they depend on.
        needs: what is kept.
    """

    folder: Path
    origin: dict[str, str]
    needs: Needs

    def files(self, start: int) -> tuple[Path, Path]:
        """The shard that begins at an example, and its checksum."""
        name = f"from-{start:09d}.npz"
        return self.folder / name, self.folder / f"{name}.sha256"

    def read(self, start: int, needs: Needs) -> dict[Key, Kept] | None:
        """What is needed of the shard that begins at an example; None where there is none yet.

        Raises:
            ValueError: it is not what was written here.
        """
        file, beside = self.files(start)
        if not file.exists():
            return None
        if not beside.exists() or self.checksum(file) != beside.read_text().strip():
            raise ValueError(
                f"{file} is damaged, or of something else than {DESCRIPTION} says: its checksum "
                f"is not that in {beside.name}; remove the file to have it computed again"
            )
        found = {}
        with np.load(file) as arrays:
            for name in arrays:
                what, layer, by = name.split("/")
                if is_read((what, int(layer)), needs):
                    found[what, int(layer)] = Kept(by, arrays[name])
        return found

    def write(self, start: int, found: dict[Key, Kept]) -> None:
        """Keeps a shard. The checksum comes first: a shard without one would be a damaged one."""
        file, beside = self.files(start)
        arrays = {f"{what}/{layer}/{kept.by}": kept.array for (what, layer), kept in found.items()}
        with atomic_file(file) as partial:
            with partial.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            with atomic_file(beside) as other:
                other.write_text(f"{self.checksum(partial)}\n")

    def checksum(self, file: Path) -> str:
        """SHA-256 of what a shard depends on, and of its file."""
        begun = hashlib.sha256(json.dumps([self.origin, asdict(self.needs)]).encode())
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: begun).hexdigest()
