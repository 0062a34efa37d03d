"""Layouts: how the examples of one batch lie in its rows.

Padded, every example has a row of its own, as wide as the longest wants. Packed, several short
ones share a row, so that hardly a token is padding: an example's tokens stay next to each other,
positions restart with every example and attention stays inside it, so that it has the outputs that
it has alone.

Keys of a batch of N examples in B rows of L tokens (padded, B = N):

* `input_ids`, `attention_mask`, `token_type_ids` int32 [B, L];
* `token` int32 [B, L]: which token of the `Encoded` stands there, -1 for padding;
* `example` int32 [N], the example's number, and `example_mask` float32 [N]: examples that only fill
  up a batch have 0 and repeat the first one, number, labels and start, packed without new tokens;
* where there are labels, `labels` [N], or per token [B, L]; of answers `start_positions` and
  `end_positions` [N], counted from the example's first token;
* of a masked LM, `predicted` int32 [B, P], the places in each row that are to be predicted
  (`effjax.data.masking`);
* packed only: `segment_ids` int32 [B, L], n + 1 at the tokens of the batch's example n, and
  `starts` int32 [N], where each example begins in the rows laid end to end.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effjax.data.encode import IGNORED, Encoded

BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
BUCKETS += (768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Widths of padded rows."""

WIDTHS = (64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448, 512)
WIDTHS += (640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096)
WIDTHS += (5120, 6144, 7168, 8192)
"""Widths of packed rows: an example that is too long to share one wants it hardly wider."""

Batch = dict[str, np.ndarray]
Layout = Literal["packed", "padded"]
ROW_WIDTHS: dict[Layout, tuple[int, ...]] = {"packed": WIDTHS, "padded": BUCKETS}
Examples = np.ndarray
Rows = list[list[int]]
"""Which examples each row holds, by their places among those that are packed."""


