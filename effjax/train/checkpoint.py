"""Checkpoints of a run: all that it needs to go on as if it had never stopped, through orbax.

Orbax writes beside and renames, in the background, so a run that is killed while saving keeps the
checkpoint before; damage that comes later is found by the checksums that are saved with the arrays.
"""

import functools
import json
import logging
import math
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from effjax.train.logs import Record
from effjax.train.processes import by_first
from effjax.train.step import TrainState
from effjax.train.window import Measured
from effjax.types import Array, Params, PyTree

log = logging.getLogger("effjax")

KEPT = 2
"""Checkpoints that are kept: the newest, and the one before, in case the newest is damaged."""

ARRAYS = ("trainables", "average", "opt_state", "step", "usual_norm")


@dataclass(frozen=True)
class Best:
    """The best model so far, where training stops early.

    Attributes:
        params: its parameters; empty where training does not stop early.
        score: its headline metric, None before the first evaluation.
        at: the step that it was evaluated after.
        waited: evaluations since.
    """

    params: Params
    score: float | None = None
    at: int = 0
    waited: int = 0

    def after(self, score: float, step: int, params: Params) -> "Best":
        """The best after one more evaluation; a score that is only equal does not count."""
        if self.score is not None and not score > self.score:
            return replace(self, waited=self.waited + 1)
        return Best(jax.tree.map(lambda x: x.copy(), params), score, step)


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds.

    Attributes:
        state: parameters, those of the optimizer, random key and step, which is the place in the
            data too.
        best: the best model so far.
        history: the records of `metrics.jsonl`.
        window: the steps that are in no record yet.
    """

    state: TrainState
    best: Best
    history: tuple[Record, ...] = ()
    window: Measured = field(default_factory=Measured)

    @property
    def step(self) -> int:
        return int(self.state.step)

    @property
    def params(self) -> Params:
        """What is trained so far: the best, where training stops early."""
        return self.state.params if self.best.score is None else self.best.params


class Checkpoints:
    """The newest checkpoints of one run; a context manager, since orbax writes in the background.

    Args:
        folder: where they are, one sub-folder per step.
    """

    def __init__(self, folder: Path) -> None:
        import orbax.checkpoint as ocp  # when used: it takes as long as JAX

        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
        self.folder = folder.absolute()
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        # `Interruption` asks this, in numbers of its own; asked in steps too, JAX would agree on a
        # number that has passed.
        self.manager.reached_preemption = lambda step: False

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None or isinstance(error, SystemExit):
                self.wait()
        finally:
            self.manager.close()

    def wait(self) -> None:
        """Until what is being saved is on disk.

        Raises:
            OSError: it could not be written.
        """
        try:
            self.manager.wait_until_finished()
        except Exception as error:  # orbax and tensorstore raise whatever the disk gave them
            reason = str(error).splitlines()[0]
            raise OSError(
                f"{self.folder}: a checkpoint could not be written, "
                f"the one before is kept: {reason}"
            ) from error

    def save(self, saved: Saved) -> None:
        """Copies the arrays and writes them in the background, after the save before has ended.

        Raises:
            OSError: the one before could not be written; the newest whole one stays.
        """
        import orbax.checkpoint as ocp

        self.wait()
        arrays, numbers = to_arrays(saved)
        numbers["checksum"] = checksum(arrays, numbers)
        items = {"arrays": ocp.args.StandardSave(arrays), "numbers": ocp.args.JsonSave(numbers)}
        self.manager.save(numbers["step"], args=ocp.args.Composite(**items))

    def restore(self, like: Saved) -> Saved:
        """The newest whole checkpoint; `like` itself where there is none.

        A damaged one is set aside as `damaged-STEP`, with a line in the log, and the one before is
        used. Nothing is touched where none can be read.

        Raises:
            ValueError: there are checkpoints, and none can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        reasons: dict[int, str] = {}
        for step in steps:
            try:
                found = self.read(step, like)
            except Exception as error:  # orbax and tensorstore raise whatever they stumble upon
                reasons[step] = str(error).splitlines()[0]
            else:
                self.set_aside(reasons)
                return found
        if steps:
            raise ValueError(
                f"{self.folder}: no checkpoint can be read; all are damaged or of other settings "
                f"({reasons[steps[0]]}). Remove the folder to start anew"
            )
        return like

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """Puts damaged checkpoints where the manager does not look, so that training goes on."""
        for step, reason in reasons.items():
            damaged = self.folder.with_name(f"damaged-{step}")
            log.warning("%s: damaged, moved to %s: %s", self.folder / str(step), damaged, reason)
            by_first(functools.partial(replace_folder, self.folder / str(step), damaged))
        if reasons:
            self.manager.reload()

    def read(self, step: int, like: Saved) -> Saved:
        """One checkpoint, with its arrays where those of `like` are."""
        import orbax.checkpoint as ocp

        target, _ = to_arrays(like)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        items = {"arrays": ocp.args.StandardRestore(target), "numbers": ocp.args.JsonRestore()}
        found = self.manager.restore(step, args=ocp.args.Composite(**items))
        arrays, numbers = found["arrays"], found["numbers"]
        if checksum(arrays, numbers) != numbers.pop("checksum"):
            raise ValueError("it is not what was saved")
        return from_arrays(arrays, numbers, like)


