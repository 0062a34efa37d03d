"""A folder belongs to the settings that it was begun with."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from effjax.distill import TaskLoss, Weighted
from effjax.train import Training, fit, fit_together
from effjax.train.claim import claim, earlier, original
from tests.train.small_run import small_data, small_model


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run" / "training.json"
    for _ in range(2):
        claim(path, {"training": Training(), "layers": (1, 2)})
    assert json.loads(path.read_text())["training"]["type"] == "Training"


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    claim(path, {"training": Training(epochs=2), "layers": (1, 2)})
    before = path.read_text()
    other = {"training": replace(Training(epochs=3), dtype="bfloat16"), "layers": (1, 2, 5)}
    shown = "training.epochs: 2 -> 3; training.dtype: float32 -> bfloat16; layers.2: none -> 5. "
    with pytest.raises(
        ValueError, match=re.escape(f"{tmp_path} was begun with other settings: ") + shown
    ):
        claim(path, other)
    assert path.read_text() == before
    many = {f"field_{i}": i for i in range(9)}
    with pytest.raises(ValueError, match=r"and \d+ more\. Choose another folder"):
        claim(path, many)


def test_accepted_changes_leave_the_old_settings_beside(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    for seed in (0, 1, 2):
        claim(path, {"seed": seed}, accept_changes=True)
    assert [json.loads(old.read_text())["seed"] for old in earlier(path)] == [0, 1]
    assert json.loads(path.read_text()) == {"seed": 2}
    assert original(path) == {"seed": 0}


@pytest.mark.parametrize("together", [False, True])
def test_a_training_does_not_go_on_from_another_start(tmp_path: Path, together: bool) -> None:
    """Which is told by a digest, and need not be: who gives none goes on as before."""
    model, objective = small_model(), Weighted(task=(1.0, TaskLoss()))
    other = model.replace(params=jax.tree.map(lambda x: 2 * x, model.params))

    def run(begun: str | None, **how: Any) -> None:
        what = (small_data(), objective, Training(batch_size=16))
        how |= {"folder": tmp_path / str(begun is None), "begun": begun, "steps": 1}
        if together:
            fit_together([model], *what, seeds=(0,), order=0, **how)
        else:
            fit(model, *what, seed=0, **how)

    for begun in (None, None, model.digest, model.digest):
        run(begun)
    differs = f"begun with other settings: begun: {model.digest} -> {other.digest}"
    with pytest.raises(ValueError, match=differs):
        run(other.digest)
    run(other.digest, accept_changes=True)
    assert original(tmp_path / "False" / "training.json")["begun"] == model.digest
