"""What a training run writes down while it goes: JSON lines always, TensorBoard and W&B beside.

`metrics.jsonl` is the history of a run, one flat object per record:

    {"step": 150, "loss": 0.231, "grad_norm": 1.9, "speed/tokens_per_second": 41200.0}
    {"step": 150, "validation/accuracy": 0.912, "validation/loss": 0.26}

* A training window is named plainly, an evaluation `set/metric`. Names are the same in every sink.
* What depends on the clock is named `speed/...`. All else is the same in two runs of one recipe on
  one machine, so `without_speed` makes histories comparable. A flat prefix rather than a nested
  object, since TensorBoard and W&B group by prefixes, and every record is a row of a table.
* JSON has no numbers that are not finite. They are the strings "nan", "inf" and "-inf", which keep
  apart what null would mix, and which `float` reads in most languages.

A checkpoint holds the history up to its step. A run that goes on from it has that history, whatever
the file has come to since.
"""

import json
import logging
import math
import secrets
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from effjax.files import atomic_file, write_json

log = logging.getLogger("effjax")

FILE = "metrics.jsonl"
SPEED = "speed/"
"""What names of metrics begin with that depend on the clock."""

Record = dict[str, int | float]
"""`step`, a whole number, and metrics by name, each a float."""


@runtime_checkable
class Sink(Protocol):
    """Where metrics go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one record; steps never fall from one call to the next."""
        ...

    def close(self) -> None:
        """Ends the writing; nothing is lost after it."""
        ...


class History:
    """`metrics.jsonl` in the folder of a run.

    Each record is handed to the system at once, so a killed process loses none.
    """

    def __init__(self, folder: Path, begun: Sequence[Record] = ()) -> None:
        """Args: begun, the records so far of the run; the file then has these alone."""
        folder.mkdir(parents=True, exist_ok=True)
        path, lines = folder / FILE, "".join(map(_to_line, begun))
        if not path.exists() or path.read_bytes() != lines.encode():
            with atomic_file(path) as partial:
                partial.write_text(lines, encoding="ascii")
        self.path, self.file = path, path.open("a", encoding="ascii")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with _naming(self.path):
            self.file.write(_to_line(to_record(step, values)))
            self.file.flush()

    def close(self) -> None:
        with _naming(self.path):
            self.file.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What cannot be written to an open file is an error that does not name it, until here."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_history(folder: Path) -> list[Record]:
    """The records of a run in the order of writing, also while it is still going.

    Raises:
        ValueError: the file holds a line that is no record.
    """
    path = folder / FILE
    # What follows the last newline was torn by a kill, or is being written.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_from_line(line, path, row) for row, line in enumerate(lines, 1)]


def without_speed(history: Sequence[Record]) -> list[Record]:
    """The records without what depends on the clock."""
    return [{k: v for k, v in record.items() if not k.startswith(SPEED)} for record in history]


def to_record(step: int, values: Mapping[str, float]) -> Record:
    """What a run measured at a step.

    Raises:
        ValueError: a metric is called "step".
    """
    if "step" in values:
        raise ValueError("metrics: 'step' is the number of the step; give the metric another name")
    return {"step": step, **{name: float(value) for name, value in values.items()}}


def _to_line(record: Record) -> str:
    safe = {name: x if math.isfinite(x) else str(x) for name, x in record.items()}
    return json.dumps(safe, allow_nan=False) + "\n"


def _from_line(line: bytes, path: Path, row: int) -> Record:
    try:
        found = json.loads(line)
        step = found.pop("step")
        if type(step) is not int:
            raise TypeError
        return {"step": step, **{name: float(value) for name, value in found.items()}}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path}, line {row}: expected an object with a whole 'step' and numbers, "
            f"not {line[:60].decode('utf-8', 'replace')!r}"
        ) from None