def replace_folder(folder: Path, target: Path) -> None:
    """Moves a folder to where another one may be, which is removed."""
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def forget_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a finished run, which are three times the size of its model."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def to_arrays(saved: Saved) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tree of arrays, in which a random key becomes its bits, and plain numbers."""
    state, best = saved.state, saved.best
    arrays = {name: getattr(state, name) for name in ARRAYS}
    arrays |= {"key": jax.random.key_data(state.key), "best": best.params}
    numbers = {"step": int(state.step), "score": best.score, "at": best.at, "waited": best.waited}
    return arrays, numbers | {"history": list(saved.history), "window": asdict(saved.window)}


def from_arrays(arrays: dict[str, Any], numbers: dict[str, Any], like: Saved) -> Saved:
    """The inverse of `to_arrays`; the schedule is that of `like`."""
    fields = {name: arrays[name] for name in ARRAYS}
    key = jax.random.wrap_key_data(arrays["key"])
    best = Best(arrays["best"], numbers["score"], numbers["at"], numbers["waited"])
    history, window = tuple(numbers["history"]), Measured(**numbers["window"])
    return Saved(replace(like.state, key=key, **fields), best, history, window)


def checksum(arrays: PyTree, numbers: Mapping[str, Any]) -> int:
    """A number that changes with any bit of the arrays, and not with how devices share them; and
    with any of the other numbers.

    Every device adds up its own words, each times an odd number of its place in the whole; addition
    that wraps around comes to the same in any order.
    """
    plain = {name: x for name, x in numbers.items() if name != "checksum"}
    leaves = jax.tree.leaves(arrays)
    sums = [[mixed(part.data, *place_of(part, x)) for part in own_parts(x)] for x in leaves]
    totals = np.array([sum(map(int, parts)) % 2**32 for parts in jax.device_get(sums)], np.uint32)
    if jax.process_count() > 1:
        totals = multihost_utils.process_allgather(totals).sum(0, dtype=np.uint32)
    return zlib.crc32(totals.tobytes(), zlib.crc32(json.dumps(plain, sort_keys=True).encode()))


def own_parts(x: jax.Array) -> list[jax.Shard]:
    """The parts of an array on this process's devices, without copies of parts elsewhere."""
    return [part for part in x.addressable_shards if part.replica_id == 0]


def place_of(part: jax.Shard, x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where a part begins in its array, and how far apart neighbours on each axis are there."""
    begins = [along.indices(size)[0] for along, size in zip(part.index, x.shape, strict=True)]
    strides = [math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim)]
    return np.array(begins, np.uint32), np.array(strides, np.uint32)


@jax.jit
def mixed(part: Array, begins: Array, strides: Array) -> Array:
    """The sum of an array's words, each times an odd number of its place."""
    words = jax.lax.bitcast_convert_type(part, jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place += (begins[axis] + along) * strides[axis]
    return (words * (2 * place + 1)).sum(dtype=jnp.uint32)
