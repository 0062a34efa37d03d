"""What a recipe's parts refuse to be, before anything is loaded."""

from dataclasses import replace
from typing import Any

import pytest

from effjax.distill import SoftTargets, Weighted
from effjax.recipe import Finetuning, Search, Stage, Student
from effjax.train import Mesh, Training
from tests.recipe.small_pruning import RECIPE as PRUNING
from tests.recipe.test_distillation import RECIPE, distilled
from tests.recipe.test_pretraining import MASKED_LM


def test_students_on_several_devices_run_one_by_one() -> None:
    with pytest.raises(ValueError, match="students that run together do so on one device"):
        replace(RECIPE, seeds_run="together", mesh=Mesh(fsdp=2))


def test_methods_have_names_and_epochs_of_their_own() -> None:
    soft = Weighted(soft=(1.0, SoftTargets()))
    (method,) = distilled(soft)
    for names in ((), ("soft", "soft"), ("soft", "control")):
        with pytest.raises(ValueError, match="expected one or more, each of its own name"):
            replace(RECIPE, methods=tuple(replace(method, name=name) for name in names))
    stage = Stage(name="layers", objective=soft, epochs=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match=r"'distilled': its stages take 1 epochs .* leave none"):
        replace(RECIPE, methods=distilled(soft, stage))
    with pytest.raises(ValueError, match=r"its stages are named layers, layers; expected a name"):
        replace(RECIPE, methods=distilled(soft, stage, stage))


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"learning_rate": 0.0}])
def test_a_stage_trains(changes: dict) -> None:
    given = {"epochs": 1, "learning_rate": 1e-3} | changes
    with pytest.raises(ValueError, match=r"stage 'layers': .* expected 1 or more, and a number"):
        Stage(name="layers", objective=Weighted(soft=(1.0, SoftTargets())), **given)


FINETUNING = Finetuning(
    task="toy/sentiment", splits=("validation",), source="somewhere", training=Training()
)


@pytest.mark.parametrize("recipe", [FINETUNING, RECIPE, PRUNING])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "seeds are none; expected one or more, each once"),
        ({"seeds": (0, 1, 0)}, "seeds are 0, 1, 0; expected one or more, each once"),
        ({"splits": ()}, "splits are none; expected one or more, each once"),
        ({"splits": ("test", "test")}, "splits are test, test; expected one or more, each once"),
    ],
)
def test_each_seed_and_split_is_there_once(recipe: Any, changes: dict, message: str) -> None:
    alone = recipe if recipe is FINETUNING else replace(recipe, held_out=0)
    with pytest.raises(ValueError, match=message):
        replace(alone, **changes)


@pytest.mark.parametrize("recipe", [RECIPE, PRUNING])
def test_what_is_held_out_may_be_all_that_is_evaluated(recipe: Any) -> None:
    assert replace(recipe, splits=(), held_out=8).splits == ()


@pytest.mark.parametrize("steps", [0, -5])
def test_steps_are_above_0(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {steps}; it must be above 0"):
        replace(MASKED_LM, steps=steps)
    with pytest.raises(ValueError, match=f"steps is {steps}; it must be above 0"):
        Search(learning_rates=(1e-3, 1e-4), steps=steps, validation=8)


@pytest.mark.parametrize("given", [{}, {"layers": (0,), "source": "somewhere"}])
def test_a_student_is_one_thing(given: dict) -> None:
    with pytest.raises(ValueError, match="expected one"):
        Student(name="odd", **given)


def test_a_width_is_of_the_teachers_layers() -> None:
    with pytest.raises(ValueError, match="'odd' has hidden 8 and no layers"):
        Student(name="odd", source="somewhere", hidden=8)
