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
        "needs": (teacher, encoded, Needs(logits=True)),
    }.items():
        with pytest.raises(ValueError, match=f"something else: {name} ") as caught:
            cache_outputs(*given, folder=folder)
        assert there[name] in str(caught.value) and "\n" not in str(caught.value)
        assert "; name another folder" in str(caught.value)


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
