"""Teachers that were run before: a training has the bits of a live one's, or is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.data.masking import Masking
from effjax.distill import (
    CachedOutputs,
    HiddenMSE,
    Needs,
    SoftTargets,
    Weighted,
    cache_outputs,
)
from effjax.distill.cached import Kept
from effjax.models import Model, create
from effjax.models.base import Head
from effjax.train import Training, fit, fit_together
from effjax.tree import flatten
from tests.train.small_run import SIZES

SOFT = Weighted(soft=(1.0, SoftTargets(temperature=2.0)))
TRAINING = Training(epochs=1, batch_size=16, learning_rate=1e-2)
MASKING = Masking(mask_id=4, special=(0, 1, 2, 3, 4), vocab_size=32, rate=0.3)


def small(head: Head, hidden: int = 8, positions: int = 16) -> Model:
    """Of one layer, with dropout."""
    sizes = SIZES | {"hidden_size": hidden, "num_hidden_layers": 1}
    sizes |= {"max_position_embeddings": positions}
    return create("bert", size="tiny", head=head, key=jax.random.key(1), **sizes)


@pytest.fixture(scope="module")
def cached(model: Model, encoded: Encoded) -> CachedOutputs:
    return cache_outputs(model, encoded, Needs(logits=True))


@pytest.fixture(scope="module")
def long() -> Encoded:
    """32 examples, each of which fills a row: no matter who is in a batch, it has one shape, and an
    example one place in its row. Sums of another order would have other bits.
    """
    random = np.random.default_rng(0)
    ids = random.integers(10, 31, 32 * 64).astype(np.int32)
    labels, idx = random.integers(0, 2, 32).astype(np.int32), np.arange(32, dtype=np.int32)
    return Encoded(ids, np.zeros_like(ids), 64 * np.arange(33), labels, idx)


@pytest.mark.parametrize("head", ["sequence-classification", "masked-lm"])
def test_all_logits_from_a_cache_train_to_the_bits_of_the_live_teacher(
    long: Encoded, tmp_path: Path, head: Head
) -> None:
    """All are kept with k = None, and with k = 2 classes or the 32 words of the vocabulary."""
    teacher, begun = (
        small(head, hidden, positions=64).replace(runtime=TRAINING.runtime()) for hidden in (16, 8)
    )
    teachers: dict[str, Model | CachedOutputs] = {"live": teacher}
    for k in (None, {"sequence-classification": 2, "masked-lm": 32}[head]):
        needs = Needs(logits=True)
        teachers[f"top {k}"] = cache_outputs(teacher, long, needs, top_k=k, batch_size=16)
    trained = {}
    for name, outputs in teachers.items():
        what: Any = {"folder": tmp_path / name, "teachers": {"teacher": outputs}}
        trained[name] = flatten(fit(begun, long, SOFT, TRAINING, seed=0, **what).model.params)
    live = trained.pop("live")
    moved = [not np.array_equal(live[path], x) for path, x in flatten(begun.params).items()]
    assert sum(moved) > len(moved) / 2
    for name, params in trained.items():
        for path, array in live.items():
            np.testing.assert_array_equal(params[path], array, err_msg=f"{name} {path}")


@pytest.mark.parametrize("together", [False, True])
def test_what_no_objective_reads_is_not_looked_up(
    model: Model, encoded: Encoded, tmp_path: Path, together: bool
) -> None:
    """Of outputs that are kept for other objectives too; what is read is all there, by layer."""
    kept = cache_outputs(model, encoded, Needs(logits=True, hidden=(2,)))
    nothing = {key: Kept("token", np.zeros((0, 8))) for key in (("hidden", 1), ("sentence", 0))}
    more = replace(kept, kept={**kept.kept, **nothing, ("scores", 2): Kept("pair", np.zeros(0))})
    hidden = HiddenMSE(layers=((1, 2),))
    objective = Weighted(soft=(1.0, SoftTargets()), hidden=(1.0, hidden))
    begun, losses = small("sequence-classification"), []
    for name, outputs in {"more": more, "kept": kept}.items():
        how: Any = {"folder": tmp_path / name, "teachers": {"teacher": outputs}}
        what = (encoded, objective, TRAINING)
        if together:
            losses += [fit_together([begun], *what, seeds=(0,), order=0, **how)[0].loss]
        else:
            losses += [fit(begun, *what, seed=0, **how).loss]
    assert losses[0] == losses[1]


def refusal(
    cached: CachedOutputs, encoded: Encoded, out: Path, *, together: bool, **how: Any
) -> str:
    """What `fit` or `fit_together` says before any training."""
    begun, teachers = small("sequence-classification"), {"teacher": cached}
    how |= {"folder": out / "run", "teachers": teachers}
    with pytest.raises(ValueError) as caught:
        if together:
            fit_together([begun] * 2, encoded, SOFT, TRAINING, seeds=(0, 1), order=0, **how)
        else:
            fit(begun, encoded, SOFT, TRAINING, seed=0, **how)
    assert not (out / "run").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("together", [False, True])
def test_outputs_of_other_tokens_are_refused(
    cached: CachedOutputs, encoded: Encoded, tmp_path: Path, together: bool
) -> None:
    """As many examples, of the same lengths."""
    ids = np.where(encoded.input_ids == 10, 11, encoded.input_ids)
    others = [replace(encoded, input_ids=ids)]
    others += [replace(encoded, token_type_ids=np.ones_like(encoded.input_ids))]
    for other in others:
        said = refusal(cached, other, tmp_path, together=together)
        assert f"teacher 'teacher' has outputs for 80 examples of tokens {encoded.digest}" in said
        assert f"the 80 training examples are of tokens {other.digest}" in said


@pytest.mark.parametrize("together", [False, True])
def test_outputs_of_unmasked_text_are_refused_where_it_is_masked(
    cached: CachedOutputs, encoded: Encoded, tmp_path: Path, together: bool
) -> None:
    said = refusal(cached, encoded, tmp_path, together=together, masking=MASKING)
    assert "teacher 'teacher' has seen unmasked text" in said and "in every step" in said


def test_a_student_with_a_tokenizer_of_its_own_is_told_apart_from_other_data(
    model: Model, cached: CachedOutputs, encoded: Encoded, tmp_path: Path
) -> None:
    """Its tokens are others by design; the numbers of the examples and their order are not."""
    twice = np.repeat(encoded.input_ids, 2)
    own = replace(
        encoded, input_ids=twice, token_type_ids=0 * twice, offsets=2 * encoded.offsets, labels=None
    )
    assert "read_as" in refusal(cached, own, tmp_path, together=False)
    read = cached.read_as(own)
    fit(
        small("sequence-classification"),
        own,
        SOFT,
        TRAINING,
        seed=0,
        folder=tmp_path / "own",
        teachers={"teacher": read},
        steps=1,
    )
    assert encoded.digest in refusal(read, encoded, tmp_path, together=False)
    moved = replace(own, idx=own.idx[::-1])
    with pytest.raises(ValueError, match=r"of 80 examples \(0, 1, .*reads 80 examples \(79, 78"):
        cached.read_as(moved)
    per_token = cache_outputs(model, encoded, Needs(logits=True, hidden=(2,)))
    tokens = len(encoded.input_ids)
    with pytest.raises(ValueError, match=f"hidden are kept .* {tokens} in all.* {2 * tokens} oth"):
        per_token.read_as(own)


def test_a_training_does_not_go_on_with_other_labels_or_another_teacher(
    cached: CachedOutputs, encoded: Encoded, tmp_path: Path
) -> None:
    """The recipe may be the same, and a file that it names another one."""
    begun = small("sequence-classification")
    live = begun.replace(params=jax.tree.map(lambda x: 2 * x, begun.params))

    def run(encoded: Encoded, teacher: Model | CachedOutputs) -> None:
        how: Any = {"folder": tmp_path, "teachers": {"teacher": teacher}, "steps": 1}
        fit(begun, encoded, SOFT, TRAINING, seed=0, **how)

    run(encoded, cached)
    run(encoded, cached)
    assert encoded.labels is not None
    for name, given in {
        "labels": (replace(encoded, labels=1 - encoded.labels), cached),
        r"teachers\.teacher": (encoded, replace(cached, digest="of another")),
    }.items():
        with pytest.raises(ValueError, match=f"begun with other settings: {name}: .* -> "):
            run(*given)
    with pytest.raises(ValueError, match=f"{cached.digest} -> {live.digest}"):
        run(encoded, live)
