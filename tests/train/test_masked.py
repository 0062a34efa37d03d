"""Training and scoring on masked text: the same bits after an interruption, scores by hand."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data import Encoded, TrainBatches, eval_batches
from effjax.data.encode import IGNORED
from effjax.data.masking import Masking
from effjax.distill import GeneratorLM, Given, MaskedLM, ReplacedTokens, Weighted
from effjax.models import Model, Runtime, create
from effjax.models.generator import with_generator
from effjax.models.model import INPUTS, apply
from effjax.train import Training, fit
from effjax.train.masked import evaluate_masked_lm, evaluate_replaced_tokens
from effjax.train.run_folder import Interrupted
from effjax.train.step import init_state, train_step
from effjax.tree import flatten
from tests.train.small_run import SIZES, small_data

MASKING = Masking(mask_id=4, special=(0, 1, 2, 3, 4), vocab_size=32)
HIDDEN = replace(MASKING, masked=1.0, replaced=0.0)
# Seven examples fit into one row, so that there is one shape to compile for.
TRAINING = Training(epochs=2, batch_size=7, learning_rate=1e-2, save_every=4)


@pytest.fixture(scope="module")
def words() -> Encoded:
    return replace(small_data(70), labels=None)


def masked_lm() -> Model:
    return create("bert", size="tiny", head="masked-lm", key=jax.random.key(3), **SIZES)


def electra() -> Model:
    labels: Any = {"head": "token-classification", "id2label": {0: "original", 1: "replaced"}}
    model = create("bert", size="tiny", key=jax.random.key(3), **labels, **SIZES)
    small = create("bert", size="tiny", key=jax.random.key(0), **SIZES | {"hidden_size": 8})
    return with_generator(model, small.config, mask_id=4, key=jax.random.key(5))


WAYS: dict[str, Any] = {
    "masked LM": (masked_lm, Weighted(mlm=(1.0, MaskedLM())), MASKING),
    "ELECTRA": (
        electra,
        Weighted(mlm=(1.0, GeneratorLM()), rtd=(50.0, ReplacedTokens())),
        HIDDEN,
    ),
}


def same(a: Model, b: Model) -> bool:
    x, y = flatten(a.params), flatten(b.params)
    return all(np.array_equal(x[path], y[path]) for path in x)


@pytest.mark.parametrize("way", ["masked LM", pytest.param("ELECTRA", marks=pytest.mark.slow)])
def test_a_run_that_goes_on_ends_with_the_same_bits(
    words: Encoded, tmp_path: Path, way: str
) -> None:
    """Interrupted after step 11, in the second of two epochs of 10; masks are new in each."""
    build, objective, masking = WAYS[way]
    model, options = build(), {"seed": 1, "masking": masking}

    def stop(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        if step >= 10:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = fit(model, words, objective, TRAINING, folder=tmp_path / "whole", **options)
    with pytest.raises(Interrupted) as ended:
        fit(model, words, objective, TRAINING, folder=tmp_path / "cut", progress=stop, **options)
    assert ended.value.step == 11
    resumed = fit(model, words, objective, TRAINING, folder=tmp_path / "cut", **options)
    assert resumed.steps == whole.steps == 20
    assert same(resumed.model, whole.model)
    assert not same(whole.model, model)


def test_a_step_of_a_pair_lowers_for_accelerators(words: Encoded) -> None:
    """Packed rows, in bfloat16."""
    model, objective, masking = electra(), *WAYS["ELECTRA"][1:]
    (batch,) = TrainBatches(encoded=words, batch_size=16, seed=0, pad_id=0, masking=masking)[0]
    low = Runtime(dtype="bfloat16")
    step = train_step(model.architecture, model.config, low, objective, TRAINING)
    state = init_state(model, objective, TRAINING, steps=10, seed=0, teachers={})
    leaves, structure = jax.tree.flatten((state, ((batch, {}),)))
    flat = jax.jit(lambda given: jax.tree.leaves(step(*structure.unflatten(given))))
    lowered = flat.trace(leaves).lower(lowering_platforms=("tpu", "cuda")).as_text()
    assert lowered.count("stablehlo.dot_general") > 40


def test_other_masks_are_other_settings(words: Encoded, tmp_path: Path) -> None:
    options: Any = {"seed": 1, "folder": tmp_path, "steps": 1}
    objective = WAYS["masked LM"][1]
    fit(masked_lm(), words, objective, TRAINING, masking=MASKING, **options)
    with pytest.raises(ValueError, match=r"other settings: masking\.masked: 0\.8 -> 1\.0"):
        fit(masked_lm(), words, objective, TRAINING, masking=HIDDEN, **options)


@pytest.mark.parametrize("way", ["masked LM", pytest.param("ELECTRA", marks=pytest.mark.slow)])
def test_words_that_are_not_predicted_cost_nothing(words: Encoded, way: str) -> None:
    """The loss and its gradient are those of logits at every token, which are not computed."""
    build, objective, masking = WAYS[way]
    model, losses, gradients = build(), [], []
    options: Any = {"batch_size": 70, "seed": 1, "pad_id": 0}
    few = replace(masking, rate=0.02)
    (batch,) = TrainBatches(encoded=words, masking=few, **options)[0]
    assert batch["predicted"].shape[1] < batch["labels"].shape[1] / 4
    for hidden in ("predicted", None):
        given = {name: x for name, x in batch.items() if name != hidden}

        def loss(params: Any, given: Any = given) -> Any:
            outputs = apply(model.module, params, {k: given[k] for k in INPUTS if k in given})
            shape = given.get("predicted", given["labels"]).shape
            found = outputs.generator_logits if way == "ELECTRA" else outputs.logits
            assert found is not None and found.shape == (*shape, 32)
            return objective({}, outputs, {}, given).total

        value, gradient = jax.value_and_grad(loss)(model.params)
        losses.append(float(value))
        gradients.append(flatten(gradient))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and losses[0] > 1
    for path, wanted in gradients[0].items():
        np.testing.assert_allclose(gradients[1][path], wanted, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("epoch", [0, 1])
def test_packed_rows_have_the_loss_of_padded_ones(words: Encoded, epoch: int) -> None:
    """One batch of all examples, so that both layouts meet the same ones."""
    model, losses = masked_lm(), []
    for layout in ("packed", "padded"):
        options: Any = {"batch_size": 70, "seed": 1, "pad_id": 0, "layout": layout}
        (batch,) = TrainBatches(encoded=words, masking=MASKING, **options)[epoch]
        term = MaskedLM()(model(batch), Given(batch=batch))
        assert 30 < term.total() < 90
        losses.append(float(term.mean()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_score_of_a_masked_lm(words: Encoded) -> None:
    """Against the model's own logits, in NumPy."""
    model, losses, right = masked_lm(), [], []
    model = model.replace(params=jax.tree.map(lambda x: 10 * x, model.params))
    for batch in eval_batches(words, 70, pad_id=0):
        masked = MASKING(batch, seed=2, epoch=0)
        where = masked["labels"] != IGNORED
        everywhere = {name: x for name, x in masked.items() if name != "predicted"}
        logits = np.asarray(model(everywhere).logits, np.float64)[where]
        labels = masked["labels"][where]
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        losses += (-np.log(shares[np.arange(len(labels)), labels])).tolist()
        right += (logits.argmax(-1) == labels).tolist()
    found = evaluate_masked_lm(model, words, MASKING, seed=2, batch_size=70)
    assert list(found) == ["accuracy", "loss", "perplexity"]
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    other = evaluate_masked_lm(model, words, MASKING, seed=3, batch_size=70)
    assert other != pytest.approx(found, rel=1e-5)


