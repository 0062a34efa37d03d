"""What the products of a model read, besides what the model returns."""

from collections.abc import Collection
from typing import cast

from effjax.layers.linear import READ
from effjax.models.base import Outputs
from effjax.models.hidden_gates import gated_variables
from effjax.models.model import Model
from effjax.tree import flatten
from effjax.types import Array, Batch, Gates


def reading(
    model: Model, batch: Batch, kernels: Collection[str], gates: Gates | None
) -> tuple[Outputs, dict[str, tuple[Array, ...]]]:
    """The outputs, and what the products with these kernels read, in the order of their uses.

    Args:
        kernels: paths of the params, such as "layer_3/feedforward/down/kernel".
    """
    variables = gated_variables(model.table, model.params, gates or {})
    outputs, found = model.module.apply(variables, batch, gates=gates, mutable=[READ])
    read = flatten(found[READ])
    return cast(Outputs, outputs), {path: read[path] for path in kernels}
