"""A run that is killed, interrupted or damaged goes on to the same bits."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model
from effjax.train import Training, fit, step
from effjax.train.checkpoint import Checkpoints
from effjax.train.fitting import Fit
from effjax.train.logs import read_history, without_speed
from effjax.train.loop import Progress
from effjax.train.run_folder import Interrupted, hold
from effjax.tree import flatten
from effjax.types import Aux
from tests.train.small_run import small_data

SCRIPT = Path(__file__).with_name("small_run.py")
Process = subprocess.Popen[str]
TASK = Weighted(task=(1.0, TaskLoss()))
TRAINING = Training(epochs=3, batch_size=16, learning_rate=1e-2, save_every=4)


def same(a: Model, b: Model) -> bool:
    x, y = flatten(a.params), flatten(b.params)
    return all(np.array_equal(x[path], y[path]) for path in x)


def at_step(number: int, act: Callable[[], None]) -> Progress:
    """A progress callback that acts at the first look at or after a step."""

    def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        if step >= number:
            act()

    return progress


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    """That of small_run.py."""
    return small_data(70)


@pytest.fixture(scope="module")
def whole(model: Model, encoded: Encoded, tmp_path_factory: pytest.TempPathFactory):
    """A run of 15 steps that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(model, encoded, TASK, TRAINING, seed=1, folder=folder), folder


