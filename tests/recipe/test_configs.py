"""Every config names splits that its task has, learns its logits as they are, and its fields can be
set.
"""

import runpy
from pathlib import Path

import pytest

from effjax.data import get_task
from effjax.data.kinds import KINDS
from effjax.overrides import flatten

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_names_splits_that_its_task_has(file: Path) -> None:
    recipe = runpy.run_path(str(file))["recipe"]
    task = getattr(recipe, "task", None)
    if isinstance(task, str):
        assert set(recipe.splits) <= set(get_task(task).splits)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_soft_targets_are_over_positions_for_answers_alone(file: Path) -> None:
    recipe = runpy.run_path(str(file))["recipe"]
    task = getattr(recipe, "task", None)
    answers = isinstance(task, str) and KINDS[get_task(task).kind].head == "question-answering"
    found = {leaf.value for name, leaf in flatten(recipe).items() if name.endswith(".over")}
    assert found <= {"positions" if answers else "classes"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_field_of_a_config_has_a_name_of_its_own(file: Path) -> None:
    assert flatten(runpy.run_path(str(file))["recipe"])
