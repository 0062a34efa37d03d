"""Weight masks: which single weights are zero, anywhere or n of every m, for comparison with what
makes a model really smaller.

    masks = weight_masks(model, sparsity=0.5)
    masks = weight_masks(model, sparsity=0.5, within="output", scores=wanda(model, encoded))
    masks = n_of_m_masks(model, n=2, m=4)
    sparse = masked(model, masks)

Masks are of the kernels inside layers; embeddings, what projects them, pooler and head are left
alone, as in arXiv 2005.07683.
"""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.encode import Encoded
from effjax.models.model import Model
from effjax.models.products import reading
from effjax.prune.passes import summed
from effjax.prune.sparsity import Within, check_sparsity, strongest
from effjax.table import Row, Table
from effjax.tree import flatten, unflatten
from effjax.types import Array, Batch, Float

Masks = Mapping[str, Array]
"""What is left of every weight, True or 1, and what is zero, by the path of its kernel and in its
shape; absent means all.
"""

WeightScores = Mapping[str, Array]
"""How much every weight is worth, in the same way."""


def maskable(table: Table) -> list[Row]:
    """The kernels inside layers."""
    return [row for row in table if row.role == "kernel" and row.path.startswith("layer_")]


def matrices(row: Row) -> tuple[int, int, int]:
    """Groups, inputs and outputs of a kernel, which is one matrix, or one of each group of a
    `GroupedLinear`.
    """
    groups = row.axes[0].size if row.letters == "G I O" else 1
    inputs = math.prod(row.shape[: row.contracts]) // groups
    return groups, inputs, row.size // (groups * inputs)


def weight_masks(
    model: Model,
    *,
    sparsity: float | int = 0.5,
    within: Within = "matrix",
    scores: WeightScores | None = None,
) -> Masks:
    """Masks of the highest scores: round(sparsity N) of every N weights that are compared go, of
    equal ones the first.

    Source: magnitudes, arXiv 1506.02626, whose threshold is each layer's; the sparsity of every
    matrix, and of the whole model, arXiv 2005.07683.

    Args:
        within: what the sparsity holds in.
        scores: what is masked, and by what; the magnitudes of all `maskable` kernels without.

    Raises:
        ValueError: the sparsity is outside [0, 1) or does not go into m weights, or these do not go
            into a kernel, or scores fit no kernel.
    """
    check_sparsity("weight_masks", sparsity, within)
    rows, found = {row.path: row for row in maskable(model.table)}, scores
    if found is None:
        arrays = flatten(model.params)
        found = {path: jnp.abs(arrays[path]) for path in rows}
    check_shapes("scores", found, rows)
    given = {path: jnp.asarray(x).reshape(matrices(rows[path])) for path, x in found.items()}
    kept = strongest(given, sparsity, within)
    return {path: mask.reshape(rows[path].shape) for path, mask in kept.items()}


def n_of_m_masks(
    model: Model, *, n: int = 2, m: int = 4, scores: WeightScores | None = None
) -> Masks:
    """Masks that leave the n highest scores of every m weights in a row of an output, along the
    axes that the product sums over, flattened.

    Source: arXiv 2104.08378, 2 of 4.

    Args:
        scores: as of `weight_masks`.

    Raises:
        ValueError: n is not from 1 to m, or as of `weight_masks`.
    """
    if not 1 <= n <= m:
        raise ValueError(f"n_of_m_masks: n is {n}, m is {m}; expected n from 1 to m")
    return weight_masks(model, sparsity=1 - n / m, within=m, scores=scores)


def masked(model: Model, masks: Masks) -> Model:
    """The model with zeros where the masks have them. No array is smaller and no product is faster:
    the zeros are stored and multiplied like any other number.

    Raises:
        ValueError: a mask is of no kernel inside a layer, or of another shape.
    """
    check_shapes("masks", masks, {row.path: row for row in maskable(model.table)})
    arrays = flatten(model.params)
    zeroed = {path: jnp.where(jnp.asarray(x) != 0, arrays[path], 0) for path, x in masks.items()}
    return model.replace(params=unflatten(arrays | zeroed))


def check_shapes(what: str, given: Mapping[str, Array], rows: Mapping[str, Row]) -> None:
    """Raises a ValueError for a path that is no kernel inside a layer, or for another shape."""
    for path, array in given.items():
        if path not in rows:
            raise ValueError(f"{what} name {path!r}, which is no kernel inside a layer")
        if np.shape(array) != rows[path].shape:
            raise ValueError(
                f"{what}[{path!r}] has shape {np.shape(array)}; expected {rows[path].shape}"
            )


def wanda(model: Model, encoded: Encoded) -> WeightScores:
    """|W_ij| ||x_i||_2, with x_i what the kernel reads there at all tokens of the examples.

    Source: arXiv 2306.11695, section 3, which compares the weights of each output
    (`within="output"`), or n of m. A table of relative positions, where it is read, counts once per
    batch.

    Raises:
        ValueError: the model has a kernel whose input is not recorded, which is named.
    """
    rows = {row.path: row for row in maskable(model.table)}
    try:
        totals = summed(model, encoded, lambda batch: squares_in_batch(model, batch, tuple(rows)))
    except KeyError as error:
        raise ValueError(
            f"{model.architecture.name} does not record what {error.args[0]} reads, which "
            "wanda needs; magnitudes need nothing"
        ) from None
    arrays = flatten(model.params)
    return {
        path: jnp.abs(arrays[path])
        * np.sqrt(totals[path])
        .astype(np.float32)
        .reshape(*row.shape[: row.contracts], *[1] * (len(row.axes) - row.contracts))
        for path, row in rows.items()
    }


@functools.partial(jax.jit, static_argnames="paths")
def squares_in_batch(
    model: Model, batch: Batch, paths: tuple[str, ...]
) -> dict[str, Float[Array, "inputs"]]:
    """sum_t x_ti^2 of one batch, by the path of the kernel."""
    outputs, read = reading(model, batch, paths, None)
    assert outputs.mask is not None
    totals = {}
    for path in paths:
        row, totals[path] = model.table.by_path[path], jnp.zeros(())
        for x, use in zip(read[path], row.uses, strict=True):
            rows = x.astype(jnp.float32).reshape(-1, matrices(row)[1])
            there = outputs.mask.reshape(-1, 1) if use == "token" else 1
            totals[path] += jnp.square(rows * there).sum(0)
    return totals
