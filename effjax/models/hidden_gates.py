"""Gates of the vectors that norms go over: the hidden states, and the word vectors beside them.

What is written to a closed place is multiplied by 0, and every norm goes over the open places only,
so that a model under gates of 0 and 1 computes what the one with smaller arrays does.
"""

from typing import Any

import jax.numpy as jnp

from effjax.layers.norm import OPEN
from effjax.table import Row, Table
from effjax.tree import flatten, unflatten
from effjax.types import Array, Gates, Params


def normed(table: Table) -> dict[str, int]:
    """The axis instances that norms go over and that can shrink: "hidden", "embedding"."""
    found = {axis.instance for row in table if row.role == "scale" for axis in row.axes}
    return {name: size for name, size in table.instances.items() if name in found}


def gated_variables(table: Table, params: Params, gates: Gates) -> dict[str, Any]:
    """What `module.apply` takes for these gates, those of heads and units left to the layers."""
    arrays, open_ = flatten(params), {}
    for instance in normed(table).keys() & gates.keys():
        gate = jnp.asarray(gates[instance])
        for row in writers(table, instance):
            arrays[row.path] = arrays[row.path] * spread(gate_of(row, table, gate), row, instance)
        open_ |= {f"{name}/mask": (gate > 0).astype(gate.dtype) for name in norms(table, instance)}
    return {"params": unflatten(arrays), OPEN: unflatten(open_)}


def writers(table: Table, instance: str) -> list[Row]:
    """The arrays whose results have this axis."""
    return [
        row for row in table if any(axis.instance == instance for axis in row.axes[row.contracts :])
    ]


def norms(table: Table, instance: str) -> list[str]:
    """The modules that are norms over this axis."""
    scales = (row for row in writers(table, instance) if row.role == "scale")
    return [row.path.rpartition("/")[0] for row in scales]


def gate_of(row: Row, table: Table, gate: Array) -> Array:
    """What an array is multiplied by: those of a norm are there or not."""
    module = row.path.rpartition("/")[0]
    is_norm = f"{module}/scale" in table.by_path
    return (gate > 0).astype(gate.dtype) if is_norm else gate


def spread(gate: Array, row: Row, instance: str) -> Array:
    """A gate in the shape of the array that it multiplies."""
    written = row.axes[row.contracts :]
    number = row.contracts + [axis.instance for axis in written].index(instance)
    return gate.reshape([-1 if i == number else 1 for i in range(len(row.axes))])
