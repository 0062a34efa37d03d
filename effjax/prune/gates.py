"""Gates: a multiplier for every head and feed-forward unit of a model, and what they leave of it.

gates = gates_of(model, keep)           # 1 where kept, 0 elsewhere
model.trace(batch, gates)               # computes what the smaller model will
small = settled(model, gates)           # is the smaller model
"""

import jax.numpy as jnp
import numpy as np

from effjax.models.gates import check_gates, gateable, read, readers
from effjax.models.hidden_gates import gated_variables
from effjax.models.model import Model
from effjax.prune.shrink import shrink
from effjax.table import Row, Table
from effjax.tree import flatten, unflatten
from effjax.types import Gates, Keep


def gated(model: Model) -> dict[str, int]:
    """The axis instances that have gates, in the order in which the model is read, and the size of
    each: "layer_3/heads", "layer_3/ffn".

    Raises:
        ValueError: the architecture has none; its reason is named.
    """
    found = gateable(model.table)
    if not found:
        reasons = [why for name, why in model.table.fixed.items() if "/" in name]
        reason = reasons[0] if reasons else "no head and no unit is left"
        raise ValueError(f"{model.architecture.name} has nothing to prune in its layers: {reason}")
    return found


def with_instance(table: Table, instance: str) -> list[Row]:
    """The arrays that shrink with an axis instance."""
    return [row for row in table if any(axis.instance == instance for axis in row.axes)]


def parameters_of(table: Table, instance: str) -> float:
    """Of each head or unit."""
    return sum(row.size for row in with_instance(table, instance)) / table.instances[instance]


def open_gates(model: Model) -> Gates:
    """Ones for everything that has a gate."""
    return {instance: jnp.ones(size) for instance, size in gated(model).items()}


def gates_of(model: Model, keep: Keep) -> Gates:
    """1 for what is kept, 0 for what is not."""
    return {
        instance: gate
        if instance not in keep
        else jnp.zeros_like(gate).at[np.asarray(keep[instance], int)].set(1.0)
        for instance, gate in open_gates(model).items()
    }


def kept(gates: Gates) -> Keep:
    """The indices whose gates are not 0."""
    return {instance: np.flatnonzero(np.asarray(gate)) for instance, gate in gates.items()}


def settled(model: Model, gates: Gates) -> Model:
    """The smaller model that computes what the gated one does: gates become part of the weights
    that read what they multiply, and what they close is removed.

    Args:
        gates: of heads and units; and of hidden states or word vectors, "hidden" and "embedding".

    Raises:
        ValueError: a gate is of something that has none, or of another shape.
    """
    gated(model)  # where nothing has gates, this says why
    check_gates(model.table, gates, layers=False)
    return shrink(absorbed(model, gates), kept(gates))


def absorbed(model: Model, gates: Gates) -> Model:
    """The model of the same size whose weights have the gates in them."""
    table = model.table
    arrays = flatten(gated_variables(table, model.params, gates)["params"])
    for instance, gate in gates.items():
        for row in readers(table, instance):
            number = read(row).index(instance)
            shape = [-1 if i == number else 1 for i in range(len(row.axes))]
            arrays[row.path] = arrays[row.path] * jnp.asarray(gate).reshape(shape)
    return model.replace(params=unflatten(arrays))
