"""Overrides: every field has a name, values follow the annotated types, mistakes are named."""

import dataclasses
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from effjax.overrides import describe, flatten, override


class Kernel(enum.Enum):
    TEXTBOOK = 1
    LATE = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soft:
    """Soft targets.

    Args:
        temperature: Divides the logits of both.
    """

    temperature: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hint:
    layers: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Term:
    name: str
    weight: float
    objective: Any


@dataclasses.dataclass(frozen=True)
class Weighted:
    terms: tuple[Term, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """How to train.

    Attributes:
        learning_rate: At the peak.
    """

    learning_rate: float = 1e-4
    steps: int = 10  # how many updates
    packed: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["linear", "cosine"] = "linear"
    kernel: Kernel = Kernel.LATE
    limit: int | None = None
    seed: int | str = 0
    loss: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class Part:
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student:
    name: str
    layers: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    train: Train = Train()
    objective: Weighted = Weighted((Term("soft", 5.0, Soft()), Term("hint", 1.0, Hint())))
    parts: tuple[Part, ...] = (Part(1), Part(2))
    students: tuple[Student, ...] = (Student(name="3 layers", layers=(0, 2, 4)),)
    folder: Path = Path("data")
    derived: int = dataclasses.field(init=False, default=7)


RECIPE = Recipe()


def value(*arguments: str) -> Any:
    """The one field that an override changed."""
    before, after = flatten(RECIPE), flatten(override(RECIPE, arguments))
    (name,) = (name for name in before if before[name].value != after[name].value)
    return after[name].value


def test_every_field_has_one_name() -> None:
    assert list(flatten(RECIPE)) == [
        "train.learning-rate",
        "train.steps",
        "train.packed",
        "train.betas",
        "train.schedule",
        "train.kernel",
        "train.limit",
        "train.seed",
        "train.loss",
        "objective.soft.weight",
        "objective.soft.temperature",
        "objective.hint.weight",
        "objective.hint.layers",
        "parts.0.size",
        "parts.1.size",
        "students.3-layers.layers",
        "folder",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--train.learning-rate 3e-5", 3e-5),
        ("--train.learning_rate=3e-5", 3e-5),
        ("--train.steps 1_000", 1000),
        ("--train.packed true", True),
        ("--train.betas 0.8 -0.5", (0.8, -0.5)),
        ("--train.schedule cosine", "cosine"),
        ("--train.kernel TEXTBOOK", Kernel.TEXTBOOK),
        ("--train.limit 3", 3),
        ("--train.seed 3", 3),
        ("--train.seed three", "three"),
        ("--objective.soft.weight 3", 3.0),
        ("--objective.soft.temperature 4", 4.0),
        ("--objective.hint.layers 0 2 4", (0, 2, 4)),
        ("--objective.hint.layers", ()),
        ("--parts.1.size 5", 5),
        ("--students.3-layers.layers 1 3 5", (1, 3, 5)),
        ("--folder elsewhere/x", Path("elsewhere/x")),
    ],
)
def test_a_value_has_the_type_of_its_field(arguments: str, expected: Any) -> None:
    found = value(*arguments.split())
    assert found == expected and type(found) is type(expected)


def test_none_clears_an_optional_field() -> None:
    recipe = override(RECIPE, ["--train.limit", "3"])
    assert override(recipe, ["--train.limit", "none"]).train.limit is None


def test_what_is_not_named_stays_as_it_was() -> None:
    changed = override(RECIPE, ["--objective.soft.temperature", "4", "--train.steps", "3"])
    soft, hint = changed.objective.terms
    assert soft == Term("soft", 5.0, Soft(temperature=4.0)) and hint is RECIPE.objective.terms[1]
    assert changed.train == dataclasses.replace(RECIPE.train, steps=3)
    assert override(RECIPE, []) == RECIPE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--train.learnin-rate 1",
            r"unknown recipe field 'train.learnin-rate'; closest: train.learning-rate",
        ),
        ("--learning-rate 1", r"unknown recipe field .* closest: train.learning-rate"),
        ("--temperature 1", r"closest: objective.soft.temperature"),
        ("--objective.terms 1", r"unknown recipe field 'objective.terms'; closest: "),
        ("--train 1", r"unknown recipe field 'train'; closest: train."),
        ("--zzz 1", r"there are: train.learning-rate, train.steps, .*, folder$"),
        ("--derived 1", r"unknown recipe field 'derived'"),
        ("--train.steps 1.5", r"recipe field 'train.steps': expected INT, not '1.5'"),
        ("--train.steps", r"'train.steps': expected one value \(INT\)"),
        ("--train.steps 1 2", r"'train.steps': expected one value"),
        ("--train.packed yes", r"'train.packed': expected one of true, false, not 'yes'"),
        ("--train.betas 0.9", r"'train.betas': expected 2 values \(FLOAT FLOAT\)"),
        ("--train.schedule step", r"expected one of linear, cosine, not 'step'"),
        ("--train.kernel FAST", r"expected one of TEXTBOOK, LATE"),
        ("--train.limit x", r"'train.limit': expected INT or none, not 'x'"),
        ("--train.loss x", r"'train.loss': .*config file"),
        ("--objective.hint.layers 0 x", r"'objective.hint.layers': expected INT"),
        ("--train.steps 1 --train.steps 2", r"'train.steps' is given twice"),
        ("3 --train.steps 1", r"expected --FIELD before '3'"),
        ("--train.steps 0", r"steps is 0; it must be at least 1"),
    ],
)
def test_a_mistake_is_named_on_one_line(arguments: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        override(RECIPE, arguments.split())
    assert "\n" not in str(caught.value)


def test_what_shares_a_field_with_the_named_record_around_it_keeps_its_own_name() -> None:
    @dataclasses.dataclass(frozen=True)
    class Own:
        weight: float = 2.0

    terms = Weighted((Term("x", 1.0, Own()),))
    assert list(flatten(terms)) == ["x.weight", "x.objective.weight"]
    changed = override(terms, ["--x.objective.weight", "3"])
    assert changed == Weighted((Term("x", 1.0, Own(3.0)),))


def test_two_fields_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"both called 'x\.weight'"):
        flatten(Weighted((Term("x", 1.0, Soft()), Term("x", 2.0, Soft()))))


