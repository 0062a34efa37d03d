"""Criteria: how much every head and feed-forward unit is worth, one function each.

A criterion is a function (model, examples, loss) -> `Scores`, an array per axis instance; more is
better, and scores of different instances are compared. The examples, from `effjax.data.encode`, are
a few hundred or thousand of those that the model was trained on, and the loss may be

    objective = Weighted(task=(1.0, TaskLoss()))
    loss = lambda outputs, batch: objective({}, outputs, {}, batch).total

docs/adding_a_criterion.md adds one.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.models.base import Outputs
from effjax.models.factors import multiplied_out
from effjax.models.model import INPUTS, Model, apply_gated
from effjax.prune.contributions import moments, products
from effjax.prune.gates import gated, open_gates, parameters_of, with_instance
from effjax.tree import flatten
from effjax.types import Array, Batch, Float, Gates, PyTree, Scores

Loss = Callable[[Outputs, Batch], Array]
"""The mean loss over a batch, a number."""

Criterion = Callable[[Model, Encoded, Loss], Scores]

AT_ONCE = 32
"""Examples whose gradients are computed together."""


def uniform(model: Model, encoded: Encoded, loss: Loss, *, seed: int = 0) -> Scores:
    """A random number in [0, 1) for each head and unit, times its parameters: what costs as much is
    worth as much, as the control of every other criterion.
    """
    del encoded, loss
    sizes = gated(model)
    numbers = jax.random.uniform(jax.random.key(seed), (sum(sizes.values()),))
    parts = np.split(np.asarray(numbers), np.cumsum(list(sizes.values()))[:-1])
    return {
        name: part * parameters_of(model.table, name)
        for name, part in zip(sizes, parts, strict=True)
    }


def magnitude(model: Model, encoded: Encoded, loss: Loss) -> Scores:
    """||W_i||^2, of all kernels that i has a part of.

    Source: arXiv 1608.08710, section 3.1. Deviation: squares in place of magnitudes.
    """
    del encoded, loss
    model = multiplied_out(model)
    arrays, scores = flatten(model.params), {}
    for instance, size in gated(model).items():
        scores[instance] = np.zeros(size)
        for row in with_instance(model.table, instance):
            if row.role == "kernel":
                squares = np.square(np.asarray(arrays[row.path], np.float64))
                others = tuple(i for i, axis in enumerate(row.axes) if axis.instance != instance)
                scores[instance] += squares.sum(others)
    return scores


def activation(model: Model, encoded: Encoded, loss: Loss) -> Scores:
    """sum_t ||h_ti W_i||^2: how large a part of the product that reads it i contributes.

    Source: arXiv 2306.11695, |W| ||x||. Deviation: squared, and of whole heads and units, not of
    single weights.
    """
    del loss
    model = multiplied_out(model)
    found, _ = moments(model, encoded, gated(model))
    return {name: np.diag(products(model, name, found)) for name in gated(model)}


def first_order(model: Model, encoded: Encoded, loss: Loss) -> Scores:
    """E_x |dL(x) / dg_i|.

    Source: arXiv 1905.10650, the score of heads. Deviation: not divided by the norm over each
    layer's, so that scores of all layers, and of heads and units, are estimates of one loss.
    """
    gradients = example_gradients(model, encoded, loss)
    return {name: np.abs(gradient).mean(0) for name, gradient in gradients.items()}


def fisher(model: Model, encoded: Encoded, loss: Loss) -> Scores:
    """E_x (dL(x) / dg_i)^2, the diagonal of the Fisher information of the gates.

    Source: arXiv 2204.09656, section 4.1.
    """
    gradients = example_gradients(model, encoded, loss)
    return {name: np.square(gradient).mean(0) for name, gradient in gradients.items()}


def block_fisher(model: Model, encoded: Encoded, loss: Loss) -> Scores:
    """By how much sum_ij F_ij over what is removed grows with i, the block F = E_x g g^T of the
    Fisher information, when heads or units of an axis instance are removed in greedy order.

    Source: arXiv 2204.09656, section 4.2. Deviation: a score for each, in place of the best of a
    given number; by removal alone, where none comes back.
    """
    gradients = example_gradients(model, encoded, loss)
    return {name: growth(information(gradient)) for name, gradient in gradients.items()}


def information(
    gradients: Float[np.ndarray, "examples N"],
) -> Float[np.ndarray, "N N"]:
    """E_x g g^T."""
    return gradients.T.astype(np.float64) @ gradients / len(gradients)


def growth(block: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N"]:
    """What each adds to sum_ij F_ij over what is removed, where the one that adds least is always
    removed next.

    Where one adds less than those removed just before it, all of them are given their mean, by
    isotonic regression: scores ascend in the order of removal and add up to sum_ij F_ij of all.
    Equal ones are set apart by a rounding error, so that sorting them gives that order.
    """
    from scipy.optimize import isotonic_regression

    size = len(block)
    order, added = np.zeros(size, int), np.zeros(size)
    adds = np.diag(block).copy()
    for step in range(size):
        order[step] = new = int(np.argmin(adds))
        added[step] = adds[new]
        adds += 2 * block[new]
        adds[new] = np.inf
    ascending = isotonic_regression(added).x
    scores = np.zeros(size)
    scores[order] = ascending + 2 * np.spacing(np.abs(ascending).max()) * np.arange(size)
    return scores


def example_gradients(
    model: Model, encoded: Encoded, loss: Loss
) -> dict[str, Float[np.ndarray, "examples N"]]:
    """dL(x) / dg for every example x, at gates of 1; the shortest come first."""
    found: dict[str, list[np.ndarray]] = {instance: [] for instance in gated(model)}
    pad_id = model.config.pad_token_id
    for batch in eval_batches(encoded, AT_ONCE, pad_id=pad_id, layout="padded"):
        for instance, gradient in gradients_of(model, dict(batch), loss).items():
            found[instance].append(np.asarray(gradient)[batch["example_mask"] > 0])
    return {instance: np.concatenate(parts) for instance, parts in found.items()}


@functools.partial(jax.jit, static_argnames="loss")
def gradients_of(model: Model, batch: Batch, loss: Loss) -> Gates:
    """`example_gradients` of one batch."""

    def of_example(inputs: Batch, example: Batch) -> Gates:
        def by_gates(gates: Gates) -> Array:
            whole = (model.module, model.table, model.params)
            return loss(apply_gated(*whole, inputs, gates), example)

        return jax.grad(by_gates)(open_gates(model))

    return one_by_one(of_example, batch)


def one_by_one(of_example: Callable[[Batch, Batch], PyTree], batch: Batch) -> PyTree:
    """`of_example(what the model reads, all of it)` for each example as a batch of its own."""

    def alone(example: Batch) -> PyTree:
        example = {name: value[None] for name, value in example.items()}
        return of_example({name: example[name] for name in INPUTS if name in example}, example)

    return jax.vmap(alone)(dict(batch))
