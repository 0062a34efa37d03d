"""What every head or feed-forward unit contributes to the product that reads it.

That product is y_t = sum_i h_ti W_i (+ b), with h_ti what comes from i at token t, and W_i the rows
of the kernel that read it. So how near one choice of i comes to another is told by the products of
contributions, summed over tokens, G_ij = sum_t <h_ti W_i, h'_tj W_j>, which follow from
C = sum_t h_t^T h'_t alone.
"""

import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.encode import Encoded
from effjax.models.gates import read, readers
from effjax.models.model import Model
from effjax.models.products import reading
from effjax.prune.passes import summed
from effjax.table import Row
from effjax.tree import flatten
from effjax.types import Array, Batch, Float, Gates

Moments = dict[str, Float[np.ndarray, "read read"]]
"""C by the path of the kernel."""


def moments(
    model: Model,
    encoded: Encoded,
    instances: Iterable[str],
    *,
    gates: Gates | None = None,
    others: Gates | None = None,
) -> tuple[Moments, Moments]:
    """sum_t h_t^T h_t and sum_t h_t^T h'_t over the tokens of all examples, in float64.

    Args:
        instances: whose contributions are asked for.
        gates: of the model that h is from.
        others: of the model that h' is from.
    """
    paths = tuple(row.path for name in instances for row in readers(model.table, name))
    return summed(model, encoded, lambda batch: in_batch(model, batch, gates, others, paths))


@functools.partial(jax.jit, static_argnames="paths")
def in_batch(
    model: Model, batch: Batch, gates: Gates | None, others: Gates | None, paths: tuple[str, ...]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`moments` of one batch."""
    rows = {path: model.table.by_path[path] for path in paths}
    outputs, ours = reading(model, batch, paths, gates)
    _, theirs = reading(model, batch, paths, others)
    assert outputs.mask is not None
    token_T = outputs.mask.reshape(-1, 1)

    def summed(left: tuple[Array, ...], right: tuple[Array, ...], row: Row) -> Array:
        pairs = ((flat(x, row) * token_T, flat(y, row)) for x, y in zip(left, right, strict=True))
        return sum((x.T @ y for x, y in pairs), jnp.zeros(()))

    own = {path: summed(x, x, rows[path]) for path, x in ours.items()}
    return own, {path: summed(x, theirs[path], rows[path]) for path, x in ours.items()}


def flat(x: Float[Array, "..."], row: Row) -> Float[Array, "T read"]:
    """What a product reads, per token, that of each head or unit in one piece."""
    axes = row.axes[: row.contracts]
    number = next(i for i, axis in enumerate(axes) if axis.instance and "/" in axis.instance)
    x = x.astype(jnp.float32).reshape(-1, *(axis.size for axis in axes))
    return jnp.moveaxis(x, number + 1, 1).reshape(len(x), -1)


def products(model: Model, instance: str, found: Mapping[str, Array]) -> Float[np.ndarray, "N N"]:
    """G_ij = sum_t <h_ti W_i, h'_tj W_j>, given C."""
    arrays, table, total = flatten(model.params), model.table, np.zeros(())
    size = table.instances[instance]
    for row in readers(table, instance):
        kernel = np.moveaxis(np.asarray(arrays[row.path], np.float64), read(row).index(instance), 0)
        kernel = kernel.reshape(len(found[row.path]), -1)
        whole = found[row.path] * (kernel @ kernel.T)
        pieces = len(whole) // size
        total = total + whole.reshape(size, pieces, size, pieces).sum((1, 3))
    return total
