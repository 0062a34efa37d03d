"""What the products of a model read, besides what the model returns."""

from collections.abc import Collection
from typing import cast

from flax import linen as nn

from effjax.layers.linear import READ
from effjax.models.base import Outputs
from effjax.tree import flatten
from effjax.types import Array, Batch, Gates, Params


def reading(
    module: nn.Module, params: Params, batch: Batch, kernels: Collection[str], gates: Gates | None
) -> tuple[Outputs, dict[str, tuple[Array, ...]]]:
    """The outputs, and what the products with these kernels read, in the order of their uses.

    Args:
        kernels: paths of the params, such as "layer_3/feedforward/down/kernel".
    """
    outputs, found = module.apply({"params": params}, batch, gates=gates, mutable=[READ])
    read = flatten(found[READ])
    return cast(Outputs, outputs), {path: read[path] for path in kernels}
