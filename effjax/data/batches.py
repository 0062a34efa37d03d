"""Batches: every example once per epoch, in few shapes.

Every batch is of exactly `batch_size` examples, the last one of a pass filled up, and its shape
comes from a short ladder, so a jitted step compiles once per rung. A loss or a metric that honours
`example_mask` sees every example exactly once. What a batch holds is described in
`effjax.data.layouts`.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from effjax.data.encode import Encoded
from effjax.data.layouts import (
    ALL,
    ASSEMBLE,
    BUCKETS,
    ROW_WIDTHS,
    WIDTHS,
    Batch,
    Layout,
    Rows,
    Share,
    deal,
    pack,
    packed_batch,
    padded_batches,
    rung,
)
from effjax.data.masking import Masking

T = TypeVar("T")

SHARED = 512
"""No row is wider than this for the sake of sharing it."""

QUADRATIC = 1024
"""The width of a row at which attention takes about as long as all else."""

AHEAD = 4
"""Batches that are made before they are asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainBatches:
    """The batches of a training: a sequence of any length, whose element `step` is a function of
    (seed, step) alone.

    An epoch is shuffled, grouped by the row that an example needs, and cut into batches: a row is
    no wider than its batch's longest example wants, and attention takes a time that grows with the
    row. Which examples of a group meet is left to chance: sorting by exact length would save little
    more, and would put like sentences together.

    Args:
        encoded: From `encode`.
        batch_size: Examples per batch.
        seed: Of the run.
        pad_id: The tokenizer's padding id.
        layout: Several examples to a row, or one.
        micro_batches: Parts of one shape that each batch comes in.
        share: The rows that are asked for.
        masking: Of a masked LM: what it has to predict, other tokens in every epoch.

    Raises:
        ValueError: If an example is longer than the widest row, there is none, or batch_size < 1.
    """

    encoded: Encoded
    batch_size: int
    seed: int
    pad_id: int
    layout: Layout = "packed"
    micro_batches: int = 1
    share: Share = ALL
    masking: Masking | None = None

    def __post_init__(self) -> None:
        check(self.encoded, self.batch_size)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass, the filled-up last one included."""
        return steps_per_epoch(self.encoded, self.batch_size)

    def __getitem__(self, step: int) -> tuple[Batch, ...]:
        """The parts of one batch."""
        epoch, place = divmod(step, self.per_epoch)
        order, places = self.order(epoch)
        begin = places[place] * self.batch_size
        examples = order[begin : begin + self.batch_size]
        counts = (self.micro_batches, self.batch_size)
        made = ASSEMBLE[self.layout](self.encoded, examples, *counts, self.pad_id, self.share)
        if self.masking is None:
            return made
        return tuple(self.masking(part, seed=self.seed, epoch=epoch) for part in made)

    def tokens(self, parts: tuple[Batch, ...]) -> int:
        """How many tokens the examples of one batch have, whatever rows of it are asked for."""
        ids = np.concatenate([part["example"][part["example_mask"] > 0] for part in parts])
        return int((self.encoded.offsets[ids + 1] - self.encoded.offsets[ids]).sum())

    @functools.cached_property
    def order(self) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """`shuffled`, remembering the two epochs that meet in one look ahead."""
        return functools.lru_cache(maxsize=2)(self.shuffled)

    def shuffled(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of an epoch in order, and the order of the batches cut from them."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.encoded))
        groups = np.searchsorted(ROW_WIDTHS[self.layout], self.encoded.lengths[order])
        order = order[np.argsort(groups, kind="stable")]
        return order, rng.permutation(self.per_epoch)

    def between(self, start: int, stop: int) -> Iterator[tuple[Batch, ...]]:
        """The batches of steps `start` to `stop`, made ahead by threads of grain.

        A resumed run starts at the steps that it has done; that number is all there is to keep.
        """
        import grain

        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
        steps = grain.MapDataset.range(start, stop).map(self.__getitem__)
        return iter(steps.to_iter_dataset(options))


@dataclass(frozen=True)
class EvalBatches:
    """Batches that are made when they are come to.

    Attributes:
        makers: one for each batch.
    """

    makers: tuple[Callable[[], Batch], ...]

    def __len__(self) -> int:
        return len(self.makers)

    def __iter__(self) -> Iterator[Batch]:
        return (make() for make in self.makers)

    def through(self, compute: Callable[[Batch], T]) -> Iterator[tuple[Batch, T]]:
        """Every batch with what a device computes of it, which is not waited for before the next
        one is begun: it works while that is made.
        """
        begun = collections.deque[tuple[Batch, T]]()
        for batch in self:
            begun.append((batch, compute(batch)))
            if len(begun) > 1:
                yield begun.popleft()
        yield from begun


def eval_batches(
    encoded: Encoded,
    batch_size: int,
    *,
    pad_id: int,
    layout: Layout = "packed",
    tokens: int | None = None,
    share: Share = ALL,
) -> EvalBatches:
    """Every example once; `results[batch["example"]] = ...` restores the order.

    Padded, the shortest come first; packed, those in the narrowest rows.

    Args:
        batch_size: rows of a batch; padded, its examples.
        tokens: at most so many in packed rows, if that is one row at least.

    Raises:
        ValueError: As `TrainBatches`.
    """
    check(encoded, batch_size)
    if layout == "packed":
        return EvalBatches(tuple(packed(encoded, batch_size, pad_id, tokens, share)))
    order = np.argsort(encoded.lengths, kind="stable")
    parts = (order[i : i + batch_size] for i in range(0, len(order), batch_size))

    def make(part: np.ndarray) -> Batch:
        return padded_batches(encoded, part, 1, batch_size, pad_id, share)[0]

    return EvalBatches(tuple(functools.partial(make, part) for part in parts))


def packed(
    encoded: Encoded, batch_size: int, pad_id: int, tokens: int | None, share: Share
) -> Iterator[Callable[[], Batch]]:
    """Makers of batches; all examples in rows of one width are packed together, which leaves less
    padding than batch by batch, and have one shape.
    """
    for width, chosen, rows in cheapest(encoded.lengths):
        most = batch_size if tokens is None else max(1, min(batch_size, tokens // width))
        parts = deal(rows, -(-len(rows) // most))
        shape = (share.up(rung(len(parts[0]))), width)
        size = max(sum(map(len, part)) for part in parts)
        for part in parts:
            yield functools.partial(packed_batch, encoded, chosen, part, shape, size, pad_id, share)


Packing = list[tuple[int, np.ndarray, Rows]]
"""The width of some rows, which examples are in these, and which are in each, as places there."""


def cheapest(lengths: np.ndarray) -> Packing:
    """Examples up to some width share rows of it, longer ones have rows of their own, as narrow as
    they go: the width is that with which all is computed soonest.
    """

    def packing(shared: int) -> Packing:
        widths = np.maximum(np.take(WIDTHS, np.searchsorted(WIDTHS, lengths)), shared)
        chosen = {int(width): np.flatnonzero(widths == width) for width in np.unique(widths)}
        return [(width, part, pack(lengths[part], width)) for width, part in chosen.items()]

    def cost(made: Packing) -> float:
        return sum(len(rows) * width * (1 + width / QUADRATIC) for width, _, rows in made)

    return min((packing(width) for width in WIDTHS if width <= SHARED), key=cost)


def steps_per_epoch(encoded: Encoded, batch_size: int) -> int:
    """Training batches in one pass, the filled-up last one included."""
    return -(-len(encoded) // batch_size)


def padding_share(batches: Iterable[Batch]) -> float:
    """Share of all positions in `batches` that are padding or repeat a token, 0..1."""
    tokens, total = [], 0
    for batch in batches:
        tokens.append(np.unique(batch["token"]))
        total += batch["token"].size
    return 1 - np.sum(np.unique(np.concatenate(tokens)) >= 0) / total


def check(encoded: Encoded, batch_size: int) -> None:
    """Raises ValueError where no batches can be made."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; needs at least 1")
    if not len(encoded):
        raise ValueError("no examples to make batches from")
    longest = int(np.argmax(encoded.lengths))
    if encoded.lengths[longest] > BUCKETS[-1]:
        tokens = encoded.lengths[longest]
        raise ValueError(f"example {longest} has {tokens} tokens; the widest row is {BUCKETS[-1]}")
