"""Masks: the shares of the paper, and one function of (seed, epoch, token) however batches lie."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from effjax.data import Encoded, TrainBatches, toy
from effjax.data.encode import IGNORED
from effjax.data.layouts import Batch, Layout, Share
from effjax.data.masking import Masking, noise
from effjax.data.wordpiece import train_wordpiece

PAD, CLS, SEP, MASK = 0, 2, 3, 4
MASKING = Masking(mask_id=MASK, special=(0, 1, 2, 3, 4), vocab_size=105)


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    """1,000 examples: [CLS], 3 to 40 ordinary tokens, [SEP]."""
    random = np.random.default_rng(0)
    lengths = random.integers(5, 43, 1000)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = random.integers(5, 105, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[1:] - 1] = CLS, SEP
    return Encoded(ids, np.zeros_like(ids), offsets, None, np.arange(1000, dtype=np.int32))


def batches(encoded: Encoded, **options: Any) -> TrainBatches:
    return TrainBatches(
        **{"encoded": encoded, "batch_size": 50, "seed": 3, "pad_id": PAD, "masking": MASKING}
        | options
    )


def by_token(encoded: Encoded, parts: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """What the model sees and has to predict, [T] each, in the order of the `Encoded`."""
    seen, labels = np.full((2, len(encoded.input_ids)), -1)
    for part in parts:
        real = part["token"] >= 0
        seen[part["token"][real]] = part["input_ids"][real]
        labels[part["token"][real]] = part["labels"][real]
    return seen, labels


def epoch_of(made: TrainBatches, epoch: int = 0) -> list[Batch]:
    steps = range(epoch * made.per_epoch, (epoch + 1) * made.per_epoch)
    return [part for step in steps for part in made[step]]


def test_random_words_are_those_of_splitmix64():
    """The numbers that are published for the seed 1234567."""
    words = noise(np.uint64(1234567), np.arange(5, dtype=np.int32))
    assert words.dtype == np.uint64
    assert words.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_shares_are_those_of_the_paper(encoded: Encoded):
    """Over 20 epochs, some 440,000 tokens; tolerances are four standard errors or more."""
    ids, made = encoded.input_ids, batches(encoded)
    ordinary = ids >= 5
    chosen, fates, drawn = [], [], []
    for epoch in range(20):
        seen, labels = by_token(encoded, epoch_of(made, epoch))
        where = labels != IGNORED
        assert np.array_equal(labels[where], ids[where])
        assert np.array_equal(seen[~where], ids[~where])
        assert not where[~ordinary].any()
        chosen.append(where[ordinary].mean())
        other = where & (seen != MASK) & (seen != ids)
        fates.append([np.mean(x[where]) for x in (seen == MASK, other, seen == ids)])
        drawn.append(seen[other])
    assert np.mean(chosen) == pytest.approx(0.15, abs=0.0025)
    # A random token is the old one once in a hundred times.
    assert np.mean(fates, axis=0) == pytest.approx([0.8, 0.099, 0.101], abs=0.007)
    counts = np.bincount(np.concatenate(drawn), minlength=105)
    assert not counts[:5].any() and counts[5:].min() > counts[5:].mean() / 2


def test_every_epoch_and_every_seed_masks_anew(encoded: Encoded):
    made = batches(encoded)
    masks = [by_token(encoded, epoch_of(made, epoch))[1] != IGNORED for epoch in (0, 1)]
    masks.append(by_token(encoded, epoch_of(batches(encoded, seed=4)))[1] != IGNORED)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = (masks[i] & masks[j])[encoded.input_ids >= 5].mean()
        assert both == pytest.approx(0.15**2, abs=0.005)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("micro_batches", [1, 5])
def test_masks_do_not_depend_on_how_batches_lie(
    encoded: Encoded, layout: Layout, micro_batches: int
):
    made = batches(encoded, layout=layout, micro_batches=micro_batches)
    for epoch in (0, 2):
        wanted = by_token(encoded, epoch_of(batches(encoded), epoch))
        found = by_token(encoded, epoch_of(made, epoch))
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_what_is_predicted_is_what_has_a_label(encoded: Encoded, layout: Layout):
    """Each row names the places of its labels in order, then its length, P in all."""
    for part in epoch_of(batches(encoded, layout=layout)):
        rows, length = part["labels"].shape
        assert part["predicted"].shape == (rows, MASKING.most(length))
        assert part["predicted"].dtype == np.int32
        for labels, predicted in zip(part["labels"], part["predicted"], strict=True):
            where = np.flatnonzero(labels != IGNORED).tolist()
            assert predicted.tolist() == where + [length] * (len(predicted) - len(where))


def test_a_row_has_room_for_hardly_more_than_chance_chooses():
    assert [MASKING.most(length) for length in (8, 64, 128, 512)] == [8, 24, 40, 120]
    assert replace(MASKING, rate=1.0).most(64) == 64
    rng = np.random.default_rng(0)
    for length in (64, 128, 512):
        assert rng.binomial(length, 0.15, 100_000).max() <= MASKING.most(length)


def test_what_finds_no_room_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch):
    def always(words: np.ndarray, share: float) -> np.ndarray:
        return np.full(words.shape, share > 0)

    monkeypatch.setattr("effjax.data.masking.below", always)
    ids = np.full((1, 64), 7, np.int32)
    found = MASKING({"input_ids": ids, "token": np.arange(64)[None]}, seed=0, epoch=0)
    assert (found["labels"] == 7).sum() == (found["input_ids"] == MASK).sum() == 24
    assert np.all(found["labels"][:, 24:] == IGNORED) and np.all(found["input_ids"][:, 24:] == 7)


def test_two_processes_mask_as_one(encoded: Encoded):
    whole = batches(encoded, share=Share.whole(2))[7]
    halves = [batches(encoded, share=Share((i,), 2))[7] for i in (0, 1)]
    for name in ("input_ids", "labels", "predicted"):
        both = np.concatenate([half[0][name] for half in halves])
        assert np.array_equal(both, whole[0][name])


def test_a_run_that_goes_on_masks_what_it_would_have(encoded: Encoded):
    whole, rest = list(batches(encoded).between(15, 30)), batches(encoded).between(25, 30)
    for one, other in zip(whole[10:], rest, strict=True):
        assert all(np.array_equal(one[0][name], other[0][name]) for name in one[0])


def test_padding_and_what_fills_up_a_batch(encoded: Encoded):
    """Padded, the last rows repeat the first one, masks included."""
    last = batches(encoded, batch_size=64, layout="padded")
    full = [part for part in epoch_of(last) if not part["example_mask"].all()]
    assert len(full) == 1
    labels, ids = full[0]["labels"], full[0]["input_ids"]
    assert np.all(labels[full[0]["token"] < 0] == IGNORED)
    assert np.all(ids[full[0]["token"] < 0] == PAD)
    fill = full[0]["example_mask"] == 0
    assert np.all(labels[fill] == labels[0]) and np.all(ids[fill] == ids[0])
    assert labels.dtype == ids.dtype == np.int32


def test_a_tokenizer_says_what_is_special():
    tokenizer = train_wordpiece(toy.examples("train", size=100).texts[0], 100)
    masking = Masking.of(tokenizer, rate=0.3)
    assert masking.special == (0, 1, 2, 3, 4)
    assert (masking.mask_id, masking.vocab_size, masking.rate) == (4, len(tokenizer), 0.3)
    assert masking.ordinary.tolist() == list(range(5, len(tokenizer)))
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="BertTokenizer has no mask token"):
        Masking.of(tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 1.5}, "rate is 1.5; a share is 0 to 1"),
        ({"rate": 0.0}, "the rate must be above 0"),
        ({"replaced": 0.3}, "at most 1 together"),
        ({"vocab_size": 5}, "all of 5 tokens are special"),
    ],
)
def test_what_cannot_be_masked_is_named(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(MASKING, **changes)


def test_words_are_masked_whole(encoded: Encoded):
    """Every third ordinary id goes on with the word before it: all of a word is chosen or nothing,
    however batches are made, and as many tokens as else.
    """
    ids, rate = encoded.input_ids, []
    whole = replace(MASKING, continuing=tuple(range(7, 105, 3)))
    word = np.cumsum(~np.isin(ids, whole.continuing))
    _, count = np.unique(word[ids >= 5], return_counts=True)
    assert count.max() > 3
    for epoch in range(10):
        _, labels = by_token(encoded, epoch_of(batches(encoded, masking=whole), epoch))
        chosen = labels[ids >= 5] != IGNORED
        words = np.bincount(word[ids >= 5], chosen)[np.unique(word[ids >= 5])]
        assert set(np.unique(words / count)) == {0.0, 1.0}
        rate.append(chosen.mean())
        padded = batches(encoded, masking=whole, layout="padded", micro_batches=2)
        assert np.array_equal(labels, by_token(encoded, epoch_of(padded, epoch))[1])
    assert np.mean(rate) == pytest.approx(0.15, abs=0.006)


def test_pieces_that_go_on_with_a_word_are_known():
    wordpiece = train_wordpiece(toy.examples("train", size=100).texts[0], 60, max_length=16)
    found = Masking.of(wordpiece, whole_words=True).continuing
    names = wordpiece.convert_ids_to_tokens(list(found))
    assert names and all(name.startswith("##") for name in names)
    assert len(names) == sum(name.startswith("##") for name in wordpiece.get_vocab())
    assert Masking.of(wordpiece).continuing == ()
    pieces = {"<s>": 0, "<mask>": 1, "▁a": 2, "b": 3, "▁c": 4, "d": 5}
    kinds = {"pieces": pieces, "letters": {x.strip("▁"): i for x, i in pieces.items()}}
    made = {
        name: PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(Unigram([(x, 0.0) for x in vocabulary], unk_id=0)),
            unk_token="<s>",
            mask_token="<mask>",
        )
        for name, vocabulary in kinds.items()
    }
    assert Masking.of(made["pieces"], whole_words=True).continuing == (3, 5)
    with pytest.raises(ValueError, match="does not mark where words begin; expected WordPiece"):
        Masking.of(made["letters"], whole_words=True)
