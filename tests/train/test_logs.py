"""A run's metrics are written once each, whatever happens to the run."""

import importlib.util
import json
import logging
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from effjax.train.logs import (
    History,
    Logs,
    TensorBoard,
    WeightsAndBiases,
    open_logs,
    read_history,
    without_speed,
)


def values_at(step: int) -> dict[str, float]:
    return {"loss": 3.0 / step, "grad_norm": 0.1 * step}


def train(logs: History | Logs, start: int, end: int, speed: float = 1000.0) -> None:
    """Writes as a training does: a window every 10 steps, an evaluation every 20."""
    for step in range(start + 10, end + 1, 10):
        logs.write(step, {**values_at(step), "speed/tokens_per_second": speed + step})
        if step % 20 == 0:
            logs.write(step, {"validation/accuracy": step / 100})


def text_of(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


def test_a_record_is_one_flat_line_and_is_there_at_once(tmp_path: Path) -> None:
    history = History(tmp_path / "new")
    history.write(10, {"loss": 0.5})
    assert text_of(tmp_path / "new") == '{"step": 10, "loss": 0.5}\n'
    assert read_history(tmp_path / "new") == [{"step": 10, "loss": 0.5}]
    history.close()


@pytest.mark.parametrize("torn", ["", '{"step": 60, "lo', '{"step": 60, "loss": 0.05}'])
def test_an_interrupted_history_equals_the_uninterrupted_one(tmp_path: Path, torn: str) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    history = History(whole)
    train(history, 0, 80)
    history.close()

    history = History(resumed)
    train(history, 0, 50, speed=7.0)
    history.close()
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write(torn)
    saved = read_history(resumed)[:3]  # in the newest checkpoint
    history = History(resumed, saved)
    assert read_history(resumed) == saved
    train(history, 20, 80, speed=9.0)
    history.close()

    assert read_history(whole) != read_history(resumed)
    assert without_speed(read_history(whole)) == without_speed(read_history(resumed))
    assert sorted(path.name for path in resumed.iterdir()) == ["metrics.jsonl"]


def test_a_run_that_begins_again_keeps_nothing(tmp_path: Path) -> None:
    history = History(tmp_path)
    train(history, 0, 50)
    history.close()
    History(tmp_path).close()
    assert read_history(tmp_path) == []


def test_a_history_with_nothing_to_cut_is_not_rewritten(tmp_path: Path) -> None:
    history = History(tmp_path)
    train(history, 0, 50)
    history.close()
    before = (tmp_path / "metrics.jsonl").stat().st_ino, text_of(tmp_path)
    History(tmp_path, read_history(tmp_path)).close()
    assert before == ((tmp_path / "metrics.jsonl").stat().st_ino, text_of(tmp_path))


def test_a_history_that_was_lost_comes_back(tmp_path: Path) -> None:
    history = History(tmp_path)
    train(history, 0, 50)
    history.close()
    saved, before = read_history(tmp_path), text_of(tmp_path)
    for damaged in ("", "what is no record\n", before[:40]):
        (tmp_path / "metrics.jsonl").write_text(damaged)
        History(tmp_path, saved).close()
        assert text_of(tmp_path) == before


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}')
    assert read_history(tmp_path) == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"\0\0", b"\xff", b'{"loss": 1.0}', b'{"step": 1.5}', b'{"step": 1, "a": null}'],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n' + line + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: expected an object"):
        read_history(tmp_path)


def test_values_that_are_not_finite_are_strict_json_and_come_back(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-300})
    history.close()
    assert json.loads(text_of(tmp_path), parse_constant=pytest.fail)["c"] == "-inf"
    (record,) = read_history(tmp_path)
    assert math.isnan(record.pop("a"))
    assert record == {"step": 1, "b": math.inf, "c": -math.inf, "d": 1e-300}


def test_a_metric_cannot_pose_as_the_step(tmp_path: Path) -> None:
    history = History(tmp_path)
    with pytest.raises(ValueError, match="another name"):
        history.write(1, {"step": 2.0})
    history.close()


class Remembered:
    """A sink that keeps what it is given, and may fail to close."""

    def __init__(self, error: Exception | None = None) -> None:
        self.records: list[tuple[int, dict[str, float]]] = []
        self.error, self.closed = error, False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.records.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True
        if self.error:
            raise self.error


def test_logs_write_to_every_sink_and_close_all_of_them() -> None:
    sinks = Remembered(OSError("full")), Remembered(), Remembered(OSError("full"))
    with pytest.raises(OSError, match="full"), Logs(sinks) as logs:
        logs.write(3, {"loss": 1.0})
    assert all(sink.records == [(3, {"loss": 1.0})] and sink.closed for sink in sinks)


def events(folder: Path) -> Iterator[Any]:
    """Every event of every file, as TensorBoard reads them: TFRecords of protocol buffers."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    for path in sorted((folder / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The points that TensorBoard shows: a start of a session drops those from its step on."""
    points: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            points = {k: [p for p in v if p[0] < event.step] for k, v in points.items()}
        for value in event.summary.value:
            points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


