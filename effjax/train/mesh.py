"""`Mesh`: how the devices share a training, and where every array then lies.

Arrays are laid out by the letters of the parameter table; XLA adds the communication. What is
computed does not depend on the mesh.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from effjax.data.layouts import Share
from effjax.models.model import Model
from effjax.table import Row, Table
from effjax.train.step import Part, TrainState
from effjax.tree import unflatten
from effjax.types import Batch, Params, PyTree

log = logging.getLogger("effjax")

SPLIT = {"tensor": ("H", "F", "V"), "fsdp": ("D", "E", "Y", "U")}
"""The letters that each axis of a mesh splits; of several, the first one that it divides. fsdp
leaves vectors whole: few bytes, and gathering one takes as long as gathering a small kernel.
"""

BATCH = PartitionSpec(("data", "fsdp"))
"""Rows of a batch."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """How many devices share what; their product is the number of devices.

    Attributes:
        data: copies of the model, each with its rows of every batch; None for as many as there are
            devices for.
        fsdp: devices that share the matrices of one copy and their moments, and gather the matrices
            for a step; each has its own rows of the batch too. Source: arXiv 1910.02054 (ZeRO,
            stage 3).
        tensor: devices that split attention heads, feed-forward units and the vocabulary. Source:
            arXiv 1909.08053.
    """

    data: int | None = None
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size is not None and size < 1:
                raise ValueError(f"mesh: {name} is {size}; it must be 1 or more")

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """The mesh over these devices, all of them by default.

        Raises:
            ValueError: its axes do not fit the number of devices, or how these are wired.
        """
        devices = jax.devices() if devices is None else devices
        copy = self.fsdp * self.tensor
        data = self.data or max(1, len(devices) // copy)
        if data * copy != len(devices):
            raise ValueError(
                f"mesh: data {data} x fsdp {self.fsdp} x tensor {self.tensor} = {data * copy}; "
                f"there are {len(devices)} devices"
            )
        shape, names = (data, self.fsdp, self.tensor), ("data", "fsdp", "tensor")
        try:
            placed = create_device_mesh(shape, devices, allow_split_physical_axes=True)
        except NotImplementedError as error:
            raise ValueError(f"mesh: {data} x {self.fsdp} x {self.tensor}: {error}") from error
        return jax.sharding.Mesh(placed, names, axis_types=(AxisType.Auto,) * 3)


def spec(row: Row, sizes: Mapping[str, int]) -> PartitionSpec:
    """Which axis of the mesh splits which axis of a parameter."""
    places: list[str | None] = [None] * len(row.axes)
    for name, letters in SPLIT.items():
        fitting = [i for i, axis in enumerate(row.axes) if axis.letter in letters]
        divided = [i for i in fitting if row.axes[i].size % sizes[name] == 0]
        free = [i for i in divided if places[i] is None]
        if free and sizes[name] > 1 and (name == "tensor" or len(places) > 1):
            places[free[0]] = name
    return PartitionSpec(*places)


def whole(table: Table, sizes: Mapping[str, int]) -> list[Row]:
    """The matrices that every device of a copy holds as a whole, since no axis can be divided."""
    split = sizes["fsdp"] * sizes["tensor"] > 1
    matrices = [row for row in table if row.role in ("kernel", "embedding")]
    return [row for row in matrices if split and not any(spec(row, sizes))]


def shardings(trainables: dict[str, Any], table: Table, mesh: jax.sharding.Mesh) -> PyTree:
    """Where every trainable array lies; what an objective learns is on every device."""
    if rows := whole(table, mesh.shape):
        names = ", ".join(f"{row.path} {row.shape}" for row in rows)
        log.warning("mesh %s divides no axis of %s: on every device", dict(mesh.shape), names)
    params = unflatten({row.path: NamedSharding(mesh, spec(row, mesh.shape)) for row in table})
    rest = {name: part for name, part in trainables.items() if name != "params"}
    return {"params": params, **jax.tree.map(lambda _: copied(mesh), rest)}


def copied(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(x: jax.Array | np.ndarray, where: NamedSharding) -> jax.Array:
    """An array that every process has, over the devices of all of them."""
    if where.is_fully_addressable:
        return jax.device_put(x, where)
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(spread(jax.random.key_data(x), where))
    values = np.asarray(x)
    return jax.make_array_from_callback(x.shape, where, lambda index: values[index])


def place_state(
    state: TrainState,
    table: Table,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    put: Callable[[Any, NamedSharding], Any] = spread,
) -> TrainState:
    """The state over a mesh; moments and averages lie as what they are of.

    Args:
        put: (array, where it lies) -> what stands for it.
    """
    trainables = shardings(state.trainables, table, mesh)
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        state.opt_state,
        trainables,
        transform_non_params=lambda _: copied(mesh),
    )
    average = trainables["params"] if state.average else {}
    places = {"trainables": trainables, "average": average, "opt_state": opt_state}
    placed = jax.tree.map(put, {name: getattr(state, name) for name in places}, places)
    rest = {name: value for name, value in vars(state).items() if name not in places}
    placed |= jax.tree.map(lambda x: put(x, copied(mesh)), rest)
    return replace(state, **placed)


def sharding_of(x: np.ndarray | jax.Array, mesh: jax.sharding.Mesh) -> NamedSharding:
    """Where an array of a batch lies: what there is one of per example has one axis and is on every
    device, all else goes with its rows.
    """
    return NamedSharding(mesh, BATCH) if np.ndim(x) > 1 else copied(mesh)


def place_model(model: Model, mesh: jax.sharding.Mesh) -> Model:
    """A model that is not trained, on every device."""
    return model.replace(params=jax.tree.map(lambda x: spread(x, copied(mesh)), model.params))


def place_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """A batch that every process has as a whole, over the mesh."""
    return {name: spread(x, sharding_of(x, mesh)) for name, x in batch.items()}


def place_parts(parts: Iterable[Part], mesh: jax.sharding.Mesh) -> tuple[Part, ...]:
    """Micro-batches of which every process has its rows, over the mesh, with teachers' outputs."""
    rows, everywhere = NamedSharding(mesh, BATCH), copied(mesh)
    put = jax.make_array_from_process_local_data

    def put_output(x: np.ndarray | jax.Array) -> jax.Array:
        # What a teacher says of an example has two axes, as the mask has, which is of tokens.
        return put(rows if np.ndim(x) > 2 or x.dtype == bool else everywhere, np.asarray(x))

    def place(part: Part) -> Part:
        batch, teachers = part
        batch = {name: put(sharding_of(x, mesh), np.asarray(x)) for name, x in batch.items()}
        return batch, jax.tree.map(put_output, teachers)

    return tuple(parts) if mesh.size == 1 else tuple(map(place, parts))


def share_of(mesh: jax.sharding.Mesh) -> Share:
    """The rows of a batch that this process's devices work on, which lie anywhere among them: JAX
    arranges a TPU's devices by its wires.
    """
    rows = mesh.devices.reshape(-1, mesh.shape["tensor"])
    process = jax.process_index()
    own = [i for i, row in enumerate(rows) if any(d.process_index == process for d in row)]
    return Share(tuple(own), len(rows))


def mesh_of(params: Params) -> jax.sharding.Mesh | None:
    """The mesh that parameters lie over; None for one device."""
    sharding = jax.tree.leaves(params)[0].sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return mesh if isinstance(mesh, jax.sharding.Mesh) and mesh.size > 1 else None


def gathered(params: PyTree) -> PyTree:
    """Arrays that this process can read as a whole."""
    if all(x.is_fully_addressable for x in jax.tree.leaves(params)):
        return params
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    return jax.jit(lambda x: x, out_shardings=copied(mesh))(params)
