"""Narrower models: every hidden state, and with it heads and feed-forward networks, cut alike."""

import numpy as np

from effjax.models.model import Model
from effjax.prune.shrink import shrink
from effjax.tree import flatten
from effjax.types import Float


def narrowed(model: Model, hidden: int) -> Model:
    """A model of the most important numbers of every hidden state, and in every layer of as large
    a share of its heads and feed-forward units, the most important ones.

    It computes something else than the teacher, since every norm goes over fewer numbers; what is
    learned from there on is the student's.

    Args:
        hidden: the width; with it the number of heads, of unchanged size, is a whole one.

    Raises:
        ValueError: the width is not below the model's, or leaves a part of a head or unit, or there
            are arrays that this does not make narrower.
    """
    table, width = model.table, model.config.hidden
    if not 0 < hidden < width:
        raise ValueError(f"a student of width {hidden}: expected a width from 1 to {width - 1}")
    if "hidden" in table.fixed:
        raise ValueError(
            f"{model.architecture.name} cannot become narrower: {table.fixed['hidden']}"
        )
    sizes = {name: size for name, size in table.instances.items() if "/" in name}
    keep = {}
    for instance, size in {"hidden": width, **sizes}.items():
        count, rest = divmod(size * hidden, width)
        if rest:
            raise ValueError(
                f"a student of width {hidden}, of {width}, would have a part of the {size} of "
                f"{instance}; expected a width that leaves whole ones"
            )
        keep[instance] = np.sort(np.argsort(-importance(model, instance), stable=True)[:count])
    return shrink(model, keep)


def importance(model: Model, instance: str) -> Float[np.ndarray, "N"]:
    """How much of its matrices' squares belongs to each of what an axis instance counts: the share,
    summed over the matrices that have the axis.

    Source: arXiv 1608.08710, section 3.1. Deviation: squares in place of magnitudes, as shares, and
    all matrices that the same index is removed from.
    """
    arrays, total = flatten(model.params), np.zeros(())
    for row in model.table:
        for number, axis in enumerate(row.axes):
            if axis.instance == instance and row.role in ("kernel", "embedding"):
                others = tuple(i for i in range(len(row.axes)) if i != number)
                squares = np.square(np.asarray(arrays[row.path], np.float64)).sum(others)
                total = total + squares / max(squares.sum(), np.finfo(np.float64).tiny)
    return total
