"""Weights as two factors of low rank, W = L R: fewer parameters and multiplications.

    moments = second_moments(model, encoded, factorable(model))
    ranks = best_ranks(model, at_most=0.6 * model.num_params, weighted_by=moments)
    small = factorised(model, ranks, weighted_by=moments)

An [inputs, outputs] weight of rank r has r (inputs + outputs) parameters. The factors are chosen to
minimise ||W - L R||, or ||X (W - L R)|| for what the weight reads, X, in Frobenius norm. Both are
solved by a singular value decomposition: of W, and of S^T W with S S^T = X^T X.

Source: Eckart and Young, Psychometrika 1936; weighted, DRONE (Chen et al., NeurIPS 2021), arXiv
2403.07378. Deviations: S is of eigenvectors, not Cholesky's factor, which takes X of any rank; and
ranks are chosen by dynamic programming, to lose the smallest shares of what weights compute.
"""

from collections.abc import Callable, Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.prune.search import best_sizes
from effjax.prune.second_moments import SecondMoments
from effjax.table import Row, undivided
from effjax.tree import flatten, unflatten
from effjax.types import Float

LEAST = 1e-6
"""Of the mean eigenvalue of X^T X: directions that X has less of count as if it had so much."""


def factorable(model: Model) -> tuple[str, ...]:
    """The paths of all weights that can be two factors and are not: kernels and the word embedding,
    whose rows are multiplied by one word at a time.
    """
    return tuple(row.path for row in model.table if not undivided(row))


def factorised(
    model: Model, ranks: Mapping[str, int], *, weighted_by: SecondMoments | None = None
) -> Model:
    """The model with these weights as two factors each, as near as that rank allows.

        small = factorised(model, {"layer_3/feedforward/up/kernel": 64})

    It is trained, pruned and written like any other. Where the word embedding is the output
    projection too, that is the same two factors, and its error is not looked at.

    Args:
        ranks: by path.
        weighted_by: of what each of them reads; without it no direction is more than another.

    Raises:
        ValueError: a path is of no kernel or word embedding, or of one that cannot be two factors
            or is already, or has no second moments, or a rank is outside 1 to the smaller side.
    """
    rows = {path: checked(model, path, rank) for path, rank in ranks.items()}
    params = flatten(model.params)
    for path, row in rows.items():
        matrix, undone = weighted(model, row, weighted_by)
        left, right = nearest(matrix, ranks[path], undone)
        stem, count = path.rpartition("/")[0], row.contracts or 1
        dtype = params.pop(path).dtype
        params[f"{stem}/left"] = jnp.asarray(left.reshape(*row.shape[:count], -1), dtype)
        params[f"{stem}/right"] = jnp.asarray(right.reshape(-1, *row.shape[count:]), dtype)
    new = [(path, int(rank)) for path, rank in ranks.items()]
    config = model.config.replace(ranks=tuple(sorted([*model.config.ranks, *new])))
    return model.replace(config=config, params=unflatten(params))


def nearest(
    matrix: Float[np.ndarray, "I O"], rank: int, undone: Callable[[np.ndarray], np.ndarray]
) -> tuple[Float[np.ndarray, "I Z"], Float[np.ndarray, "Z O"]]:
    """The factors of the nearest matrix of that rank, once its weighting is undone, with the same
    Gram matrix, L^T L = R R^T: neither is larger than the other.
    """
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    q, triangle = np.linalg.qr(undone(u[:, :rank] * values[:rank]))
    u, values, turn = np.linalg.svd(triangle)
    roots = np.sqrt(values)
    return (q @ u) * roots, roots[:, None] * (turn @ v[:rank])


def rank_errors(
    model: Model, paths: Iterable[str], *, weighted_by: SecondMoments | None = None
) -> dict[str, Float[np.ndarray, "ranks"]]:
    """||X (W - L R)||^2 at ranks 0, 1, ... up to the full one, at which it is 0: the sum of the
    squares of the singular values that are left out. Arguments as of `factorised`.
    """
    errors = {}
    for path in paths:
        matrix, _ = weighted(model, checked(model, path, 1), weighted_by)
        squares = np.square(np.linalg.svd(matrix, compute_uv=False))
        errors[path] = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    return errors


