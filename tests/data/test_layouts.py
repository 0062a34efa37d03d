"""Packed rows: every token once, examples whole, few rows; and what both layouts have in common."""

from typing import Any

import numpy as np
import pytest

from effjax.data import WIDTHS, Encoded, TrainBatches, padding_share
from effjax.data.encode import IGNORED
from effjax.data.layouts import ALL, ASSEMBLE, Batch, Layout, Share, pack, rung

PAD = 99


def _encoded(lengths: list[int], labels: np.ndarray | None = None) -> Encoded:
    """Tokens 0, 1, 2, ... over all examples; token types are the token's parity."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.int32)
    idx = np.arange(len(lengths), dtype=np.int32)
    return Encoded(ids, ids % 2, offsets, labels, idx)


def batch_of(layout: Layout, encoded: Encoded, examples: np.ndarray, size: int, pad: int) -> Batch:
    (batch,) = ASSEMBLE[layout](encoded, examples, 1, size, pad, ALL)
    return batch


def epoch_of(encoded: Encoded) -> list[Batch]:
    batches = TrainBatches(encoded=encoded, batch_size=32, seed=0, pad_id=PAD)
    return [batches[step][0] for step in range(batches.per_epoch)]


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    lengths = np.random.default_rng(0).integers(3, 40, 500)
    return _encoded(lengths.tolist(), np.arange(500, dtype=np.int32) % 3)


def test_examples_lie_whole_one_after_the_other(encoded: Encoded):
    examples = np.arange(100, 132)
    batch = batch_of("packed", encoded, examples, 32, PAD)
    segments = batch["segment_ids"].ravel()
    for n, example in enumerate(examples):
        first, end = encoded.offsets[example], encoded.offsets[example + 1]
        at = np.flatnonzero(segments == n + 1)
        assert at.tolist() == list(range(batch["starts"][n], batch["starts"][n] + end - first))
        assert at[0] // batch["token"].shape[1] == at[-1] // batch["token"].shape[1]  # one row
        assert batch["input_ids"].ravel()[at].tolist() == list(range(first, end))
    assert np.all(batch["input_ids"][batch["segment_ids"] == 0] == PAD)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_token_is_named_by_its_place_in_the_encoded(encoded: Encoded, layout: Layout):
    batch = batch_of(layout, encoded, np.arange(7, 20), 16, PAD)
    token, real = batch["token"], batch["attention_mask"].astype(bool)
    assert np.array_equal(real, token >= 0)
    assert np.array_equal(batch["input_ids"], np.where(real, token, PAD))
    assert np.array_equal(batch["token_type_ids"], np.where(real, token % 2, 0))
    assert np.array_equal(batch["example"], [*range(7, 20), 7, 7, 7])
    assert np.array_equal(batch["labels"], batch["example"] % 3)
    assert batch["example_mask"].tolist() == [1.0] * 13 + [0.0] * 3


def test_what_fills_up_a_packed_batch_has_no_tokens_and_the_first_example_s_result(
    encoded: Encoded,
):
    batch = batch_of("packed", encoded, np.arange(7, 20), 16, PAD)
    assert batch["segment_ids"].max() == 13
    assert batch["starts"][13:].tolist() == [batch["starts"][0]] * 3


def test_every_example_is_packed_once_and_rows_are_never_too_full():
    lengths = np.random.default_rng(1).integers(1, 64, 200)
    rows = pack(lengths, 64)
    assert sorted(example for row in rows for example in row) == list(range(200))
    assert max(lengths[row].sum() for row in rows) <= 64
    assert len(rows) <= 11 / 9 * np.ceil(lengths.sum() / 64) + 1


def test_row_counts_come_from_a_short_ladder():
    assert [rung(n) for n in (1, 7, 16, 17, 31, 33, 65, 100)] == [1, 7, 16, 18, 32, 36, 72, 104]
    assert len({rung(n) for n in range(1, 129)}) == 16 + 8 + 8 + 8


def test_packing_leaves_little_padding_and_few_shapes(encoded: Encoded):
    batches = epoch_of(encoded)
    assert padding_share(batches) < 0.12
    assert {batch["token"].shape[1] for batch in batches} == {WIDTHS[0]}
    assert len({batch["token"].shape for batch in batches}) <= 5


def test_an_epoch_of_packed_batches_holds_every_token_once(encoded: Encoded):
    batches = epoch_of(encoded)
    tokens = np.concatenate([batch["token"].ravel() for batch in batches])
    assert np.array_equal(np.sort(tokens[tokens >= 0]), encoded.input_ids)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_labels_of_tokens_lie_where_the_tokens_do(layout: Layout):
    encoded = _encoded([3, 5, 2], np.arange(10, 20, dtype=np.int32))
    batch = batch_of(layout, encoded, np.array([2, 0]), 2, PAD)
    real = batch["token"] >= 0
    assert np.array_equal(batch["labels"][real], batch["token"][real] + 10)
    assert np.all(batch["labels"][~real] == IGNORED)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_labels_of_answers_are_their_positions(layout: Layout):
    encoded = _encoded([3, 5, 2], np.array([[0, 1], [2, 4], [1, 1]], np.int32))
    batch = batch_of(layout, encoded, np.array([1, 2]), 3, PAD)
    assert batch["start_positions"].tolist() == [2, 1, 2]
    assert batch["end_positions"].tolist() == [4, 1, 4]
    assert "labels" not in batch


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_parts_have_one_shape_and_the_examples_of_the_whole(encoded: Encoded, layout: Layout):
    """The last batch of an epoch has fewer examples than it has parts."""
    fields: Any = {"encoded": encoded, "batch_size": 16, "seed": 0, "pad_id": PAD}
    made = [TrainBatches(**fields, layout=layout, micro_batches=parts) for parts in (1, 8)]
    for step in range(made[0].per_epoch):
        (whole,), parts = (batches[step] for batches in made)
        assert len({part["token"].shape for part in parts}) == 1
        tokens = [np.sort(b["token"][b["token"] >= 0]) for b in (whole, *parts)]
        counts = np.concatenate([part["example_mask"] for part in parts])
        examples = np.concatenate([part["example"] for part in parts])
        assert counts.sum() == whole["example_mask"].sum()
        assert set(examples[counts > 0]) == set(whole["example"])
        if layout == "packed":
            assert np.array_equal(np.sort(np.concatenate(tokens[1:])), tokens[0])


def test_rows_and_not_examples_are_shared_out_to_the_parts(encoded: Encoded):
    """In parts of few examples each, rows would not be filled."""
    fields: Any = {"encoded": encoded, "batch_size": 64, "seed": 0, "pad_id": PAD}
    whole, split = (TrainBatches(**fields, micro_batches=parts)[0] for parts in (1, 4))
    rows = len(whole[0]["token"])
    assert sum(len(part["token"]) for part in split) <= rows + 3
    for part in split:
        held = np.flatnonzero(part["example_mask"])
        assert np.array_equal(np.unique(part["segment_ids"])[1:], held + 1)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_shares_of_all_processes_are_the_batch(encoded: Encoded, layout: Layout):
    examples = np.arange(20, 39)
    (whole,) = ASSEMBLE[layout](encoded, examples, 1, 19, PAD, Share.whole(4))
    shares = [
        ASSEMBLE[layout](encoded, examples, 1, 19, PAD, Share(own, 4))[0]
        for own in ((0, 2), (1, 3))  # as on a TPU
    ]
    assert len(whole["token"]) % 4 == 0
    for name, array in whole.items():
        if array.ndim == 2:
            blocks = [np.split(share[name], 2) for share in shares]
            both = [block for pair in zip(*blocks, strict=True) for block in pair]
            assert np.array_equal(np.concatenate(both), array)
        else:
            assert all(np.array_equal(share[name], array) for share in shares)


def test_long_examples_lie_whole_in_rows_of_up_to_8192_tokens():
    encoded = _encoded([8192, 700, 3000, 40, 5000, 513])
    examples = np.arange(6)
    packed = batch_of("packed", encoded, examples, 6, PAD)
    assert packed["token"].shape == (3, 8192)
    real = np.sort(packed["token"][packed["token"] >= 0])
    assert np.array_equal(real, np.arange(encoded.offsets[-1]))
    assert batch_of("padded", encoded, examples[1:2], 1, PAD)["token"].shape == (1, 768)
    assert batch_of("padded", encoded, examples, 6, PAD)["token"].shape == (6, 8192)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_an_example_wider_than_any_row_is_one_line(layout: Layout):
    with pytest.raises(ValueError, match="an example has 8193 tokens; the widest row is 8192"):
        batch_of(layout, _encoded([5, 8193]), np.arange(2), 2, PAD)


def test_the_row_with_least_room_is_filled_first():
    """Best fit by its definition, which looks at every row."""
    lengths, width = np.random.default_rng(2).integers(1, 300, 400), 512
    room = []
    for length in -np.sort(-lengths):
        fits = [r for r in room if r >= length]
        if fits:
            room.remove(min(fits))
        room.append((min(fits) if fits else width) - length)
    found = [width - lengths[row].sum() for row in pack(lengths, width)]
    assert sorted(found) == sorted(room)
