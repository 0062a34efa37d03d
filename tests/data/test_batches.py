"""Batches: every example once, few shapes, and an order that depends on (seed, epoch) alone."""

import numpy as np
import pytest

from effjax.data import (
    BUCKETS,
    Encoded,
    Layout,
    TrainBatches,
    eval_batches,
    padding_share,
    steps_per_epoch,
)
from effjax.data.layouts import ALL, ROW_WIDTHS, Batch, Share
from effjax.data.masking import Masking

PAD = 99


def _encoded(lengths: np.ndarray, labels: bool = True) -> Encoded:
    """Example i holds the tokens i, i, i, ...; token types are 1."""
    n = len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.repeat(np.arange(n), lengths).astype(np.int32)
    classes = np.arange(n, dtype=np.int32) % 3 if labels else None
    return Encoded(ids, np.ones_like(ids), offsets, classes, np.arange(n, dtype=np.int32))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    return _encoded(np.random.default_rng(0).integers(3, 60, 1003))


def _train(
    encoded: Encoded, seed: int = 0, epoch: int = 0, start: int = 0, layout: Layout = "padded"
):
    batches = TrainBatches(encoded=encoded, batch_size=16, seed=seed, pad_id=PAD, layout=layout)
    first = epoch * batches.per_epoch
    made = batches.between(first + start, first + batches.per_epoch)
    return [batch for (batch,) in made]


def _order(batches) -> list[int]:
    return [int(row) for batch in batches for row in batch["example"]]


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_every_example_counts_exactly_once_with_its_own_tokens(encoded: Encoded, kind: str):
    batches = (
        _train(encoded)
        if kind == "train"
        else list(eval_batches(encoded, 16, pad_id=PAD, layout="padded"))
    )
    assert len(batches) == steps_per_epoch(encoded, 16) == 63
    counted = np.zeros(len(encoded))
    for batch in batches:
        np.add.at(counted, batch["example"], batch["example_mask"])
        mask, ids = batch["attention_mask"], batch["input_ids"]
        assert ids.shape[0] == 16 and ids.shape[1] in BUCKETS
        assert np.array_equal(mask.sum(1), encoded.lengths[batch["example"]])
        assert np.array_equal(mask, np.sort(mask)[:, ::-1])  # real tokens first
        assert np.array_equal(ids, np.where(mask, batch["example"][:, None], PAD))
        assert np.array_equal(batch["token_type_ids"], mask)
        assert np.array_equal(batch["labels"], batch["example"] % 3)
    assert counted.tolist() == [1.0] * len(encoded)


