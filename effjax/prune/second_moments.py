"""X^T X of what products read, by which factors of a weight are near where it matters."""

import functools
import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.encode import Encoded
from effjax.models.model import Model
from effjax.models.products import reading
from effjax.prune.passes import summed
from effjax.table import Row
from effjax.types import Array, Batch, Float

SecondMoments = Mapping[str, Float[np.ndarray, "..."]]
"""By the path of a kernel [inputs, inputs]; by that of the word embedding the diagonal, [V]."""


def second_moments(model: Model, encoded: Encoded, paths: Iterable[str]) -> SecondMoments:
    """sum_t x_t^T x_t of all that is multiplied by these weights in a pass over the examples, in
    float64; padding does not count.

    The word embedding is multiplied by one word at a time, so that this is how often each comes.

    Args:
        paths: of whole kernels and of the word embedding; `factorable` has all of them.
    """
    paths = tuple(paths)
    return summed(model, encoded, lambda batch: in_batch(model, batch, paths), "example_mask")


@functools.partial(jax.jit, static_argnames="paths")
def in_batch(model: Model, batch: Batch, paths: tuple[str, ...]) -> dict[str, Array]:
    """`second_moments` of one batch, whose examples are all but those that only fill it up."""
    rows = {path: model.table.by_path[path] for path in paths}
    kernels = [path for path, row in rows.items() if row.role == "kernel"]
    outputs, read = reading(model, batch, kernels, None)
    assert outputs.mask is not None
    there = {"token": outputs.mask.ravel(), "sequence": batch["example_mask"] > 0}
    found = {path: of_kernel(rows[path], read[path], there) for path in kernels}
    for path, row in rows.items():
        if row.role != "kernel":
            counts, words = jnp.zeros(row.shape[0]), batch["input_ids"].ravel()
            found[path] = counts.at[words].add(there["token"].astype(counts.dtype))
    return found


def of_kernel(
    row: Row, read: tuple[Array, ...], there: Mapping[str, Array]
) -> Float[Array, "inputs inputs"]:
    """The same of one kernel, given what it read in each of its uses and which tokens and examples
    there are; of relative positions, which have no padding, all count.
    """
    size = math.prod(row.shape[: row.contracts])
    total = jnp.zeros((size, size))
    for use, x in zip(row.uses, read, strict=False):  # fewer, where positions are not asked for
        x_TI = x.reshape(-1, size).astype(jnp.float32)
        if use in there:
            x_TI = jnp.where(there[use][:, None], x_TI, 0.0)
        total += jnp.matmul(x_TI.T, x_TI, precision="highest")
    return total
