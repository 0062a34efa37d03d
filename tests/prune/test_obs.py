"""Removal by the optimal brain surgeon, against fitting again whatever is left."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.models import Model
from effjax.models.products import reading
from effjax.prune import gated, magnitude, obs, shrink
from effjax.prune.contributions import flat
from effjax.prune.obs import DAMPING, Removal, refitted, removal, removals, smaller
from effjax.tree import flatten
from tests.prune.test_scores import alone

KERNELS = {
    "layer_0/heads": "layer_0/attention/output/kernel",
    "layer_0/ffn": "layer_0/feedforward/down/kernel",
}


class Product(NamedTuple):
    """X [tokens, N, pieces] and W [N, pieces, out]."""

    x: np.ndarray
    w: np.ndarray


def product(seed: int, size: int, pieces: int, tokens: int = 60) -> Product:
    """Structures that depend on each other."""
    random, read = np.random.default_rng(seed), size * pieces
    x = random.normal(size=(tokens, read)) @ random.normal(size=(read, read))
    return Product(x.reshape(tokens, size, pieces), random.normal(size=(size, pieces, 3)))


def removal_of(products: Mapping[str, Product], size: int) -> Removal:
    x = {path: one.x.reshape(len(one.x), -1) for path, one in products.items()}
    w = {path: one.w.reshape(-1, 3) for path, one in products.items()}
    return removal({path: found.T @ found for path, found in x.items()}, w, size)


def fitted_again(one: Product, kept: list[int]) -> tuple[np.ndarray, float]:
    """W of what is kept, by least squares with the damping as further tokens, and what it costs."""
    x, w = one.x.reshape(len(one.x), -1), one.w.reshape(-1, 3)
    x = np.vstack([x, np.sqrt(DAMPING * np.mean((x**2).sum(0))) * np.eye(len(w))])
    rows = np.arange(len(w)).reshape(len(one.w), -1)[kept].ravel()
    new = np.zeros_like(w)
    new[rows] = np.linalg.lstsq(x[:, rows], x @ w, rcond=None)[0]
    return new, float(((x @ w - x @ new) ** 2).sum())


@pytest.mark.parametrize("size, pieces, readers", [(9, 1, 1), (5, 3, 1), (6, 2, 2)])
def test_removal_is_by_brute_force(size: int, pieces: int, readers: int) -> None:
    """What goes is what costs least after fitting again, and the weights are those that fit."""
    products = {f"reader_{i}": product(i, size, pieces, 3 * size) for i in range(readers)}
    found, kept = removal_of(products, size), list(range(size))
    for step in range(size):

        def cost(i: int, kept: list[int] = kept) -> float:
            left = [j for j in kept if j != i]
            return sum(fitted_again(one, left)[1] for one in products.values())

        kept.remove(min(kept, key=cost))
        np.testing.assert_array_equal(found.kept(size - step - 1), kept)
    for count in range(size):
        kept = list(found.kept(count))
        for path, one in products.items():
            want = fitted_again(one, kept)[0]
            np.testing.assert_allclose(found.weights(path, count), want, atol=1e-8)


def test_many_go_as_they_would_one_by_one() -> None:
    """More than are eliminated before matrices are brought up to date, by the formula itself."""
    size = 150
    one = product(0, size, 1, 400)
    x, w = one.x[:, :, 0], one.w[:, 0]
    hessian, order = x.T @ x, []
    inverse = np.linalg.inv(hessian + DAMPING * np.trace(hessian) / size * np.eye(size))
    for _ in range(size):
        costs = (w**2).sum(1) / np.where(np.diag(inverse) > 0, np.diag(inverse), 1.0)
        costs[order] = np.inf
        i = int(np.argmin(costs))
        order.append(i)
        w = w - np.outer(inverse[:, i], w[i]) / inverse[i, i]
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        w[order] = inverse[order] = inverse[:, order] = 0.0
    np.testing.assert_array_equal(removal_of({"a": one}, size).order, order)


def test_errors_are_those_of_the_data() -> None:
    products = {"a": product(0, 6, 2), "b": product(1, 6, 2)}
    found, off = removal_of(products, 6), []
    for size in range(7):
        lost = total = 0.0
        for path, one in products.items():
            x, w = one.x.reshape(len(one.x), -1), one.w.reshape(-1, 3)
            lost += ((x @ w - x @ found.weights(path, size)) ** 2).sum()
            total += ((x @ w) ** 2).sum()
        off.append(lost / total)
    np.testing.assert_allclose(found.errors, off, atol=1e-12)
    assert found.errors[0] == pytest.approx(1.0) and found.errors[6] == 0.0
    assert np.all(np.diff(found.errors) < 0)


def test_what_is_never_active_goes_first_and_is_no_error() -> None:
    one = product(0, 6, 1)
    one.x[:, [1, 4]] = 0.0
    found = removal_of({"a": one}, 6)
    assert set(found.order[:2]) == {1, 4}
    np.testing.assert_allclose(found.errors[4:], 0.0, atol=1e-12)
    one.x[:] = 0.0
    np.testing.assert_array_equal(removal_of({"a": one}, 6).errors, np.zeros(7))


def test_doubles_make_up_for_each_other() -> None:
    one = product(0, 4, 2, 500)
    one.x[:, 3] = 2 * one.x[:, 1]
    found = removal_of({"a": one}, 4)
    left = found.weights("a", 3).reshape(4, 2, 3)
    assert found.order[0] == 1
    np.testing.assert_allclose(left[3], one.w[3] + one.w[1] / 2, atol=0.02)
    np.testing.assert_allclose(left[[0, 2]], one.w[[0, 2]], atol=0.02)


def product_of(model: Model, encoded: Encoded, path: str) -> np.ndarray:
    """X W over all tokens, of rows with one example each."""
    kernel, row = flatten(model.params)[path], model.table.by_path[path]
    mask = np.arange(encoded.lengths.max()) < encoded.lengths[:, None]
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = encoded.input_ids
    batch = {"input_ids": jnp.asarray(ids), "attention_mask": jnp.asarray(mask, jnp.int32)}
    with jax.disable_jit():
        _, found = reading(model, batch, (path,), None)
    x = np.asarray(flat(found[path][0], row))[mask.ravel()]
    return x @ np.asarray(kernel).reshape(x.shape[1], -1)


def relative_error(model: Model, small: Model, encoded: Encoded, path: str) -> float:
    whole = product_of(model, encoded, path)
    return float(((product_of(small, encoded, path) - whole) ** 2).sum() / (whole**2).sum())


@pytest.mark.parametrize(("instance", "size"), [("layer_0/heads", 2), ("layer_0/ffn", 4)])
def test_a_smaller_model_is_as_far_off_as_said(
    model: Model, encoded: Encoded, loss: Callable, instance: str, size: int
) -> None:
    """And nearer than what is left of a larger magnitude."""
    found, path = removals(model, encoded, [instance])[instance], KERNELS[instance]
    small = obs(model, encoded, {instance: size})
    assert small.table.instances[instance] == size
    off = relative_error(model, small, encoded, path)
    assert off == pytest.approx(found.errors[size], rel=1e-3)
    largest = np.sort(np.argsort(-np.asarray(magnitude(model, encoded, loss)[instance]))[:size])
    assert off < relative_error(model, shrink(model, {instance: largest}), encoded, path)


def test_nothing_removed_changes_nothing(model: Model, encoded: Encoded) -> None:
    same = obs(model, encoded, gated(model))
    assert same.config == model.config
    jax.tree.map(np.testing.assert_array_equal, same.params, model.params)


def test_zeros_and_smaller_arrays_compute_the_same(model: Model, encoded: Encoded) -> None:
    """With one layer's heads, and another's units, all gone."""
    sizes = {"layer_0/heads": 0, "layer_0/ffn": 3, "layer_1/heads": 2, "layer_1/ffn": 0}
    found = removals(model, encoded, sizes)
    small, zeros = smaller(model, found, sizes), refitted(model, found, sizes)
    assert all(small.table.instances.get(name, 0) == size for name, size in sizes.items())
    assert zeros.config == model.config
    batch = alone(encoded, 0)
    batch.pop("labels")
    want = np.asarray(zeros(batch).logits)
    np.testing.assert_allclose(np.asarray(small(batch).logits), want, atol=1e-5)
    assert np.isfinite(want).all()
    again = obs(small, encoded, {"layer_0/ffn": 1})
    assert again.table.instances["layer_0/ffn"] == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"layer_7/ffn": 2}, "sizes name 'layer_7/ffn'; this model has layer_0/heads, layer_0/ffn"),
        ({"hidden": 2}, "sizes name 'hidden'"),
        ({"layer_0/ffn": 8}, r"sizes\['layer_0/ffn'\] is 8; expected 0 to 7"),
        ({"layer_0/ffn": -1}, r"sizes\['layer_0/ffn'\] is -1"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    model: Model, encoded: Encoded, sizes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        obs(model, encoded, sizes)
    assert "\n" not in str(caught.value)
