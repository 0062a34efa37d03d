"""What is left to remove of a model with zeros in it: heads and units that do nothing.

    masks = movement.masks(fitted.learned, fitted.model)
    small = shrink(fitted.model, needed(masked(fitted.model, masks)))

is smaller, and the weights of what stays are those before they were masked, as in the models that
arXiv 2109.04838 calls filled; `shrink(sparse, needed(sparse))` computes what the sparse one does.
"""

import numpy as np

from effjax.models.gates import read, readers
from effjax.models.model import Model
from effjax.prune.gates import gated, with_instance
from effjax.table import Row, Table
from effjax.tree import flatten
from effjax.types import Bool, Keep

FACTORS = {"value": (0,), "gate": (0,), "up": (0,), "qkv": (2,), "gate_up": (0, 1)}
"""Products, by the name of their module, that a head or unit cannot do without: where one gives
zeros, so does the head or unit, since every activation is 0 at 0. Of fused ones, the slots.
"""


def needed(model: Model) -> Keep:
    """The heads and units without which the model would compute something else; `shrink` to them
    leaves its outputs as they are.

    One is not needed if all that reads it is zero, or it gives nothing but zeros: its values, its
    `up` or its `gate` have zeros for weights and bias. With a bias it gives a constant, and stays.

    Raises:
        ValueError: the architecture has no heads or units to remove.
    """
    table, keep = model.table, {}
    arrays = {path: np.asarray(x) for path, x in flatten(model.params).items()}
    for instance in gated(model):
        unread = all_zero(readers(table, instance), arrays, instance)
        keep[instance] = np.flatnonzero(~(unread | silent(table, arrays, instance)))
    return keep


def silent(table: Table, arrays: dict[str, np.ndarray], instance: str) -> Bool[np.ndarray, "N"]:
    """Which of an axis instance give nothing but zeros."""
    rows = [row for row in with_instance(table, instance) if instance not in read(row)]
    found = np.zeros(table.instances[instance], bool)
    for module, slots in FACTORS.items():
        if own := [row for row in rows if row.path.split("/")[-2] == module]:
            for slot in slots:
                found |= all_zero(own, arrays, instance, slot)
    return found


def all_zero(
    rows: list[Row], arrays: dict[str, np.ndarray], instance: str, slot: int | None = None
) -> Bool[np.ndarray, "N"]:
    """Of which of an axis instance all these arrays hold zeros alone, in one slot of fused ones."""
    return np.all([~of_each(arrays[x.path], x, instance, slot).any(1) for x in rows], axis=0)


def of_each(array: np.ndarray, row: Row, instance: str, slot: int | None) -> np.ndarray:
    """The array as [head or unit, rest]."""
    letters, number = row.letters.split(), [axis.instance for axis in row.axes].index(instance)
    if slot is not None and "S" in letters:
        array = array.take([slot], axis=letters.index("S"))
    return np.moveaxis(array, number, 0).reshape(row.shape[number], -1)
