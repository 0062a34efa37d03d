"""Batches: every example once per epoch, in few shapes.

Every batch is of exactly `batch_size` examples, the last one of a pass filled up, and its shape
comes from a short ladder, so a jitted step compiles once per rung. A loss or a metric that honours
`example_mask` sees every example exactly once. What a batch holds is described in
`effjax.data.layouts`.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from effjax.data.encode import Encoded
from effjax.data.layouts import ASSEMBLE, BUCKETS, Batch, Layout


def train_batches(
    encoded: Encoded,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    pad_id: int,
    start: int = 0,
    layout: Layout = "packed",
) -> Iterator[Batch]:
    """One epoch in an order that is a function of (seed, epoch) alone.

    The epoch is shuffled and cut into batches. Padded, it is grouped by bucket in between; which
    examples of a bucket meet is left to chance: sorting by exact length would save no padding, and
    would put like sentences together. Batch `step` is the same whichever batch the iteration
    starts from.

    Args:
        encoded: From `encode`.
        batch_size: Examples per batch.
        seed: Of the run.
        epoch: Counted from 0.
        pad_id: The tokenizer's padding id.
        start: First batch to yield; a resumed run passes the steps it has done in this epoch.
        layout: Several examples to a row, or one.

    Raises:
        ValueError: If an example is longer than the widest row, or batch_size < 1.
    """
    _check(encoded, batch_size)
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(encoded))
    if layout == "padded":
        order = order[np.argsort(np.searchsorted(BUCKETS, encoded.lengths[order]), kind="stable")]
    steps = rng.permutation(steps_per_epoch(encoded, batch_size))
    for step in steps[start:]:
        examples = order[step * batch_size : (step + 1) * batch_size]
        yield ASSEMBLE[layout](encoded, examples, batch_size, pad_id)


def eval_batches(
    encoded: Encoded, batch_size: int, *, pad_id: int, layout: Layout = "packed"
) -> Iterator[Batch]:
    """Every example once, shortest first; `results[batch["example"]] = ...` restores the order.

    Raises:
        ValueError: As `train_batches`.
    """
    _check(encoded, batch_size)
    order = np.argsort(encoded.lengths, kind="stable")
    for begin in range(0, len(order), batch_size):
        yield ASSEMBLE[layout](encoded, order[begin : begin + batch_size], batch_size, pad_id)


def steps_per_epoch(encoded: Encoded, batch_size: int) -> int:
    """Batches in one pass, the filled-up last one included."""
    return -(-len(encoded) // batch_size)


def padding_share(batches: Iterable[Batch]) -> float:
    """Share of all positions in `batches` that are padding or repeat a token, 0..1."""
    tokens, total = [], 0
    for batch in batches:
        tokens.append(np.unique(batch["token"]))
        total += batch["token"].size
    return 1 - np.sum(np.unique(np.concatenate(tokens)) >= 0) / total


def _check(encoded: Encoded, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; needs at least 1")
    if not len(encoded):
        raise ValueError("no examples to make batches from")
    longest = int(np.argmax(encoded.lengths))
    if encoded.lengths[longest] > BUCKETS[-1]:
        tokens = encoded.lengths[longest]
        raise ValueError(f"example {longest} has {tokens} tokens; the widest row is {BUCKETS[-1]}")