@dataclass(frozen=True)
class Share:
    """Which rows of a batch are asked for, where several processes make it together.

    Attributes:
        blocks: those of this process, of the equal blocks that the rows are cut into; ascending. A
            TPU's hosts seldom have neighbours.
        multiple: how many blocks there are; the number of rows is a multiple of it.
    """

    blocks: tuple[int, ...] = (0,)
    multiple: int = 1

    @classmethod
    def whole(cls, multiple: int) -> "Share":
        """All rows, their number a multiple of this."""
        return cls(tuple(range(multiple)), multiple)

    def up(self, rows: int) -> int:
        """The number of rows that `rows` are filled up to."""
        return -(-rows // self.multiple) * self.multiple

    def of(self, token: np.ndarray) -> np.ndarray:
        """The rows that are asked for."""
        blocks = token.reshape(self.multiple, -1, *token.shape[1:])
        return blocks[list(self.blocks)].reshape(-1, *token.shape[1:])


ALL = Share()
"""Every row."""


def padded_batches(
    encoded: Encoded, examples: Examples, parts: int, size: int, pad_id: int, share: Share = ALL
) -> tuple[Batch, ...]:
    """One example to a row, in the narrowest bucket that holds the longest.

    Args:
        examples: rows of `encoded`, at most `size`.
        parts: batches of one shape that the examples are shared out to.
        size: N of all parts together; that of one is filled up to what can be shared out.
        share: the rows that are asked for; what there is per example, is there of all.
    """
    width = fitting(BUCKETS, encoded.lengths[examples])
    count = share.up(size // parts)

    def batch(examples: Examples) -> Batch:
        filled = fill(examples, count)
        inside = np.arange(width) < encoded.lengths[filled][:, None]
        token = np.where(inside, encoded.offsets[filled][:, None] + np.arange(width), -1)
        return fields(encoded, share.of(token), examples, count, pad_id)

    return tuple(batch(part) for part in np.array_split(examples, parts))


def packed_batches(
    encoded: Encoded, examples: Examples, parts: int, size: int, pad_id: int, share: Share = ALL
) -> tuple[Batch, ...]:
    """As few rows as the examples fit in, which are shared out to the parts.

    Arguments as of `padded_batches`, but that every part has an N of `size`, as any of its rows may
    hold many examples.
    """
    lengths = encoded.lengths[examples]
    width = fitting(WIDTHS, lengths)
    shared = deal(pack(lengths, width), parts)
    shape = (share.up(rung(len(shared[0]))), width)
    return tuple(
        packed_batch(encoded, examples, rows, shape, size, pad_id, share) for rows in shared
    )


def packed_batch(
    encoded: Encoded,
    examples: Examples,
    rows: Rows,
    shape: tuple[int, int],
    size: int,
    pad_id: int,
    share: Share = ALL,
) -> Batch:
    """The rows, filled up to a shape of rows and tokens, and their examples in the order given,
    filled up to `size`.

    Args:
        examples: what `rows` counts in; those in no row are left out.
    """
    inside = sorted(n for row in rows for n in row)
    number = {n: i for i, n in enumerate(inside)}
    examples = examples[inside]
    token = np.full(shape, -1)
    segments, starts = np.zeros(shape, np.int32), np.zeros(size, np.int32)
    for i, row in enumerate(rows):
        begin = 0
        for n in map(number.__getitem__, row):
            first, end = map(int, encoded.offsets[examples[n] :][:2])
            here = slice(begin, begin + end - first)
            token[i, here], segments[i, here] = np.arange(first, end), n + 1
            starts[n] = i * shape[1] + begin
            begin = here.stop
    starts[len(examples) :] = starts[0]
    made = fields(encoded, share.of(token), examples, size, pad_id)
    return {**made, "segment_ids": share.of(segments), "starts": starts}


Assemble = Callable[[Encoded, Examples, int, int, int, Share], tuple[Batch, ...]]

ASSEMBLE: dict[Layout, Assemble] = {"packed": packed_batches, "padded": padded_batches}


def fields(
    encoded: Encoded, token: np.ndarray, examples: Examples, size: int, pad_id: int
) -> Batch:
    """What both layouts have in common, given which token stands where."""

    def at(tokens: np.ndarray, padding: int) -> np.ndarray:
        return np.where(token >= 0, tokens[token], np.int32(padding))

    batch = {
        "input_ids": at(encoded.input_ids, pad_id),
        "attention_mask": (token >= 0).astype(np.int32),
        "token_type_ids": at(encoded.token_type_ids, 0),
        "token": token.astype(np.int32),
        "example": fill(examples, size).astype(np.int32),
        "example_mask": (np.arange(size) < len(examples)).astype(np.float32),
    }
    if encoded.labels is None:
        return batch
    if encoded.labels_per_token:
        return {**batch, "labels": at(encoded.labels, IGNORED)}
    labels = encoded.labels[batch["example"]]
    if labels.ndim == 1:
        return {**batch, "labels": labels}
    return {**batch, "start_positions": labels[:, 0], "end_positions": labels[:, 1]}


def fill(examples: Examples, size: int) -> Examples:
    """The examples, and the first again (of none, example 0) until there are `size`."""
    first = examples[0] if len(examples) else 0
    return np.concatenate([examples, np.full(size - len(examples), first)]).astype(np.int64)


def fitting(widths: Sequence[int], lengths: np.ndarray) -> int:
    """The narrowest of the ascending widths that holds the longest example.

    Raises:
        ValueError: none does.
    """
    if lengths.max() > widths[-1]:
        raise ValueError(f"an example has {lengths.max()} tokens; the widest row is {widths[-1]}")
    return widths[int(np.searchsorted(widths, lengths.max()))]


def pack(lengths: np.ndarray, width: int) -> Rows:
    """Which examples share a row: best-fit decreasing.

    Source: D. S. Johnson, "Near-optimal bin packing algorithms" (1973): at most 11/9 of the fewest
    rows that there could be, and four.
    """
    rows: Rows = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]
    rooms: list[int] = []  # those that some row has, ascending
    for example in np.argsort(-lengths, kind="stable"):
        length = int(lengths[example])
        place = bisect.bisect_left(rooms, length)
        if place == len(rooms):
            room, row = width, len(rows)
            rows.append([])
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del rooms[place]
        rows[row].append(int(example))
        if not with_room[room - length]:
            bisect.insort(rooms, room - length)
        with_room[room - length].append(row)
    return rows


def deal(rows: Rows, parts: int) -> list[Rows]:
    """Row i for part i modulo `parts`, so that long and short examples meet in each; the first part
    has the most rows.
    """
    return [rows[i::parts] for i in range(parts)]


def rung(count: int) -> int:
    """The number of rows that `count` rows are filled up to, so that there are few shapes.

    Up to 16 every count, to 32 every second one, to 64 every fourth, and so on.
    """
    step = max(1, 2 ** ((count - 1).bit_length() - 4))
    return -(-count // step) * step
