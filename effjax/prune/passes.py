"""Sums over all tokens of some examples."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.models.model import INPUTS, Model
from effjax.types import Batch

ROWS, TOKENS = 256, 2048
"""Of a batch, at most."""

Arrays = TypeVar("Arrays")


def summed(
    model: Model, encoded: Encoded, of_batch: Callable[[Batch], Arrays], *more: str
) -> Arrays:
    """Adds up in float64 what there is of every batch, which is arrays in dicts and tuples.

    Args:
        of_batch: is given the inputs of a batch.
        more: what else of a batch it wants, such as "example_mask".

    Raises:
        ValueError: there are no examples.
    """
    if not len(encoded):
        raise ValueError("there are no examples to look at; expected one or more")
    total: Any = None
    for batch in eval_batches(encoded, ROWS, pad_id=model.config.pad_token_id, tokens=TOKENS):
        given = {name: jnp.asarray(batch[name]) for name in (*INPUTS, *more) if name in batch}
        found = jax.tree.map(lambda array: np.asarray(array, np.float64), of_batch(given))
        total = found if total is None else jax.tree.map(np.add, total, found)
    return total