def test_sigterm_is_heard_until_all_is_saved(
    model: Model, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the last checkpoint is waited for; nothing is lost, nothing else is begun."""
    left = Checkpoints.__exit__

    def leave(checkpoints: Checkpoints, *error: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        left(checkpoints, *error)

    monkeypatch.setattr(Checkpoints, "__exit__", leave)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody listens"))
    try:
        with pytest.raises(Interrupted) as ended:
            fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.step == 15 and (tmp_path / "checkpoints" / "15").is_dir()


@pytest.mark.parametrize(("look", "saved"), [(5, 6), (15, 15)])
def test_sigterm_saves_and_the_run_goes_on(
    model: Model, encoded: Encoded, tmp_path: Path, whole, look: int, saved: int
) -> None:
    """The signal comes in the look at step 5, and what is saved is step 6, no multiple of 4; or in
    the last one, and whatever comes after this training is not begun.
    """
    before = signal.getsignal(signal.SIGTERM)
    progress = at_step(look, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as ended:
        fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path, progress=progress)
    assert (ended.value.code, ended.value.step) == (143, saved)
    assert (tmp_path / "checkpoints" / str(saved)).is_dir()
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    assert same(resumed.model, whole[0].model)
    history = without_speed(read_history(tmp_path))
    assert history == without_speed(read_history(whole[1]))


def test_a_finished_run_has_its_history_and_loss(
    model: Model, encoded: Encoded, tmp_path: Path, whole
) -> None:
    """All that it was is in its checkpoint; nothing of it hangs on the file of metrics."""
    fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    again = fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    assert (again.steps, again.loss) == (15, whole[0].loss)
    assert without_speed(read_history(tmp_path)) == without_speed(read_history(whole[1]))


def test_the_history_of_a_cut_run_is_that_of_a_whole_one(
    model: Model, encoded: Encoded, tmp_path: Path, whole
) -> None:
    """Cut at step 10, after the checkpoint of step 8, whose later records are written anew."""

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path, progress=at_step(10, stop))
    assert [r["step"] for r in read_history(tmp_path)] == [4, 5, 8, 10]
    resumed = fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    assert same(resumed.model, whole[0].model)
    history = without_speed(read_history(tmp_path))
    assert history == without_speed(read_history(whole[1]))
    assert [record["step"] for record in history] == [4, 5, 8, 10, 12, 15]


MORE = replace(TRAINING, ema=0.9, skip_spikes=1.2, micro_batches=2, layout="padded")
EARLY = replace(MORE, epochs=5, optimizer="lamb", patience=2)


@pytest.mark.parametrize(("training", "look"), [(MORE, 10), (EARLY, 15)])
def test_averages_spikes_and_patience_go_on_too(
    model: Model,
    encoded: Encoded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: Training,
    look: int,
) -> None:
    """Scores fall with every epoch, so that the best model is that of step 5, and patience ends
    with step 15. What is cut in a look goes on from the step 8 or 12 before it.
    """
    monkeypatch.setattr(step, "SETTLED", 5)
    before = flatten(jax.tree.map(np.array, model.params))

    def evaluation(found: Model, aux: Aux) -> dict[str, float]:
        moved = (np.square(x - before[path]).sum() for path, x in flatten(found.params).items())
        return {"nearness": -float(sum(moved))}

    def stop() -> None:
        raise KeyboardInterrupt

    def trained(folder: str, **more: Any) -> Fit:
        where: Any = {"seed": 1, "folder": tmp_path / folder, "evaluation": evaluation}
        return fit(model, encoded, TASK, training, **where, **more)

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("cut", progress=at_step(look, stop))
    resumed = trained("cut")
    assert (whole.steps, resumed.steps) == (15, 15)
    assert same(resumed.model, whole.model)
    history = without_speed(read_history(tmp_path / "whole"))
    assert repr(without_speed(read_history(tmp_path / "cut"))) == repr(history)  # with its nan
    assert sum(record.get("skipped", 0) for record in history) > 0


# Where one array cannot be read, orbax drops the reads of the others while they are under way.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    ["flipped", *(pytest.param(x, marks=pytest.mark.slow) for x in ("truncated", "missing"))],
)
def test_a_damaged_checkpoint_is_left_out_and_the_one_before_is_used(
    model: Model,
    encoded: Encoded,
    tmp_path: Path,
    whole,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["12", "15"]
    largest = max((folder / "15" / "arrays" / "d").iterdir(), key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    elif damage == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    else:
        largest.unlink()
    resumed = fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    gc.collect()
    assert f"{folder / '15'}: damaged, moved to {tmp_path / 'damaged-15'}" in caplog.text
    assert (tmp_path / "damaged-15" / "arrays").is_dir()
    assert same(resumed.model, whole[0].model)


def test_a_checkpoint_with_another_number_is_damaged(
    model: Model, encoded: Encoded, tmp_path: Path, whole, caplog: pytest.LogCaptureFixture
) -> None:
    """The best score and the history count as much as the arrays."""
    fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    numbers = tmp_path / "checkpoints" / "15" / "numbers" / "metadata"
    found = json.loads(numbers.read_text())
    numbers.write_text(json.dumps(found | {"waited": 1}))
    resumed = fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    assert "15: damaged, moved to" in caplog.text and "it is not what was saved" in caplog.text
    assert same(resumed.model, whole[0].model)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_checkpoints_of_other_settings_are_not_damaged(
    model: Model, encoded: Encoded, tmp_path: Path, whole
) -> None:
    """With a moving average a checkpoint has more arrays; the ones that are there stay."""
    options: Any = {"seed": 1, "folder": tmp_path, "accept_changes": True}
    fit(model, encoded, TASK, TRAINING, **options)
    with pytest.raises(ValueError, match="no checkpoint can be read; all are damaged or of other"):
        fit(model, encoded, TASK, replace(TRAINING, ema=0.5), **options)
    gc.collect()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["12", "15"]
    assert same(fit(model, encoded, TASK, TRAINING, **options).model, whole[0].model)


def test_a_folder_in_use_is_refused(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    with (
        hold(tmp_path),
        pytest.raises(ValueError, match="another run is writing here"),
    ):
        fit(model, encoded, TASK, TRAINING, seed=1, folder=tmp_path)
    with hold(tmp_path):
        pass


def same_arrays(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits."""
    found, wanted = (np.load(folder / "params.npz") for folder in (one, other))
    return all(np.array_equal(found[path], wanted[path]) for path in wanted)


def started(folder: Path, options: Mapping[str, Any]) -> Process:
    """The small run as a process."""
    command = [sys.executable, str(SCRIPT), str(folder), "1", json.dumps(options)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)


def run(folder: Path, options: Mapping[str, Any]) -> tuple[int, str]:
    """The exit code and the errors of the small run, left alone."""
    with started(folder, options) as process:
        _, errors = process.communicate()
    return process.returncode, errors


def next_step(process: Process) -> int:
    """The number of the next step that a small run has done."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return int(line.split()[0])


def killed(folder: Path, options: Mapping[str, Any], when: Callable[[Process], None]) -> int:
    """Kills the small run some time after its first new step, which is returned.

    Args:
        when: waits for that time.
    """
    with started(folder, options) as process:
        first = next_step(process)
        when(process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return first


UNFINISHED = "checkpoints/*.orbax-checkpoint-tmp"
"""Checkpoints that are being written, or were when a run was killed."""


def test_kill_9_in_a_save_and_after_it_changes_no_bit(
    model: Model, encoded: Encoded, tmp_path: Path, whole
) -> None:
    """The first time while the second checkpoint is written: the next run goes on with the first.
    That one is killed three steps later, and what is left is done here.
    """
    options = {"training": asdict(TRAINING), "seed": 1, "slow": (0, 0.05)}
    second = tmp_path / UNFINISHED.replace("*", "8")

    def in_save(process: Process) -> None:
        while process.poll() is None and not second.exists():
            process.send_signal(signal.SIGCONT)
            time.sleep(0.001)
            process.send_signal(signal.SIGSTOP)  # or the save might end between look and kill

    def later(process: Process) -> None:
        for _ in range(3):
            next_step(process)

    assert killed(tmp_path, options, in_save) == 1
    assert killed(tmp_path, options, later) == 5
    looks = []
    what: Any = {"seed": 1, "folder": tmp_path, "progress": lambda *look: looks.append(look[0])}
    resumed = fit(model, encoded, TASK, TRAINING, **what)
    assert looks[0] > 4
    assert same(resumed.model, whole[0].model)


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_no_bit(tmp_path: Path) -> None:
    """20 times over 300 steps with a save after every second one, so that many fall into a save."""
    options, folder = {"training": {"epochs": 60}}, tmp_path / "killed"
    code, errors = run(tmp_path / "whole", options)
    assert code == 0, errors
    moments, begins, in_save = random.Random(20), [], 0

    def at_random(process: Process) -> None:
        for _ in range(moments.randrange(20)):
            next_step(process)
        time.sleep(moments.uniform(0, 0.05))

    def unfinished() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_ino) for path in folder.glob(UNFINISHED)}

    for _ in range(20):
        before = unfinished()
        begins.append(killed(folder, options | {"slow": (0, 0.02)}, at_random))
        in_save += bool(unfinished() - before)
    assert in_save >= 1
    assert begins == sorted(begins) and begins[-1] > 50
    code, errors = run(folder, options)
    assert code == 0, errors
    assert same_arrays(folder, tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files, from step 20 on, stands in for the disk; logs stay below it."""
    code, errors = run(tmp_path / "full", {"file_limit": (20, 20_000)})
    assert code == 1
    assert "a checkpoint could not be written, the one before is kept" in errors
    assert run(tmp_path / "full", {})[0] == run(tmp_path / "whole", {})[0] == 0
    assert same_arrays(tmp_path / "full", tmp_path / "whole")