class TensorBoard:
    """Event files in `tensorboard/`, for `tensorboard --logdir`.

    Each record is in the file at once, and what cannot be written is an error at once. The writer
    that tensorboardX has for this leaves it to a thread, which a full disk ends without a word:
    whoever gave it more would wait for ever.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        with _torch_hidden():
            from tensorboardX import record_writer, summary
            from tensorboardX.proto import event_pb2

        events: Any = event_pb2  # whose classes are made as it is imported
        self.event, self.scalar = events.Event, summary.scalar
        self.checksum = record_writer.masked_crc32c
        # Readers take files in the order of their names. One that is opened within the same second
        # would be overwritten without the number of steps.
        name = f"events.out.tfevents.{time.time():.0f}.{start:09d}"
        self.path = folder / "tensorboard" / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("wb")
        # A reader drops the points from this step on that an earlier file holds.
        begin = events.SessionLog(status=events.SessionLog.START)
        self._add({"file_version": "brain.Event:2"}, {"step": start + 1, "session_log": begin})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        points = (self.scalar(name, value) for name, value in values.items())
        self._add(*({"step": step, "summary": point} for point in points))

    def _add(self, *events: Mapping[str, Any]) -> None:
        """Adds events as TFRecords: the length and the bytes, each with its checksum."""
        now = time.time()
        with _naming(self.path):
            for fields in events:
                data = self.event(wall_time=now, **fields).SerializeToString()
                for part in (struct.pack("<Q", len(data)), data):
                    self.file.write(part + struct.pack("<I", self.checksum(part)))
            self.file.flush()

    def close(self) -> None:
        with _naming(self.path):
            self.file.close()


@contextmanager
def _torch_hidden() -> Iterator[None]:
    # tensorboardX imports torch where it is installed, to name a type: seconds of every start and
    # hundreds of megabytes, in a library that trains without torch.
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        if hide:
            del sys.modules["torch"]


class WeightsAndBiases:
    """A run on Weights & Biases, continued after an interruption.

    W&B cannot take points back: those that a killed run sent after its last checkpoint stay, and
    the resumed run, which comes to the same numbers, does not send them again.
    """

    def __init__(self, folder: Path, *, project: str, start: int) -> None:
        """Args: start, steps that the run has done; at 0 it is a new run on W&B.

        Raises:
            ValueError: wandb is not installed.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise ValueError(
                f"logs for the Weights & Biases project {project!r} need wandb: "
                f"pip install 'effjax[track]' ({error})"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=project,
            id=_run_id(folder / "wandb.json", start),
            resume="allow",
            name=folder.absolute().name,
            dir=str(folder.absolute()),
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        # W&B would ignore a step that it has, with a warning each time, across the progress bar.
        if step >= self.run.step:
            self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


def _run_id(path: Path, start: int) -> str:
    """The id that W&B knows this run by; a new one for a run that begins."""
    if start and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))["id"]
    found = secrets.token_hex(4)
    write_json(path, {"id": found})
    return found


@dataclass(frozen=True)
class Logs:
    """Writes every record to all its sinks; a context manager. `Logs(())` writes nothing."""

    sinks: tuple[Sink, ...]

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.write(step, values)

    def close(self) -> None:
        """Closes every sink, also where closing another fails."""
        with ExitStack() as stack:
            for sink in self.sinks:
                stack.callback(sink.close)


def open_logs(
    folder: Path, *, start: int, begun: Sequence[Record] = (), wandb_project: str | None = None
) -> Logs:
    """The logs of a run: JSON lines, TensorBoard where tensorboardX is installed, W&B if asked for.

    Args:
        folder: the run's; for `metrics.jsonl`, `tensorboard/`, and `wandb/` with `wandb.json`.
        start: steps that the run has done: 0, or those of the checkpoint that it goes on from.
        begun: the records of these steps.
        wandb_project: the project on Weights & Biases; None for no logs there.

    Raises:
        ValueError: wandb is not installed.
    """
    sinks: list[Sink] = []
    try:
        sinks.append(History(folder, begun))
        try:
            sinks.append(TensorBoard(folder, start=start))
        except ModuleNotFoundError as error:
            log.debug("no TensorBoard logs: %s", error)
        if wandb_project is not None:
            sinks.append(WeightsAndBiases(folder, project=wandb_project, start=start))
    except BaseException:
        Logs(tuple(sinks)).close()
        raise
    return Logs(tuple(sinks))