def best_ranks(
    model: Model,
    *,
    at_most: float | int,
    paths: Iterable[str] | None = None,
    weighted_by: SecondMoments | None = None,
    multiple: int = 1,
) -> dict[str, int]:
    """The ranks by which the model has no more parameters than that and loses the least: the sum
    over weights of ||X (W - L R)||^2 / ||X W||^2. Weights that are to stay whole have none.

    Args:
        at_most: parameters of the whole model.
        paths: of what may be factorised; all that `factorable` names unless given.
        multiple: ranks that the hardware likes.

    Raises:
        ValueError: as of `factorised`, or no model is so small, or all are.
    """
    paths = factorable(model) if paths is None else tuple(paths)
    errors = rank_errors(model, paths, weighted_by=weighted_by)
    of, values = {}, {}
    for path, lost in errors.items():
        inputs, outputs = sides(model.table.by_path[path])
        ranks = np.arange(-(-inputs * outputs // (inputs + outputs)))
        value = -lost[: len(ranks)] / max(lost[0], np.finfo(np.float64).tiny)
        usable = (ranks > 0) & (ranks % multiple == 0)
        # The last size is the whole weight.
        values[path] = np.append(np.where(usable, value, -np.inf), 0.0)
        of[path] = np.append(ranks * (inputs + outputs), inputs * outputs).astype(np.float64)
    base = model.num_params - sum(costs[-1] for costs in of.values())
    costs = Costs(unit="parameters", base=float(base), of=of)
    sizes = best_sizes(values, costs, at_most=at_most)
    return {path: size for path, size in sizes.items() if size < len(of[path]) - 1}


def weighted(
    model: Model, row: Row, moments: SecondMoments | None
) -> tuple[Float[np.ndarray, "I O"], Callable[[np.ndarray], np.ndarray]]:
    """S^T W, in float64, and the product with the inverse of S^T; S is 1 without moments.

    Raises:
        ValueError: there are no moments of this weight, or they are of another shape.
    """
    inputs, outputs = sides(row)
    matrix = np.asarray(flatten(model.params)[row.path], np.float64).reshape(inputs, outputs)
    if moments is None:
        return matrix, lambda left: left
    shape = (inputs, inputs) if row.contracts else (inputs,)
    if row.path not in moments or np.shape(moments[row.path]) != shape:
        found = np.shape(moments[row.path]) if row.path in moments else "nothing"
        raise ValueError(f"weighted_by has {found} of {row.path}; expected shape {shape}")
    moment = np.asarray(moments[row.path], np.float64)
    values, vectors = np.linalg.eigh(moment) if row.contracts else (moment, None)
    least = max(LEAST * values.mean(), np.finfo(np.float64).tiny)
    roots = np.sqrt(np.maximum(values, least))[:, None]
    if vectors is None:
        return roots * matrix, lambda left: left / roots
    return roots * (vectors.T @ matrix), lambda left: vectors @ (left / roots)


def sides(row: Row) -> tuple[int, int]:
    """Inputs and outputs of a weight as one matrix."""
    inputs = int(np.prod(row.shape[: row.contracts or 1]))
    return inputs, row.size // inputs


def checked(model: Model, path: str, rank: int) -> Row:
    """The row of a weight. Raises a ValueError if it cannot be two factors of that rank."""
    known, rows = dict(model.config.ranks), model.table.by_path
    if path in known:
        raise ValueError(f"{path} is two factors already, of rank {known[path]}")
    if path not in rows:
        raise ValueError(
            f"ranks name {path!r}, which this model has not; expected a path such as "
            f"{', '.join(factorable(model)[:2])}"
        )
    if why := undivided(rows[path]):
        raise ValueError(f"{path} cannot be two factors: {why}")
    most = min(sides(rows[path]))
    if not 1 <= rank <= most:
        raise ValueError(f"the rank of {path} is {rank}; allowed: 1 to {most}")
    return rows[path]
