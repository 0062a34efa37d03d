"""Two factors in place of a weight: how near they are, and that all else reads them as one weight.

That every architecture takes them is a contract: see tests/contracts.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted, init_student
from effjax.hf import from_pretrained, save_pretrained, verify
from effjax.measure import cost, flop_costs, parameter_costs
from effjax.measure.table import sizes_of
from effjax.models import Model, create
from effjax.models.base import EncoderConfig, LayerSpec, Runtime
from effjax.models.generator import with_generator
from effjax.models.model import init_params
from effjax.models.products import reading
from effjax.prune import (
    activation,
    best_ranks,
    factorable,
    factorised,
    gates_of,
    magnitude,
    multiplied_out,
    rank_errors,
    second_moments,
    settled,
    shrink,
)
from effjax.prune.low_rank import sides
from effjax.train import Training, fit
from effjax.tree import flatten, unflatten
from effjax.types import Array
from tests.train.small_run import small_data

QUERY, UP = "layer_0/attention/query/kernel", "layer_1/feedforward/up/kernel"
DOWN, WORDS = "layer_1/feedforward/down/kernel", "embedding/word/embedding"
POOLER = "pooler/dense/kernel"

BATCH = {
    "input_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}

FEW = small_data(40)


def matrix(model: Model, path: str) -> np.ndarray:
    """A weight as [inputs, outputs]; of two factors, their product."""
    stem, arrays = path.rpartition("/")[0], flatten(model.params)
    if path in arrays:
        return np.asarray(arrays[path], np.float64).reshape(sides(model.table.by_path[path]))
    left, right = (np.asarray(arrays[f"{stem}/{name}"], np.float64) for name in ("left", "right"))
    return left.reshape(-1, left.shape[-1]) @ right.reshape(len(right), -1)


def with_weights(model: Model, other: Model) -> Model:
    """The model with each weight that is two factors in the other one as their product."""
    arrays = flatten(model.params)
    for path, _ in other.config.ranks:
        arrays[path] = jnp.asarray(matrix(other, path), "float32").reshape(arrays[path].shape)
    return model.replace(params=unflatten(arrays))


def halves(model: Model) -> dict[str, int]:
    """Half of the full rank for everything that can be two factors."""
    rows = model.table.by_path
    return {path: max(1, min(sides(rows[path])) // 2) for path in factorable(model)}


def assert_same(found: Any, want: Any, atol: float = 1e-5) -> None:
    for name in ("last_hidden", "pooled", "logits"):
        ours, theirs = (np.asarray(getattr(x, name), np.float32) for x in (found, want))
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=atol)


def test_full_rank_is_the_same_model(model: Model) -> None:
    full = {path: min(sides(model.table.by_path[path])) for path in factorable(model)}
    assert {QUERY, UP, DOWN, WORDS, POOLER} <= set(full)
    small = factorised(model, full)
    assert {row.path: row.shape for row in small.table} == {
        path: x.shape for path, x in flatten(small.params).items()
    }
    assert not set(full) & set(flatten(small.params))
    assert_same(small(BATCH), model(BATCH))


def test_the_outputs_are_those_of_the_product(model: Model, encoded: Encoded) -> None:
    """Padded and packed; multiplied out, the config is the old one."""
    small = factorised(model, halves(model))
    want = with_weights(model, small)
    assert np.abs(np.asarray(want(BATCH).logits) - np.asarray(model(BATCH).logits)).max() > 1e-3
    assert_same(small(BATCH), want(BATCH))
    again = multiplied_out(small)
    assert again.config == model.config
    assert_same(again(BATCH), want(BATCH))
    packed = next(iter(eval_batches(encoded, 8, pad_id=0)))
    assert "starts" in packed
    assert_same(small(packed), want(packed))


def test_parameters_and_flops_are_those_of_thin_products(model: Model) -> None:
    small = factorised(model, {UP: 2, DOWN: 1, WORDS: 3})
    hidden, ffn, words, tokens = 12, 7, 32, 8
    saved = 2 * hidden * ffn - 3 * (hidden + ffn) + words * hidden - 3 * (words + hidden)
    assert model.num_params - small.num_params == saved
    assert small.num_params == sum(x.size for x in jax.tree.leaves(small.params))
    flops = cost(model, length=tokens).product_flops - cost(small, length=tokens).product_flops
    saved = 2 * hidden * ffn - 3 * (hidden + ffn) - 3 * hidden
    assert flops == 2 * tokens * saved
    assert sizes_of(small.config) != sizes_of(model.config)


@pytest.mark.parametrize("path", [QUERY, DOWN, WORDS])
def test_no_matrix_of_that_rank_is_nearer(model: Model, path: str) -> None:
    whole, random = matrix(model, path), np.random.default_rng(0)
    (errors,) = rank_errors(model, [path]).values()
    assert len(errors) == min(whole.shape) + 1 and errors[-1] == 0
    small = factorised(model, {path: 3})
    arrays, stem = flatten(small.params), path.rpartition("/")[0]
    left = np.asarray(arrays[f"{stem}/left"], np.float64).reshape(-1, 3)
    right = np.asarray(arrays[f"{stem}/right"], np.float64).reshape(3, -1)
    least = np.square(whole - left @ right).sum()
    np.testing.assert_allclose(least, errors[3], rtol=1e-5)
    np.testing.assert_allclose(errors[0], np.square(whole).sum())
    np.testing.assert_allclose(left.T @ left, right @ right.T, atol=1e-5)
    for size in (1e-1, 1e-2, 1e-3):
        other = (left + size * random.normal(size=left.shape)) @ right
        assert np.square(whole - other).sum() > least
        other = left @ (right + size * random.normal(size=right.shape))
        assert np.square(whole - other).sum() > least


@pytest.fixture(scope="module")
def read(model: Model) -> dict[str, np.ndarray]:
    """All that a weight is multiplied by, of some examples without any padding."""
    paths, found = (QUERY, "layer_1/attention/output/kernel", DOWN, POOLER), {}
    read_of = jax.jit(lambda x: reading(model, x, paths, None)[1])
    for length in np.unique(FEW.lengths):
        alike = FEW.offsets[:-1][FEW.lengths == length]
        ids = FEW.input_ids[alike[:, None] + np.arange(length)]
        read = read_of({"input_ids": ids})
        for path in paths:
            rows = np.asarray(read[path][0], np.float64)
            rows = rows.reshape(-1, sides(model.table.by_path[path])[0])
            found.setdefault(path, []).append(rows)
        found.setdefault(WORDS, []).append(np.eye(model.config.vocab_size)[ids.ravel()])
    return {path: np.concatenate(parts) for path, parts in found.items()}


@pytest.fixture(scope="module")
def moments(model: Model) -> dict[str, np.ndarray]:
    return dict(second_moments(model, FEW, factorable(model)))


def test_moments_are_those_of_each_example_alone(
    read: dict[str, np.ndarray], moments: dict[str, np.ndarray]
) -> None:
    for path, x in read.items():
        want = x.T @ x
        found = np.diag(moments[path]) if path == WORDS else moments[path]
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("path", [QUERY, DOWN, POOLER, WORDS])
def test_weighted_factors_lose_the_least_of_what_is_computed(
    model: Model, read: dict[str, np.ndarray], moments: dict[str, np.ndarray], path: str
) -> None:
    whole, x, random = matrix(model, path), read[path], np.random.default_rng(0)

    def lost(small: np.ndarray) -> float:
        return float(np.square(x @ (whole - small)).sum())

    errors = rank_errors(model, [path], weighted_by=moments)[path]
    small = factorised(model, {path: 3}, weighted_by=moments)
    least, plain = lost(matrix(small, path)), lost(matrix(factorised(model, {path: 3}), path))
    np.testing.assert_allclose(least, errors[3], rtol=1e-3)
    assert least < 0.99 * plain
    arrays, stem = flatten(small.params), path.rpartition("/")[0]
    left = np.asarray(arrays[f"{stem}/left"], np.float64).reshape(-1, 3)
    right = np.asarray(arrays[f"{stem}/right"], np.float64).reshape(3, -1)
    for size in (1e-1, 1e-2):
        for _ in range(5):
            assert lost((left + size * random.normal(size=left.shape)) @ right) > least
            assert lost(left @ (right + size * random.normal(size=right.shape))) > least


def test_directions_that_are_never_read_are_no_trouble(model: Model) -> None:
    """X of rank 2 and, at the worst, nothing at all."""
    x = np.random.default_rng(0).normal(size=(2, 12))
    small = factorised(model, {QUERY: 2}, weighted_by={QUERY: x.T @ x})
    np.testing.assert_allclose(x @ matrix(small, QUERY), x @ matrix(model, QUERY), atol=1e-3)
    small = factorised(model, {QUERY: 12}, weighted_by={QUERY: np.zeros((12, 12))})
    np.testing.assert_allclose(matrix(small, QUERY), matrix(model, QUERY), atol=1e-5)


def test_gradients_follow_from_those_of_the_weight(model: Model) -> None:
    """dL/dleft = dL/dW right^T, and the other way round."""
    small = factorised(model, {QUERY: 2, DOWN: 3, WORDS: 4})
    whole = with_weights(model, small)

    def loss(params: Any, model: Model) -> Array:
        return jnp.square(jnp.asarray(model.replace(params=params)(BATCH).logits)).sum()

    ours = flatten(jax.grad(lambda p: loss(p, small))(small.params))
    theirs = flatten(jax.grad(lambda p: loss(p, whole))(whole.params))
    arrays = flatten(small.params)
    for path, rank in small.config.ranks:
        stem, of_weight = path.rpartition("/")[0], theirs[path].reshape(matrix(model, path).shape)
        left = arrays[f"{stem}/left"].reshape(-1, rank)
        right = arrays[f"{stem}/right"].reshape(rank, -1)
        found = np.asarray(ours[f"{stem}/left"]).reshape(-1, rank)
        np.testing.assert_allclose(found, of_weight @ right.T, atol=1e-4, rtol=1e-4)
        found = np.asarray(ours[f"{stem}/right"]).reshape(rank, -1)
        np.testing.assert_allclose(found, left.T @ of_weight, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_it_is_trained_like_any_other(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    small = factorised(model, {QUERY: 2, UP: 2, WORDS: 4})
    training = Training(epochs=1, batch_size=35, learning_rate=1e-2)
    objective = Weighted(task=(1.0, TaskLoss()))
    fitted = fit(small, encoded, objective, training, seed=0, folder=tmp_path).model
    assert fitted.config == small.config
    before, after = flatten(small.params), flatten(fitted.params)
    for name in ("layer_0/attention/query", "layer_1/feedforward/up", "embedding/word"):
        for factor in (f"{name}/left", f"{name}/right"):
            assert np.abs(np.asarray(before[factor]) - np.asarray(after[factor])).max() > 1e-3


def test_in_bfloat16_products_are_low_and_inference_is_the_same(model: Model) -> None:
    small = factorised(model, halves(model)).replace(runtime=Runtime(dtype="bfloat16"))
    ready = small.for_inference()
    factors = {x.dtype for path, x in flatten(ready.params).items() if path.endswith("/right")}
    assert factors == {jnp.dtype("bfloat16")}
    assert_same(ready(BATCH), small(BATCH), atol=0)
    assert_same(small(BATCH), small.replace(runtime=Runtime())(BATCH), atol=0.1)


def test_new_weights_are_as_large_as_whole_ones(model: Model) -> None:
    ranks = ((WORDS, 8), (UP, 6))
    config = model.config.replace(
        hidden=300, head_size=100, layers=(LayerSpec(heads=3, ffn=200),) * 2, ranks=ranks
    )
    table = model.architecture.table(config)
    new = model.replace(config=config, params=init_params(table, config, jax.random.key(0)))
    for path, _ in ranks:
        np.testing.assert_allclose(matrix(new, path).std(), config.initializer_range, rtol=0.2)
    assert np.isfinite(np.asarray(new(BATCH).logits)).all()


def some(model: Model) -> Model:
    """A model with two factors in one layer, and whole weights in the other."""
    paths = [path for path in factorable(model) if path.startswith("layer_1/")]
    return factorised(model, {path: 3 for path in [*paths, WORDS]})


@pytest.mark.parametrize(
    "keep",
    [
        {"layer_1/heads": [0, 2], "layer_1/ffn": [1], "layer_0/ffn": [0, 3]},
        {"layer_1/heads": [], "layer_1/ffn": []},
        {"vocabulary": [*range(20)]},
    ],
)
def test_shrinking_two_factors_is_shrinking_the_weight(model: Model, keep: dict) -> None:
    keep = {instance: np.asarray(kept, int) for instance, kept in keep.items()}
    small = shrink(some(model), keep)
    assert_same(small(BATCH), shrink(multiplied_out(some(model)), keep)(BATCH))
    assert sum(x.size for x in jax.tree.leaves(small.params)) == small.num_params


def test_gates_and_costs_know_both_factors(model: Model) -> None:
    small = some(model)
    keep = {"layer_0/heads": np.array([1]), "layer_1/heads": np.array([0]), "layer_1/ffn": [2, 3]}
    gates = gates_of(small, {name: np.asarray(kept) for name, kept in keep.items()})
    gates = {**gates, "layer_1/ffn": 1.5 * gates["layer_1/ffn"]}
    less = settled(small, gates)
    assert_same(less(BATCH), small.trace(BATCH, gates))
    sizes = {"layer_0/heads": 1, "layer_1/heads": 1, "layer_0/ffn": 7, "layer_1/ffn": 2}
    assert parameter_costs(small).at(sizes) == less.num_params
    flops = flop_costs(small, length=8)
    assert flops.at(sizes) == pytest.approx(cost(less, length=8).product_flops)
    none = {name: np.arange(0) for name in sizes}
    nothing = shrink(small, none)
    assert parameter_costs(small).at(dict.fromkeys(sizes, 0)) == nothing.num_params


def test_criteria_see_the_weight(model: Model, encoded: Encoded, loss: Callable) -> None:
    """Not what of it is in one of the factors."""
    small = some(model)
    want = with_weights(model, small)
    for criterion in (magnitude, activation):
        found = criterion(small, encoded, loss)
        for name, scores in criterion(want, encoded, loss).items():
            np.testing.assert_allclose(found[name], scores, rtol=1e-4)


def test_a_student_takes_the_ranks_of_its_layers(model: Model) -> None:
    student = init_student(some(model), [1])
    assert dict(student.config.ranks).keys() == {
        path.replace("layer_1/", "layer_0/") for path, _ in some(model).config.ranks
    }
    assert_same(student(BATCH), init_student(multiplied_out(some(model)), [1])(BATCH))


def test_a_generator_shares_both_factors_of_the_words() -> None:
    sizes: Any = {"vocab_size": 32, "hidden_size": 12, "num_attention_heads": 3}
    sizes |= {"embedding_size": 12, "num_hidden_layers": 1, "intermediate_size": 7}
    model = create("electra", size="small", key=jax.random.key(0), **sizes)
    generator = EncoderConfig(
        vocab_size=32, hidden=8, head_size=4, layers=(LayerSpec(heads=2, ffn=6),), positions=16
    )
    small = factorised(model, {WORDS: 4})
    both = with_generator(small, generator, mask_id=4, key=jax.random.key(1))
    whole = with_generator(multiplied_out(small), generator, mask_id=4, key=jax.random.key(1))
    found, want = both.trace(BATCH), whole.trace(BATCH)
    np.testing.assert_allclose(
        np.asarray(found.generator_logits), np.asarray(want.generator_logits), atol=1e-5
    )


def test_ranks_for_a_budget_are_the_best_there_are(model: Model, moments: dict) -> None:
    """Against all combinations."""
    paths = (QUERY, DOWN, POOLER)
    errors = rank_errors(model, paths, weighted_by=moments)
    at_most = model.num_params - 130
    ranks = best_ranks(model, at_most=at_most, paths=paths, weighted_by=moments)
    small = factorised(model, ranks, weighted_by=moments)
    assert small.num_params <= at_most

    def lost(ranks: dict[str, int]) -> float:
        return sum(errors[path][rank] / errors[path][0] for path, rank in ranks.items())

    best, rows = np.inf, model.table.by_path
    whole, thin = ({path: each(sides(rows[path])) for path in paths} for each in (np.prod, sum))
    choices = [range(1, len(errors[path])) for path in paths]
    for chosen in itertools.product(*([*ranks, None] for ranks in choices)):
        tried = {path: r for path, r in zip(paths, chosen, strict=True) if r is not None}
        saved = sum(whole[path] - r * thin[path] for path, r in tried.items())
        if saved >= 130:
            best = min(best, lost(tried))
    assert lost(ranks) == pytest.approx(best)
    even = best_ranks(model, at_most=at_most, paths=paths, multiple=2)
    assert even and all(rank % 2 == 0 for rank in even.values())
    assert set(best_ranks(model, at_most=model.num_params - 1)) <= set(factorable(model))
    with pytest.raises(ValueError, match="no model costs 10 parameters or less"):
        best_ranks(model, at_most=10)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"layer_9/attention/query/kernel": 2}, "'layer_9/attention/query/kernel', which this"),
        ({"layer_0/attention/query/bias": 2}, "no kernel and no word embedding"),
        ({"embedding/position/embedding": 2}, "no kernel and no word embedding"),
        ({UP: 2}, "two factors already, of rank 3"),
        ({"layer_1/feedforward/up/left": 2}, "it is one already, of rank 3"),
        ({QUERY: 0}, "is 0; allowed: 1 to 12"),
        ({QUERY: 13}, "is 13; allowed: 1 to 12"),
    ],
)
def test_what_cannot_be_two_factors_is_one_line(model: Model, ranks: dict, message: str) -> None:
    small = some(model)
    with pytest.raises(ValueError, match=message) as caught:
        factorised(small, ranks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("moments", [{}, {QUERY: np.eye(11)}, {QUERY: np.ones(12)}])
def test_moments_of_something_else_are_one_line(model: Model, moments: dict) -> None:
    message = rf"weighted_by has .* of {QUERY}; expected shape \(12, 12\)"
    with pytest.raises(ValueError, match=message) as caught:
        factorised(model, {QUERY: 2}, weighted_by=moments)
    assert "\n" not in str(caught.value)


def test_a_stock_folder_has_the_product(model: Model, tmp_path: Path) -> None:
    small = some(model)
    save_pretrained(small, tmp_path / "out")
    again = from_pretrained(tmp_path / "out", runtime=small.runtime)
    assert again.config.ranks == () and again.num_params == model.num_params
    assert_same(again(BATCH), small(BATCH))
    report = verify(tmp_path / "out", reference=small)
    assert report.ok and report.largest < 1e-5, str(report)