def test_arrays_have_the_types_that_a_step_takes(encoded: Encoded):
    types = {key: value.dtype for key, value in _train(encoded)[0].items()}
    assert types.pop("example_mask") == np.float32
    common = {"input_ids", "attention_mask", "token_type_ids", "labels", "example", "token"}
    assert set(types) == common
    assert set(types.values()) == {np.dtype(np.int32)}


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_order_depends_on_seed_and_epoch_alone(encoded: Encoded, layout: Layout):
    first = _order(_train(encoded, layout=layout))
    assert _order(_train(encoded, layout=layout)) == first
    others = [
        _order(_train(encoded, seed=seed, epoch=epoch, layout=layout))
        for seed, epoch in ((0, 1), (1, 0), (1, 1))
    ]
    assert first not in others
    assert others[0] != others[1]


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_an_epoch_resumes_at_any_step(encoded: Encoded, layout: Layout):
    whole, rest = _train(encoded, layout=layout), _train(encoded, start=40, layout=layout)
    assert len(rest) == 23
    for one, other in zip(whole[40:], rest, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_lengths_are_not_met_in_order_in_training(encoded: Encoded):
    widths = [batch["input_ids"].shape[1] for batch in _train(encoded)]
    assert widths != sorted(widths) and len(set(widths)) > 3


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_examples_of_one_width_meet_by_chance(layout: Layout):
    """No batch but those at the edge of two widths holds examples of two, and lengths mix."""
    encoded = _encoded(np.random.default_rng(0).integers(3, 400, 1000))
    batches, widths = _train(encoded, layout=layout), ROW_WIDTHS[layout]
    groups = [np.searchsorted(widths, encoded.lengths[b["example"]]) for b in batches]
    mixed = sum(len(set(group.tolist())) > 1 for group in groups)
    assert 1 < mixed < len(widths)
    spread = [len(set(encoded.lengths[b["example"]].tolist())) for b in batches]
    assert np.mean(spread) > 4
    for batch, group in zip(batches, groups, strict=True):
        assert batch["input_ids"].shape[-1] == widths[group.max()]


def test_bucketing_saves_most_of_the_padding(encoded: Encoded):
    share = padding_share(_train(encoded))
    positions = sum(batch["input_ids"].size for batch in _train(encoded))
    assert share == pytest.approx(1 - encoded.lengths.sum() / positions)
    assert share < 0.25 < 1 - encoded.lengths.mean() / 64  # against one length for all


def test_results_are_restored_by_example(encoded: Encoded):
    restored = np.full(len(encoded), -1.0)
    for batch in eval_batches(encoded, 16, pad_id=PAD, layout="padded"):
        restored[batch["example"]] = batch["input_ids"][:, 0] * 2.0
    assert restored.tolist() == [2.0 * i for i in range(len(encoded))]


def test_packed_for_evaluation_hardly_a_token_is_padding():
    """1000 short examples, and a long one in a row of its own width."""
    lengths = np.random.default_rng(0).integers(3, 40, 1000)
    encoded = _encoded(np.append(lengths, 200))
    batches = eval_batches(encoded, 16, pad_id=PAD)
    made = list(batches)
    assert len(made) == len(batches) < steps_per_epoch(encoded, 16)
    assert padding_share(made) < 0.05 < 0.08 < padding_share(_train(encoded, layout="packed"))
    assert {batch["input_ids"].shape for batch in made} == {(16, 64), (1, 224)}
    assert len({batch["example"].shape for batch in made[:-1]}) == 1
    counted = np.zeros(len(encoded))
    for batch in made:
        np.add.at(counted, batch["example"], batch["example_mask"])
        first = batch["input_ids"].ravel()[batch["starts"]]
        assert np.array_equal(first, batch["example"])
        last = batch["starts"] + encoded.lengths[batch["example"]] - 1
        assert np.array_equal(batch["input_ids"].ravel()[last], batch["example"])
    assert counted.tolist() == [1.0] * len(encoded)


def test_the_next_batch_is_begun_before_the_results_of_one_are_waited_for(
    encoded: Encoded,
) -> None:
    batches, done = eval_batches(encoded, 16, pad_id=PAD), list[str]()

    def compute(batch: Batch) -> np.ndarray:
        done.append("begun")
        return batch["example"]

    for batch, found in batches.through(compute):
        assert found is batch["example"]
        done.append("read")
    assert done == ["begun", *["begun", "read"] * (len(batches) - 1), "read"]


def test_long_examples_have_rows_of_their_own_for_evaluation():
    """Two of 150 tokens fill a row of 320 as well as one of 160 each, and cost more attention."""
    made = list(eval_batches(_encoded(np.full(20, 150)), 4, pad_id=PAD))
    assert {batch["input_ids"].shape for batch in made} == {(4, 160)}
    short = list(eval_batches(_encoded(np.full(20, 50)), 4, pad_id=PAD))
    assert {batch["input_ids"].shape for batch in short} == {(4, 256)}  # five in each


def test_rows_for_evaluation_hold_no_more_tokens_than_asked_for():
    encoded = _encoded(np.random.default_rng(0).integers(3, 60, 500))
    shapes = {b["input_ids"].shape for b in eval_batches(encoded, 32, pad_id=PAD, tokens=512)}
    assert shapes == {(5, 96)}
    (wide,) = eval_batches(_encoded(np.array([300])), 32, pad_id=PAD, tokens=100)
    assert wide["input_ids"].shape == (1, 320)


def test_fewer_examples_than_a_batch_and_no_labels():
    two = _encoded(np.array([2, 9]), labels=False)
    (batch,) = eval_batches(two, 4, pad_id=PAD, layout="padded")
    assert batch["input_ids"].shape == (4, 16) and "labels" not in batch
    assert batch["example"].tolist() == [0, 1, 0, 0]
    assert batch["example_mask"].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_what_cannot_be_batched_is_named():
    long = _encoded(np.array([5, 8193, 7]))
    with pytest.raises(ValueError, match="example 1 has 8193 tokens; the widest row is 8192"):
        eval_batches(long, 2, pad_id=PAD)
    with pytest.raises(ValueError, match="batch_size is 0"):
        TrainBatches(encoded=long, batch_size=0, seed=0, pad_id=PAD)
    with pytest.raises(ValueError, match="no examples"):
        eval_batches(_encoded(np.array([], np.int64)), 2, pad_id=PAD)


def test_long_examples_are_evaluated_in_rows_as_narrow_as_they_go():
    encoded = _encoded(np.array([8192, 600, 30, 40, 2100, 50]))
    batches = list(eval_batches(encoded, 4, pad_id=PAD, tokens=8192))
    assert sorted(b["input_ids"].shape[1] for b in batches) == [128, 640, 2560, 8192]
    found = np.concatenate([b["example"][b["example_mask"] > 0] for b in batches])
    assert sorted(found) == list(range(6))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize("share", [ALL, Share((0,), 2), Share((1,), 2)])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_tokens_of_an_epoch_are_those_of_its_examples(
    encoded: Encoded, layout: Layout, share: Share, micro_batches: int, masked: bool
):
    """Each once, in every process; rows that only fill up a batch have none."""
    batches = TrainBatches(
        encoded=encoded,
        batch_size=16,
        seed=0,
        pad_id=PAD,
        layout=layout,
        share=share,
        micro_batches=micro_batches,
        masking=Masking(mask_id=1, special=(0, 1), vocab_size=1003) if masked else None,
    )
    tokens = [batches.tokens(batches[step]) for step in range(batches.per_epoch)]
    assert sum(tokens) == encoded.lengths.sum()
    if share == ALL and layout == "packed":
        parts = batches[0]
        assert tokens[0] == sum(part["attention_mask"].sum() for part in parts)
