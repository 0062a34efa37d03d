"""A generator beside an encoder: one embedding, guesses in place of masks, no gradient through."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import GeneratorLM, ReplacedTokens, Weighted
from effjax.models import Model, create
from effjax.models.generator import with_generator, without_generator
from effjax.models.model import apply
from effjax.tree import flatten
from tests.train.small_run import SIZES

MASK = 4
ELECTRA = Weighted(mlm=(1.0, GeneratorLM()), rtd=(50.0, ReplacedTokens()))
BATCH = {
    "input_ids": np.array([[2, 7, MASK, 9, 3], [2, MASK, MASK, 3, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], np.int32),
    "labels": np.array([[-100, -100, 8, -100, -100], [-100, 10, 11, -100, -100]], np.int32),
}


def encoder() -> Model:
    """A discriminator."""
    labels: Any = {"head": "token-classification", "id2label": {0: "original", 1: "replaced"}}
    return create("bert", size="tiny", key=jax.random.key(3), **labels, **SIZES)


def small(**fields: Any) -> Any:
    """A generator of half the width."""
    sizes = SIZES | {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12} | fields
    return jax.eval_shape(
        lambda: create("bert", size="tiny", key=jax.random.key(0), **sizes)
    ).config


@pytest.fixture(scope="module")
def pair() -> Model:
    return with_generator(encoder(), small(), mask_id=MASK, key=jax.random.key(5))


def run(model: Model, params: Any, key: jax.Array | None = None) -> Any:
    batch = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
    rngs = {} if key is None else {"dropout": key}
    return apply(model.module, params, batch, deterministic=key is None, rngs=rngs)


@pytest.mark.parametrize("hidden", [8, 16])
def test_the_table_has_the_rows_of_both(hidden: int) -> None:
    """With a width of its own there is a projection; else, there is none."""
    generator, key = small(hidden_size=hidden), jax.random.key(0)
    model = jax.eval_shape(lambda: with_generator(encoder(), generator, mask_id=MASK, key=key))
    made = jax.eval_shape(model.module.init, key, BATCH)["params"]
    shapes = {path: x.shape for path, x in flatten(made).items()}
    assert shapes == {row.path: row.shape for row in model.table}
    assert shapes == {path: x.shape for path, x in flatten(model.params).items()}
    assert ("generator/projection/kernel" in shapes) == (hidden == 8)
    instances, fixed = model.table.instances, model.table.fixed
    assert set(fixed) == {"generator/hidden", "hidden"}
    assert (instances["generator/layer_0/ffn"], instances["layer_0/ffn"]) == (12, 24)


def test_guesses_stand_in_place_of_masks_and_the_encoder_reads_them(pair: Model) -> None:
    outputs = run(pair, pair.params)
    ids, corrupted = BATCH["input_ids"], np.asarray(outputs.corrupted)
    best = np.asarray(outputs.generator_logits).argmax(-1)
    assert np.array_equal(corrupted, np.where(ids == MASK, best, ids))
    alone = without_generator(pair)
    assert set(alone.params) == set(pair.params) - {"generator"}
    assert alone.architecture is encoder().architecture
    seen = {"input_ids": corrupted, "attention_mask": BATCH["attention_mask"]}
    np.testing.assert_allclose(np.asarray(alone(seen).logits), outputs.logits, atol=1e-6)


def test_guesses_at_the_places_that_are_named_are_the_same(pair: Model) -> None:
    """A row with fewer of them names its length for the rest."""
    whole = run(pair, pair.params)
    batch = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
    batch |= {"predicted": np.array([[2, 5], [1, 2]], np.int32)}
    found = apply(pair.module, pair.params, batch)
    assert np.array_equal(np.asarray(found.corrupted), np.asarray(whole.corrupted))
    np.testing.assert_allclose(np.asarray(found.logits), whole.logits, atol=1e-6)
    at_2 = np.asarray(whole.generator_logits)[0, 2]
    np.testing.assert_allclose(np.asarray(found.generator_logits)[0, 0], at_2, atol=1e-6)


def test_guesses_are_drawn_from_the_generator(pair: Model) -> None:
    """Its norm is silenced, so that its bias alone decides: 3/4 for token 6, 1/4 for token 7."""
    params = jax.tree.map(jnp.array, pair.params)
    part = params["generator"]
    part["norm"] = jax.tree.map(jnp.zeros_like, part["norm"])
    part["bias"] = jnp.full(32, -1e9).at[6].set(jnp.log(0.75)).at[7].set(jnp.log(0.25))
    draw = jax.jit(jax.vmap(lambda key: run(pair, params, key).corrupted))
    found = np.asarray(draw(jax.random.split(jax.random.key(0), 500)))
    guesses = found[:, BATCH["input_ids"] == MASK]
    assert set(np.unique(guesses)) == {6, 7}
    assert np.mean(guesses == 6) == pytest.approx(0.75, abs=0.05)
    kept = BATCH["input_ids"] != MASK
    assert np.all(found[:, kept] == BATCH["input_ids"][kept])


def test_the_discriminator_s_loss_does_not_reach_the_generator(pair: Model) -> None:
    def losses(params: Any, weights: Any) -> Any:
        outputs = run(pair, params, jax.random.key(1))
        found = ELECTRA.measure({}, outputs, {}, BATCH)
        return weights[0] * found["mlm"].mean() + weights[1] * found["rtd"].mean()

    gradient = jax.jit(jax.grad(losses))
    mlm, rtd = (flatten(gradient(pair.params, x)) for x in np.eye(2, dtype=np.float32))
    reached = {path for path, x in rtd.items() if np.any(x)}
    assert not any(path.startswith("generator/") for path in reached)
    assert "embedding/word/embedding" in reached and "head/output/kernel" in reached
    reached = {path for path, x in mlm.items() if np.any(x)}
    assert {path.split("/")[0] for path in reached} == {"embedding", "generator"}
    assert np.any(mlm["embedding/word/embedding"])  # one embedding for both


def test_what_does_not_go_together_is_named(pair: Model) -> None:
    with pytest.raises(ValueError, match="the generator has 31 words, the model 32"):
        with_generator(encoder(), small(vocab_size=31), mask_id=MASK, key=jax.random.key(0))
    with pytest.raises(ValueError, match="which this bert is not, or not any"):
        with_generator(pair, small(), mask_id=MASK, key=jax.random.key(0))
