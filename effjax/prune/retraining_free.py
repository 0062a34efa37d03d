"""Pruning a fine-tuned model without training it again, in minutes (paper/pruning.md).

    gates = retraining_free(model, encoded, loss, costs, at_most=0.6 * costs.whole)
    small = settled(model, gates)

Source: arXiv 2204.09656. Deviations: the budget is a knapsack solved by dynamic programming, which
takes heads and units of any cost, in place of algorithm 1; gates are tuned so that a sub-layer's
product is that of the whole model, without the difference of what is added to it; by normal
equations, in place of LSMR.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from effjax.data.encode import Encoded
from effjax.models.costs import Costs
from effjax.models.factors import multiplied_out
from effjax.models.model import Model
from effjax.prune.contributions import moments, products
from effjax.prune.gates import gates_of, kept
from effjax.prune.scores import Loss, example_gradients, information
from effjax.prune.search import select
from effjax.types import Float, Gates, Int

DAMPING = 1e-3
"""Of the least squares, as a share of the mean of the matrix's diagonal."""

LARGEST = 10.0
"""A gate beyond this says that the least squares went wrong: the layer is left untuned."""


def retraining_free(
    model: Model,
    encoded: Encoded,
    loss: Loss,
    costs: Costs,
    *,
    at_most: float | int,
    multiples: Mapping[str, int] | None = None,
) -> Gates:
    """Gates of 0 for what is removed; those of what is left make up for it.

    Args:
        encoded: training examples; the paper takes 2,048.
        loss: what the model was fine-tuned by.
        at_most: what the smaller model may cost, in the costs' unit.
        multiples: as of `select`.

    Raises:
        ValueError: as of `select`.
    """
    gradients = example_gradients(model, encoded, loss)
    scores = {name: np.square(gradient).mean(0) for name, gradient in gradients.items()}
    keep = select(scores, costs, at_most=at_most, multiples=multiples)
    keep = {name: rearranged(indices, gradients[name]) for name, indices in keep.items()}
    return tuned(model, encoded, gates_of(model, keep))


def rearranged(
    indices: Int[np.ndarray, "kept"], gradients: Float[np.ndarray, "examples N"]
) -> Int[np.ndarray, "kept"]:
    """As many of an axis instance, chosen by the whole block of the Fisher information.

    Minimises sum_ij F_ij over what is removed, F = E_x g g^T, greedily: beginning with the least
    F_ii, each of the others is removed, and the one comes back without which the sum is least.
    Source: arXiv 2204.09656, section 4.2.
    """
    block = information(gradients)
    diagonal = np.diag(block)
    order, count = np.argsort(diagonal, stable=True), len(diagonal) - len(indices)
    out = np.isin(np.arange(len(diagonal)), order[:count])
    sums = block[:, out].sum(1)
    for new in order[count:] if count else ():
        out[new], sums = True, sums + block[:, new]
        lessened = np.where(out, 2 * sums - diagonal, -np.inf)
        back = int(np.argmax(lessened))
        out[back], sums = False, sums - block[:, back]
    return np.flatnonzero(~out)


def tuned(model: Model, encoded: Encoded, gates: Gates) -> Gates:
    """Gates under which every product is as near as it gets to that of the whole model, layer by
    layer, each given the layers below as they have become.

    Minimises sum_t ||sum_i m_i h_ti W_i - y_t||^2 over the gates m of what is kept.
    Source: arXiv 2204.09656, section 4.3.
    """
    gates, model = dict(gates), multiplied_out(model)
    for instance, indices in kept(gates).items():
        if not len(indices):
            continue
        below = {**gates, instance: jnp.ones_like(gates[instance])}
        own, across = moments(model, encoded, (instance,), gates=below)
        matrix = products(model, instance, own)[np.ix_(indices, indices)]
        wanted = products(model, instance, across).sum(1)[indices]
        damping = DAMPING * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
        change = np.linalg.solve(matrix + damping, wanted - matrix.sum(1))
        if np.abs(1 + change).max() <= LARGEST:
            gates[instance] = jnp.asarray(gates[instance]).at[indices].set(1 + change)
    return gates