@pytest.fixture
def tensorboard() -> None:
    # Not importorskip, which would import torch with it.
    if importlib.util.find_spec("tensorboardX") is None:
        pytest.skip("tensorboardX is not installed")


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_shows_each_point_once_after_a_resume(tmp_path: Path) -> None:
    with open_logs(tmp_path, start=0) as logs:
        train(logs, 0, 50)
    with open_logs(tmp_path, start=20, begun=read_history(tmp_path)[:3]) as logs:
        train(logs, 20, 60)
    found = shown(tmp_path)
    assert [step for step, _ in found["loss"]] == [10, 20, 30, 40, 50, 60]
    assert [value for _, value in found["loss"]] == pytest.approx(
        [3.0 / s for s in range(10, 61, 10)]
    )
    assert [step for step, _ in found["validation/accuracy"]] == [20, 40, 60]
    # Without the purge there would have been more.
    assert sum(event.step == 30 for event in events(tmp_path)) > 3
    assert [record["step"] for record in read_history(tmp_path)][:4] == [10, 20, 20, 30]


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_takes_values_that_are_not_finite(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, start=0)
    sink.write(1, {"loss": math.nan})
    sink.close()
    assert math.isnan(shown(tmp_path)["loss"][0][1])


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_can_be_watched_and_loses_nothing_when_killed(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, start=0)
    for step in (1, 2):
        sink.write(step, {"loss": 1.0})
        assert len(shown(tmp_path)["loss"]) == step
    sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.usefixtures("tensorboard")
def test_a_full_disk_is_an_error_that_names_the_file_and_nobody_waits(tmp_path: Path) -> None:
    history, tensorboard = History(tmp_path), TensorBoard(tmp_path, start=0)
    history.file.close()
    tensorboard.file.close()
    full = Path("/dev/full")
    with full.open("a") as history.file, full.open("wb") as tensorboard.file:
        for sink in (history, tensorboard):
            for step in range(1, 31):
                with pytest.raises(OSError, match=f"No space left on device: '{sink.path}'"):
                    sink.write(step, {"loss": 1.0})
            with pytest.raises(OSError, match=f"No space left on device: '{sink.path}'"):
                sink.close()


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_does_not_bring_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    loaded = [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]
    for name in ("torch", *loaded):  # whatever is there comes back after the test
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    TensorBoard(tmp_path, start=0).close()
    assert "tensorboardX" in sys.modules and "torch" not in sys.modules
    importlib.import_module("torch")  # hidden only for a moment


def test_without_tensorboardx_there_is_one_line_for_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with caplog.at_level(logging.DEBUG, "effjax"), open_logs(tmp_path, start=0) as logs:
        train(logs, 0, 20)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG and "no TensorBoard logs" in record.message
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert len(read_history(tmp_path)) == 3


class Wandb:
    """What is used of wandb, with a server that remembers the last step of each run."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.next: dict[str, int] = {}
        self.finished = 0

    def init(self, **arguments: Any) -> Any:
        self.begun.append(arguments)
        run = SimpleNamespace(step=self.next.get(arguments["id"], 0))

        def send(values: dict[str, float], *, step: int) -> None:
            assert step >= run.step, "W&B warns"
            run.step, self.next[arguments["id"]] = step, step + 1
            self.sent.append((step, values))

        def finish() -> None:
            self.finished += 1

        run.log, run.finish = send, finish
        return run


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    return fake


def test_weights_and_biases_is_only_told_when_asked(tmp_path: Path, wandb: Wandb) -> None:
    with open_logs(tmp_path, start=0) as logs:
        train(logs, 0, 20)
    assert not wandb.begun and not (tmp_path / "wandb.json").exists()


def test_a_resumed_run_is_the_same_run_on_weights_and_biases(tmp_path: Path, wandb: Wandb) -> None:
    folder = tmp_path / "seed-3"
    for start, end in ((0, 50), (20, 60)):
        with open_logs(folder, start=start, wandb_project="small") as logs:
            train(logs, start, end)
    first, second = wandb.begun
    assert first == second
    assert {k: v for k, v in first.items() if k != "id"} == {
        "project": "small",
        "resume": "allow",
        "name": "seed-3",
        "dir": str(folder),
    }
    assert [step for step, _ in wandb.sent] == [10, 20, 20, 30, 40, 40, 50, 60, 60]
    assert wandb.sent[2] == (20, {"validation/accuracy": 0.2})
    assert wandb.finished == 2


def test_a_run_from_the_beginning_is_a_new_one_there(tmp_path: Path, wandb: Wandb) -> None:
    for _ in range(2):
        WeightsAndBiases(tmp_path, project="small", start=0).close()
    first, second = (arguments["id"] for arguments in wandb.begun)
    assert first != second and json.loads((tmp_path / "wandb.json").read_text()) == {"id": second}


def test_missing_wandb_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ValueError, match=r"project 'small' need wandb: pip install 'effjax\[track\]'"
    ):
        open_logs(tmp_path, start=0, wandb_project="small")
