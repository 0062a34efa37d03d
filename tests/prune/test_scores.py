"""Criteria against what they say by definition, unit by unit and example by example."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import effjax.prune.scores
from effjax.data.encode import Encoded, rows
from effjax.models import Model
from effjax.models.model import apply
from effjax.models.products import reading
from effjax.prune import (
    activation,
    block_fisher,
    first_order,
    fisher,
    gated,
    magnitude,
    settled,
    shrink,
    uniform,
)
from effjax.prune.contributions import moments, products
from effjax.prune.scores import Criterion, example_gradients
from effjax.tree import flatten


def alone(encoded: Encoded, example: int) -> dict[str, np.ndarray]:
    """One example as a batch, without padding."""
    here = slice(encoded.offsets[example], encoded.offsets[example + 1])
    assert encoded.labels is not None
    ids = encoded.input_ids[here][None]
    return {"input_ids": ids, "labels": encoded.labels[example : example + 1]}


def test_magnitude_is_what_is_lost_with_it(model: Model, encoded: Encoded, loss: Callable) -> None:
    def squares(model: Model) -> float:
        kernels = {row.path for row in model.table if row.role == "kernel"}
        arrays = flatten(model.params)
        return sum(float((np.asarray(arrays[path], np.float64) ** 2).sum()) for path in kernels)

    scores = magnitude(model, encoded, loss)
    for instance, size in gated(model).items():
        for i in range(size):
            without = shrink(model, {instance: np.delete(np.arange(size), i)})
            lost = squares(model) - squares(without)
            assert scores[instance][i] == pytest.approx(lost, rel=1e-5)


def test_gradients_are_those_of_every_example_alone(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    gradients, nudge = example_gradients(model, encoded, loss), 1e-2
    shortest_first = np.argsort(encoded.lengths, kind="stable")
    ones = {instance: jnp.ones(size) for instance, size in gated(model).items()}

    @jax.jit
    def of(batch: dict, gates: dict) -> jax.Array:
        inputs = {"input_ids": batch["input_ids"]}
        return loss(apply(model.module, model.params, inputs, gates=gates), batch)

    for place in (0, 33, 69):
        batch = alone(encoded, shortest_first[place])
        for instance, size in gated(model).items():
            for i in range(0, size, 2):
                up, down = (
                    of(batch, {**ones, instance: ones[instance].at[i].add(change)})
                    for change in (nudge, -nudge)
                )
                numeric = float(up - down) / (2 * nudge)
                assert gradients[instance][place, i] == pytest.approx(numeric, abs=2e-3)


def test_first_order_and_fisher_are_means_over_examples(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    gradients = example_gradients(model, encoded, loss)
    first, second = first_order(model, encoded, loss), fisher(model, encoded, loss)
    for instance, gradient in gradients.items():
        assert gradient.shape == (len(encoded), gated(model)[instance])
        np.testing.assert_allclose(first[instance], np.abs(gradient).mean(0), rtol=1e-6)
        np.testing.assert_allclose(second[instance], (gradient**2).mean(0), rtol=1e-6)


def test_block_fisher_is_greedy_removal(model: Model, encoded: Encoded, loss: Callable) -> None:
    """Every set is summed anew, and means are those of the formula max_i min_j."""
    scores = block_fisher(model, encoded, loss)
    for instance, gradient in example_gradients(model, encoded, loss).items():
        block = np.einsum("xi,xj->ij", gradient, gradient, dtype=np.float64) / len(gradient)

        def missed(out: list[int], block: np.ndarray = block) -> float:
            return block[np.ix_(out, out)].sum()

        out: list[int] = []
        while len(out) < len(block):
            left = np.setdiff1d(np.arange(len(block)), out).tolist()
            out.append(min(left, key=lambda i, out=out: missed([*out, i])))
        total = [missed(out[:n]) for n in range(len(out) + 1)]
        want = [
            max(
                min((total[j] - total[i]) / (j - i) for j in range(step + 1, len(total)))
                for i in range(step + 1)
            )
            for step in range(len(out))
        ]
        np.testing.assert_array_equal(np.argsort(scores[instance]), out)
        np.testing.assert_allclose(scores[instance][out], want, rtol=1e-5)


@pytest.fixture
def scores_by(
    model: Model, encoded: Encoded, loss: Callable, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Criterion, np.ndarray], np.ndarray]:
    """What a criterion makes of given gradients."""

    def scored(criterion: Criterion, gradients: np.ndarray) -> np.ndarray:
        given = {"layer_0/ffn": gradients}
        monkeypatch.setattr(effjax.prune.scores, "example_gradients", lambda *_: given)
        return np.asarray(criterion(model, encoded, loss)["layer_0/ffn"])

    return scored


def test_block_fisher_finds_what_goes_together(scores_by: Callable) -> None:
    """Unit 4 makes up for unit 1: however many go, none are missed less."""
    random = np.random.default_rng(0)
    gradients = random.normal(size=(2000, 6)) * np.array([1.0, 0.8, 1.2, 1.4, 0.0, 1.3])
    gradients[:, 4] = -2 * gradients[:, 1]

    def missed(out: tuple[int, ...]) -> float:
        return float((gradients[:, list(out)].sum(1) ** 2).mean())

    found = scores_by(block_fisher, gradients)
    for size in range(1, 7):
        best = min(itertools.combinations(range(6), size), key=missed)
        assert set(np.argsort(found)[:size]) == set(best)
    assert found.sum() == pytest.approx(missed(tuple(range(6))))
    assert np.argmax(scores_by(fisher, gradients)) == 4


def test_block_fisher_is_fisher_where_gradients_never_meet(scores_by: Callable) -> None:
    random = np.random.default_rng(0)
    gradients = random.normal(size=(60, 7)) * (np.arange(60)[:, None] % 7 == np.arange(7))
    found, want = (scores_by(criterion, gradients) for criterion in (block_fisher, fisher))
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_equal_scores_are_in_the_order_of_removal(scores_by: Callable) -> None:
    """Two of which one makes up for the other are worth as much, and what does nothing nothing."""
    gradients = np.random.default_rng(0).normal(size=(40, 5)) * np.array([0, 2, 0, 1, 0])
    gradients[:, 1] = -2 * gradients[:, 3]
    found = scores_by(block_fisher, gradients)
    half = (gradients[:, 3] ** 2).mean() / 2
    np.testing.assert_allclose(found, [0, half, 0, half, 0], atol=1e-12)
    np.testing.assert_array_equal(np.argsort(found), [0, 2, 4, 3, 1])
    assert len(np.unique(found)) == 5


def test_what_products_read_is_what_attention_gives(model: Model, encoded: Encoded) -> None:
    batch = {"input_ids": jnp.asarray(alone(encoded, 0)["input_ids"])}
    paths = ("layer_0/attention/query/kernel", "layer_1/attention/output/kernel")
    outputs, found = reading(model, batch, paths, None)
    np.testing.assert_array_equal(found[paths[0]][0], outputs.embedded)
    scores, values = (jnp.asarray(outputs.of_layer(name, 2)) for name in ("scores", "v"))
    context = jnp.einsum("bhlm,bhmk->blhk", jax.nn.softmax(scores, -1), values)
    np.testing.assert_allclose(found[paths[1]][0], context, atol=1e-6)


@pytest.mark.slow
def test_contributions_are_of_tokens_alone(model: Model, encoded: Encoded, loss: Callable) -> None:
    """Products of contributions, added up example by example without padding."""
    arrays = flatten(model.params)
    kernels = {
        "layer_0/heads": "layer_0/attention/output/kernel",
        "layer_1/ffn": "layer_1/feedforward/down/kernel",
    }
    some = rows(encoded, 0, 20)
    found, _ = moments(model, some, kernels)
    scores = activation(model, some, loss)
    for instance, path in kernels.items():
        total, size = 0.0, gated(model)[instance]
        kernel = arrays[path].reshape(size, -1, 12)
        for example in range(len(some)):
            batch = {"input_ids": jnp.asarray(alone(encoded, example)["input_ids"])}
            with jax.disable_jit():
                _, read = reading(model, batch, (path,), None)
            h = np.asarray(read[path][0]).reshape(-1, size, kernel.shape[1])
            parts = np.einsum("tik,iko->ito", h, kernel)
            total = total + np.einsum("ito,jto->ij", parts, parts)
        np.testing.assert_allclose(products(model, instance, found), total, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(scores[instance], np.diag(total), rtol=1e-4)


def test_uniform_scores_follow_their_seed_and_are_per_parameter(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    one, same, other = (uniform(model, encoded, loss, seed=seed) for seed in (0, 0, 1))
    sizes = {"heads": 4 * 12 * 4 + 3 * 4, "ffn": 2 * 12 + 1}
    for instance, score in one.items():
        np.testing.assert_array_equal(score, same[instance])
        assert not np.array_equal(score, other[instance])
        assert (score >= 0).all() and (score < sizes[instance.partition("/")[2]]).all()


def test_what_is_read_is_that_of_the_narrower_model(model: Model, encoded: Encoded) -> None:
    """Where some of the hidden states are closed."""
    gate, names = jnp.ones(12).at[np.array([2, 7])].set(0.0), ("layer_1/heads", "layer_1/ffn")
    found, _ = moments(model, encoded, names, gates={"hidden": gate})
    want, _ = moments(settled(model, {"hidden": gate}), encoded, names)
    for path, matrix in want.items():
        np.testing.assert_allclose(found[path], matrix, rtol=1e-4, atol=1e-5 * np.abs(matrix).max())