def test_help_has_every_field_with_its_default_and_documentation() -> None:
    text = describe(RECIPE)
    for leaf in flatten(RECIPE):
        assert f"--{leaf} " in text
    assert "--train.learning-rate FLOAT  (default: 0.0001)\n        At the peak." in text
    assert "--train.steps INT  (default: 10)\n        how many updates" in text
    assert "--objective.soft.temperature FLOAT  (default: 2.0)\n        Divides the logits" in text
    assert "--objective.hint.layers [INT ...]  (default: 1 2)" in text
    assert "--train.schedule linear|cosine  (default: linear)" in text
    assert "--train.limit INT|none  (default: none)" in text


def test_a_field_that_is_a_name_or_a_record_takes_overrides_as_either() -> None:
    from effjax.data import TextFiles
    from effjax.recipe import Finetuning
    from effjax.train import Training

    files = TextFiles(train="a.csv", text=("text",), label="label", labels=("bad", "good"))
    recipe = Finetuning(task=files, splits=("validation",), source="x", training=Training())
    changed = override(recipe, ["--task.train", "b.tsv", "--task.text", "x", "y", "--task.labels"])
    assert changed.task == dataclasses.replace(files, train="b.tsv", text=("x", "y"), labels=())
    text = describe(recipe)
    assert "--task.train TEXT  (default: a.csv)\n        File of the training split" in text
    assert "--task.validation TEXT|none  (default: none)" in text
    with pytest.raises(ValueError, match=r"unknown recipe field 'task'; closest: task\.train"):
        override(recipe, ["--task", "glue/sst2"])
    with pytest.raises(ValueError, match="columns"):
        override(recipe, ["--task.label", "text"])
    named = dataclasses.replace(recipe, task="glue/sst2")
    assert override(named, ["--task", "glue/mrpc"]).task == "glue/mrpc"
    assert "--task TEXT  (default: glue/sst2)" in describe(named)
    with pytest.raises(ValueError, match=r"'task\.train'; 'task' is one value here: glue/sst2"):
        override(named, ["--task.train", "b.csv"])


def test_the_points_of_a_weight_take_overrides() -> None:
    from effjax.distill import Piecewise, TaskLoss
    from effjax.distill import Weighted as LibraryWeighted

    start = LibraryWeighted(task=(Piecewise(points=((0.0, 1.0),)), TaskLoss()))
    assert "--task.points [FLOAT FLOAT ...]  (default: 0.0 1.0)" in describe(start)
    changed = override(start, ["--task.points", "0", "1", "0.5", "0"])
    assert changed.terms[0].weight == Piecewise(points=((0.0, 1.0), (0.5, 0.0)))
    with pytest.raises(ValueError, match=r"'task.points': expected 2 values \(FLOAT FLOAT\) each"):
        override(start, ["--task.points", "0", "1", "0.5"])


def test_the_objectives_of_the_library_take_overrides() -> None:
    from effjax.distill import SoftTargets, TaskLoss
    from effjax.distill import Weighted as LibraryWeighted

    start = LibraryWeighted(soft=(5.0, SoftTargets(temperature=2.0)), task=(1.0, TaskLoss()))
    changed = override(start, ["--soft.temperature", "4", "--task.weight", "0.5"])
    assert changed == LibraryWeighted(
        soft=(5.0, SoftTargets(temperature=4.0)), task=(0.5, TaskLoss())
    )
