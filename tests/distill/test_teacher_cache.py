"""A teacher's outputs on disk: whole or refused, and what a student learns from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import softmax

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.distill import CachedOutputs, Needs, cache_outputs, teacher_cache
from effjax.models import Model, create
from effjax.models.base import Head
from effjax.tree import flatten, unflatten

NEEDS = Needs(logits=True, sentence=True, hidden=(0, 2), k=(1,), scores=(2,))


def small(head: Head) -> Model:
    return create(
        "bert",
        size="tiny",
        head=head,
        key=jax.random.key(0),
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        vocab_size=40,
        initializer_range=0.5,
    )


@pytest.fixture(scope="module")
def teacher() -> Model:
    return small("sequence-classification")


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    """23 examples of 2 to 6 tokens."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, 7, 23)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(1, 40, offsets[-1]).astype(np.int32)
    return Encoded(ids, np.zeros_like(ids), offsets, None, np.arange(23, dtype=np.int32))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD", 10)


@pytest.fixture(scope="module")
def folder(teacher: Model, encoded: Encoded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole one."""
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher_cache, "SHARD", 10)
        cache_outputs(teacher, encoded, NEEDS, folder=folder)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def same(one: CachedOutputs, other: CachedOutputs) -> bool:
    return one.kept.keys() == other.kept.keys() and all(
        np.array_equal(one.kept[key].array, other.kept[key].array) for key in one.kept
    )


def no_teacher(*given: Any) -> Any:
    raise AssertionError("the teacher was run")


def test_what_is_on_disk_is_what_was_computed_and_the_teacher_rests(
    teacher: Model, encoded: Encoded, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: a student that learns from either has the same training."""
    in_memory = cache_outputs(teacher, encoded, NEEDS)
    monkeypatch.setattr(Model, "trace", no_teacher)
    seen = []
    found = cache_outputs(
        teacher, encoded, NEEDS, folder=folder, progress=lambda i, n: seen.append((i, n))
    )
    assert same(found, in_memory)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(list(folder.glob("from-*.npz"))) == 3


def test_an_interrupted_one_goes_on(
    teacher: Model, encoded: Encoded, folder: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(i: int, n: int) -> None:
        if i == 2:
            raise Killed

    with pytest.raises(Killed):
        cache_outputs(teacher, encoded, NEEDS, folder=tmp_path, progress=die)
    first = [(file.name, file.stat().st_mtime_ns) for file in sorted(tmp_path.glob("from-*.npz"))]
    assert len(first) == 2
    found = cache_outputs(teacher, encoded, NEEDS, folder=tmp_path)
    assert same(found, cache_outputs(teacher, encoded, NEEDS, folder=folder))
    again = [(file.name, file.stat().st_mtime_ns) for file in sorted(tmp_path.glob("from-*.npz"))]
    assert again[:2] == first and len(again) == 3


def test_a_damaged_shard_is_an_error_and_a_removed_one_computed_again(
    teacher: Model, encoded: Encoded, folder: Path, copy: Path
) -> None:
    file = copy / "from-000000010.npz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"from-000000010\.npz is damaged") as caught:
        cache_outputs(teacher, encoded, NEEDS, folder=copy)
    assert "\n" not in str(caught.value)
    file.unlink()
    found = cache_outputs(teacher, encoded, NEEDS, folder=copy)
    assert same(found, cache_outputs(teacher, encoded, NEEDS, folder=folder))
    (copy / "outputs.json").write_text("{")
    with pytest.raises(ValueError, match=r"outputs\.json is damaged"):
        cache_outputs(teacher, encoded, NEEDS, folder=copy)


def test_what_is_of_something_else_is_refused_with_both_sides(
    teacher: Model, encoded: Encoded, folder: Path
) -> None:
    other = teacher.replace(params=jax.tree.map(lambda x: x + 1e-6, teacher.params))
    tokens = replace(encoded, input_ids=encoded.input_ids[::-1])
    low = teacher.replace(runtime=replace(teacher.runtime, dtype="bfloat16"))
    there = json.loads((folder / "outputs.json").read_text())
    for name, given in {
        "teacher": (other, encoded, NEEDS),
        "precision": (low, encoded, NEEDS),
        "tokens": (teacher, tokens, NEEDS),
    }.items():
        with pytest.raises(ValueError, match=f"something else: {name} ") as caught:
            cache_outputs(*given, folder=folder)
        assert there[name] in str(caught.value) and "\n" not in str(caught.value)
        assert "; name another folder" in str(caught.value)
    more = Needs(hidden=(1,))
    with pytest.raises(ValueError, match=r"something else: needs Needs\(.*there, Needs\(.*here"):
        cache_outputs(teacher, encoded, more, folder=folder)


def test_what_is_kept_may_be_more_than_is_needed(
    teacher: Model, encoded: Encoded, folder: Path, copy: Path
) -> None:
    """A shard that is missing is computed with all that the folder keeps."""
    less = Needs(logits=True, hidden=(2,))
    (copy / "from-000000010.npz").unlink()
    found = cache_outputs(teacher, encoded, less, folder=copy)
    assert same(found, cache_outputs(teacher, encoded, less))
    assert set(found.kept) == {("logits", 0), ("hidden", 2)}
    whole = cache_outputs(teacher, encoded, NEEDS, folder=copy)
    assert same(whole, cache_outputs(teacher, encoded, NEEDS, folder=folder))
    assert whole.digest == found.digest


def test_shards_of_another_teacher_are_never_taken(
    teacher: Model, encoded: Encoded, folder: Path, copy: Path
) -> None:
    """Neither where nothing says whose they are, nor where one was put among one's own."""
    other = teacher.replace(params=jax.tree.map(lambda x: x + 1, teacher.params))
    (copy / "outputs.json").unlink()
    with pytest.raises(ValueError, match=r"or of something else than outputs\.json says"):
        cache_outputs(other, encoded, NEEDS, folder=copy)
    for file in copy.iterdir():
        file.unlink()
    cache_outputs(other, encoded, NEEDS, folder=copy)
    for file in folder.glob("from-000000010*"):
        (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"from-000000010\.npz is damaged, or of something else"):
        cache_outputs(other, encoded, NEEDS, folder=copy)


def test_numbers_that_are_none_are_not_kept(teacher: Model, encoded: Encoded) -> None:
    spoiled = teacher.replace(params=jax.tree.map(lambda x: x * np.nan, teacher.params))
    with pytest.raises(ValueError, match="logits 0 of the teacher reaches nan; float32 is for"):
        cache_outputs(spoiled, encoded, Needs(logits=True))
    keys = {"layer_0/attention/key/kernel": 1e6}
    large = {path: x * keys.get(path, 1) for path, x in flatten(teacher.params).items()}
    with pytest.raises(ValueError, match=r"k 1 of .*; float16 is for finite numbers, up to 65504"):
        cache_outputs(teacher.replace(params=unflatten(large)), encoded, Needs(k=(1,)))


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_logit_cannot_be_kept(teacher: Model, encoded: Encoded, k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k is {k}; expected 1 logit or more"):
        cache_outputs(teacher, encoded, Needs(logits=True), top_k=k)


def test_top_logits_are_of_heads_whose_logits_share_a_probability(encoded: Encoded) -> None:
    with pytest.raises(ValueError, match="the head question-answering, whose logits share no"):
        cache_outputs(small("question-answering"), encoded, Needs(logits=True), top_k=1)


def test_the_top_logits_leave_their_share_to_the_others(encoded: Encoded, tmp_path: Path) -> None:
    words, needs = small("masked-lm"), Needs(logits=True)
    (batch,) = eval_batches(encoded, 64, pad_id=0)
    real = batch["token"] >= 0
    whole = softmax(np.asarray(words.trace(batch).logits)[real], axis=-1)
    cached = cache_outputs(words, encoded, needs, folder=tmp_path, top_k=5)
    found = softmax(np.asarray(cached(batch).logits)[real], axis=-1)
    order = np.argsort(whole, axis=-1)
    top, others = order[:, -5:], order[:, :-5]
    for at, want in ((top, np.take_along_axis(whole, top, -1)), (others, None)):
        kept = np.take_along_axis(found, at, -1)
        if want is None:
            share = np.take_along_axis(whole, others, -1).mean(-1, keepdims=True)
            want = np.broadcast_to(share, kept.shape)
        np.testing.assert_allclose(kept, want, rtol=1e-4)
    exact = cache_outputs(words, encoded, needs, top_k=40)
    assert same(exact, cache_outputs(words, encoded, needs))
