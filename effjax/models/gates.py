"""What of a model has gates, and whether some fit it."""

from collections.abc import Mapping

import numpy as np

from effjax.models.hidden_gates import normed
from effjax.table import Row, Table
from effjax.types import Array


def gateable(table: Table) -> dict[str, int]:
    """The heads and units that have gates, in the order in which the model is read, and the size of
    each axis instance; nothing where there is none.
    """
    return {name: size for name, size in table.instances.items() if readers(table, name)}


def readers(table: Table, instance: str) -> list[Row]:
    """The kernels that read a layer's heads or units, which is where a gate multiplies."""
    return [row for row in table if "/" in instance and instance in read(row)]


def read(row: Row) -> list[str | None]:
    """The axis instances that a product sums over."""
    return [axis.instance for axis in row.axes[: row.contracts]]


def layers_with_gates(table: Table) -> tuple[str, ...]:
    """The names of all layers, each with a gate that is one number."""
    names = (row.path.partition("/")[0] for row in table)
    return tuple(dict.fromkeys(name for name in names if name.startswith("layer_")))


def check_gates(table: Table, gates: Mapping[str, Array], *, layers: bool) -> None:
    """Raises a ValueError for gates of what has none, or of another shape.

    Args:
        layers: whether whole layers may have some.
    """
    sizes = gateable(table) | normed(table)
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}
    shapes |= dict.fromkeys(layers_with_gates(table), ()) if layers else {}
    for instance, gate in gates.items():
        if instance not in shapes:
            raise ValueError(f"{instance!r} has no gates; this model has {', '.join(shapes)}")
        if np.shape(gate) != shapes[instance]:
            raise ValueError(
                f"{instance!r} has shape {np.shape(gate)}; expected {shapes[instance]}"
            )