def test_the_score_of_a_pair(words: Encoded) -> None:
    """A generator that always says 9, and a discriminator that doubts every token."""
    model = electra()
    params = jax.tree.map(np.array, model.params)
    params["generator"]["norm"] = jax.tree.map(np.zeros_like, params["generator"]["norm"])
    params["generator"]["bias"] = np.where(np.arange(32) == 9, 50.0, 0.0).astype(np.float32)
    params["head"]["output"]["kernel"][:] = 0
    params["head"]["output"]["bias"][:] = [0.0, np.log(3.0)]
    model = model.replace(params=jax.tree.map(jnp.asarray, params))
    found = evaluate_replaced_tokens(model, words, HIDDEN, batch_size=70)
    replaced = []
    for batch in eval_batches(words, 70, pad_id=0):
        labels = HIDDEN(batch, seed=0, epoch=0)["labels"][batch["token"] >= 0]
        replaced += ((labels != IGNORED) & (labels != 9)).tolist()
    assert 0 < np.mean(replaced) < 0.3
    assert found["accuracy"] == pytest.approx(np.mean(replaced))
    assert found["majority"] == pytest.approx(1 - np.mean(replaced))
    wanted = np.log(4 / 3) * np.mean(replaced) + np.log(4) * (1 - np.mean(replaced))
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)
    assert found["generator/loss"] == pytest.approx(50.0, rel=1e-3)


def test_what_cannot_be_scored_is_named(model: Model, words: Encoded) -> None:
    with pytest.raises(ValueError, match="by the head masked-lm; this model has 'sequence-class"):
        evaluate_masked_lm(model, words, MASKING)
    with pytest.raises(ValueError, match="no token of 70 examples is masked"):
        evaluate_masked_lm(masked_lm(), words, replace(MASKING, rate=1e-9))
