"""Structures removed one at a time, the weights of those left making up for each: the optimal brain
surgeon on whole heads and feed-forward units.

    small = obs(model, encoded, {"layer_0/heads": 6, "layer_0/ffn": 384})

Source: arXiv 2302.04089, section 3. Of the product Y = X W that reads the heads or units of a
layer, with H = X^T X over calibration tokens, the structure S is removed that adds the least to the
squared error, tr(W_S^T ((H^-1)_SS)^-1 W_S); what is left of W and H^-1 follows by block Gaussian
elimination. As there without retraining, every H is that of the whole model. Removed in the order
that this finds, what elimination computes is a Cholesky factor: H^-1 = T T^T and W = T Z, both with
their rows in that order, and without the first m rows W becomes T[m:, m:] Z[m:].
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from effjax.data.encode import Encoded
from effjax.models.gates import read, readers
from effjax.models.model import Model
from effjax.prune.contributions import moments
from effjax.prune.gates import gated
from effjax.prune.shrink import shrink
from effjax.tree import flatten, unflatten
from effjax.types import Float, Int, Keep

DAMPING = 1e-3
"""Added to the diagonal of H, as a share of its mean."""

AT_ONCE = 64
"""Columns that are eliminated before the whole matrices are brought up to date."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """Of one kernel, with its rows in the order in which they go: H^-1 = T T^T and W = T Z."""

    rows: Int[np.ndarray, "read"]
    triangle: Float[np.ndarray, "read read"]
    whitened: Float[np.ndarray, "read out"]

    def without(self, count: int) -> Float[np.ndarray, "read out"]:
        """W when so many of its rows are gone: zeros there, and the others refitted."""
        weights = np.zeros_like(self.whitened)
        weights[self.rows[count:]] = self.triangle[count:, count:] @ self.whitened[count:]
        return weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """How the heads or units of one axis instance go.

    Attributes:
        order: the first to go first.
        errors: ||X W - X W_n||^2 / ||X W||^2 over the calibration tokens, of the refitted W_n with
            n = 0, 1, ... of them left; 1 for none, 0 for all.
        factors: by the path of the kernel that reads them.
    """

    order: Int[np.ndarray, "N"]
    errors: Float[np.ndarray, "sizes"]
    factors: Mapping[str, Factors]

    def kept(self, size: int) -> Int[np.ndarray, "kept"]:
        """The last ones to go."""
        return np.sort(self.order[len(self.order) - size :])

    def weights(self, path: str, size: int) -> Float[np.ndarray, "read out"]:
        """Of a kernel when so many are left."""
        pieces = len(self.factors[path].rows) // len(self.order)
        return self.factors[path].without((len(self.order) - size) * pieces)


def obs(model: Model, encoded: Encoded, sizes: Mapping[str, int]) -> Model:
    """The model with so many heads and units, chosen and refitted layer by layer.

    Args:
        encoded: calibration examples, a few hundred or thousand of those of the training; labels
            are not read.
        sizes: by axis instance; what is not named is kept whole and unchanged.

    Raises:
        ValueError: an axis instance is not one of heads or units, or has fewer than asked for.
    """
    whole = gated(model)
    for name, size in sizes.items():
        if name not in whole:
            raise ValueError(f"sizes name {name!r}; this model has {', '.join(whole)}")
        if not 0 <= size <= whole[name]:
            raise ValueError(f"sizes[{name!r}] is {size}; expected 0 to {whole[name]}")
    return smaller(model, removals(model, encoded, sizes), sizes)


def removals(model: Model, encoded: Encoded, instances: Iterable[str]) -> dict[str, Removal]:
    """How each of these axis instances of the model shrinks to every size."""
    instances, table, found = tuple(instances), model.table, {}
    hessians, _ = moments(model, encoded, instances)
    for name in instances:
        ours = {row.path: hessians[row.path] for row in readers(table, name)}
        weights = {path: in_rows(model, name, path).reshape(len(h), -1) for path, h in ours.items()}
        found[name] = removal(ours, weights, table.instances[name])
    return found


def in_rows(model: Model, instance: str, path: str) -> Float[np.ndarray, "..."]:
    """A kernel that reads an axis instance, in float64, with that axis first."""
    number = read(model.table.by_path[path]).index(instance)
    return np.moveaxis(np.asarray(flatten(model.params)[path], np.float64), number, 0)


def smaller(model: Model, removals: Mapping[str, Removal], sizes: Mapping[str, int]) -> Model:
    """The model with so much left of each axis instance, refitted."""
    keep: Keep = {name: removals[name].kept(size) for name, size in sizes.items()}
    return shrink(refitted(model, removals, sizes), keep)


def refitted(model: Model, removals: Mapping[str, Removal], sizes: Mapping[str, int]) -> Model:
    """What the smaller model computes in arrays of unchanged shape, zeros for what is gone."""
    table, arrays = model.table, flatten(model.params)
    for name, size in sizes.items():
        if size == table.instances[name]:
            continue
        for row in readers(table, name):
            kernel, number = arrays[row.path], read(row).index(name)
            shape = np.moveaxis(kernel, number, 0).shape
            weights = removals[name].weights(row.path, size).reshape(shape)
            arrays[row.path] = jnp.asarray(np.moveaxis(weights, 0, number), kernel.dtype)
    return model.replace(params=unflatten(arrays))


def removal(
    hessians: Mapping[str, Float[np.ndarray, "..."]],
    weights: Mapping[str, Float[np.ndarray, "..."]],
    size: int,
) -> Removal:
    """How the products of one axis instance shrink.

    Args:
        hessians: H [read, read] of each kernel, by its path.
        weights: W [read, out] of each.
        size: of the axis instance; each has as many consecutive rows.
    """
    damping = {path: DAMPING * np.trace(h) / len(h) or 1.0 for path, h in hessians.items()}
    inverses = {path: inverse(h, damping[path]) for path, h in hessians.items()}
    order = removal_order([(inverses[path], weights[path]) for path in hessians], size)
    factors, gone, whole = {}, np.zeros(size + 1), 0.0
    for path, inverted in inverses.items():
        factors[path] = factorised(inverted, weights[path], order)
        gone += squared_errors(factors[path], damping[path])[:: len(inverted) // size]
        whole += float(np.sum(weights[path] * (hessians[path] @ weights[path])))
    errors = np.maximum(gone, 0.0)[::-1] / whole if whole > 0 else np.zeros(size + 1)
    return Removal(order=order, errors=errors, factors=factors)


def inverse(
    hessian: Float[np.ndarray, "read read"], damping: float
) -> Float[np.ndarray, "read read"]:
    """(H + damping)^-1, symmetric to the bit."""
    found = np.linalg.inv(hessian + damping * np.eye(len(hessian)))
    return (found + found.T) / 2


def factorised(
    inverse: Float[np.ndarray, "read read"],
    weights: Float[np.ndarray, "read out"],
    order: Int[np.ndarray, "N"],
) -> Factors:
    """T and Z for structures that go in this order."""
    from scipy.linalg import solve_triangular

    rows = np.arange(len(inverse)).reshape(len(order), -1)[order].ravel()
    triangle = np.linalg.cholesky(inverse[np.ix_(rows, rows)])
    whitened = solve_triangular(triangle, weights[rows], lower=True)
    return Factors(rows=rows, triangle=triangle, whitened=whitened)


def squared_errors(factors: Factors, damping: float) -> Float[np.ndarray, "counts"]:
    """||X D||^2 of the change D = T[:, :m] Z[:m] of W without its first m = 0, 1, ... rows.

    With damping, D costs sum_j<m ||Z_j||^2, of which damping ||D||^2 is no error.
    """
    triangle, whitened = factors.triangle, factors.whitened
    products = (triangle.T @ triangle) * (whitened @ whitened.T)
    change = np.cumsum(np.diag(products) + 2 * np.tril(products, -1).sum(1))
    return np.append(0.0, np.cumsum(np.square(whitened).sum(1)) - damping * change)


def removal_order(
    products: Iterable[tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]], size: int
) -> Int[np.ndarray, "N"]:
    """The structures in the order in which they go.

    Args:
        products: H^-1 [read, read] and W [read, out] of each product that reads them.
    """
    left = [Elimination(inverse, weights @ weights.T, size) for inverse, weights in products]
    order = np.zeros(size, np.int64)
    for step in range(size):
        costs = sum((one.costs() for one in left), np.zeros(size))
        costs[order[:step]] = np.inf
        order[step] = np.argmin(costs)
        for one in left:
            one.remove(int(order[step]))
    return order


class Elimination:
    """Block Gaussian elimination of H^-1 and of W, of which W W^T is all that the order needs.

    Removing i takes L L^T from H^-1, and L Z from W, with L = (H^-1)_:i C^-T, Z = C^-1 W_i and
    (H^-1)_ii = C C^T. So L M^T + M L^T goes from W W^T, M = (W W_i^T) C^-T - L Z Z^T / 2. The whole
    matrices are brought up to date every `AT_ONCE` columns; until then only what is looked at is.
    """

    def __init__(
        self,
        inverse: Float[np.ndarray, "read read"],
        gram: Float[np.ndarray, "read read"],
        size: int,
    ) -> None:
        self.inverse, self.gram, self.pieces = inverse.copy(), gram, len(inverse) // size
        blocks = np.arange(len(inverse)).reshape(size, -1)
        diagonal = blocks[:, :, None], blocks[:, None, :]
        self.own_inverse, self.own_gram = self.inverse[diagonal], self.gram[diagonal]
        self.pending, width = 0, max(AT_ONCE, self.pieces)
        self.left, self.right = np.zeros((2, len(inverse), width))

    def costs(self) -> Float[np.ndarray, "N"]:
        """What removing each adds to the squared error."""
        solved = np.linalg.solve(self.own_inverse, self.own_gram)
        return np.trace(solved, axis1=1, axis2=2)

    def remove(self, i: int) -> None:
        """Without i."""
        here = slice(i * self.pieces, (i + 1) * self.pieces)
        if self.pending + self.pieces > self.left.shape[1]:
            self.bring_up_to_date()
        before_L, before_M = self.left[:, : self.pending], self.right[:, : self.pending]
        column = self.inverse[here].T - before_L @ before_L[here].T
        products = self.gram[here].T - before_L @ before_M[here].T - before_M @ before_L[here].T
        to_L = np.linalg.inv(np.linalg.cholesky(column[here]))
        new_L, new_M = column @ to_L.T, products @ to_L.T
        new_M = new_M - new_L @ (to_L @ new_M[here]) / 2
        new = slice(self.pending, self.pending + self.pieces)
        self.left[:, new], self.right[:, new] = new_L, new_M
        self.pending += self.pieces
        new_L, new_M = (x.reshape(-1, self.pieces, self.pieces) for x in (new_L, new_M))
        cross = new_L @ new_M.swapaxes(1, 2)
        self.own_inverse -= new_L @ new_L.swapaxes(1, 2)
        self.own_gram -= cross + cross.swapaxes(1, 2)
        self.own_inverse[i], self.own_gram[i] = np.eye(self.pieces), 0.0

    def bring_up_to_date(self) -> None:
        """Takes what is pending from the whole matrices."""
        left, right = self.left[:, : self.pending], self.right[:, : self.pending]
        self.inverse -= left @ left.T
        self.gram -= np.hstack([left, right]) @ np.hstack([right, left]).T
        self.pending = 0
