"""The parts that a recipe is made of, and what all recipes say of their trainings."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from effjax.distill import TaskLoss, Weighted
from effjax.train import Mesh, Training
from effjax.train.fitting import FitOptions
from effjax.train.training import check_steps


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Where a teacher comes from; it is trained on the task before it teaches, unless it was.

    Attributes:
        name: what objectives and tables call it.
        source: a Hugging Face hub id or folder; None trains a new BERT of the shape below, with a
            WordPiece vocabulary trained on the task's texts.
        fine_tuned: whether the source was trained on the task before, and teaches as it is.
        hidden: width of a new BERT.
        layers: depth of a new BERT.
        heads: attention heads of a new BERT.
        dropout: of a new BERT; a generated language gives as much data as one asks for.
        vocab_size: of the new vocabulary.
        training: how it is trained on the task, and the longest example and the precision in which
            it is run in any case.
        seed: of its head, batch order and dropout.
    """

    name: str = "teacher"
    source: str | None = None
    fine_tuned: bool = False
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.0
    vocab_size: int = 500
    training: Training = field(default_factory=Training)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fine_tuned and self.source is None:
            raise ValueError(
                f"{self.name!r} is fine_tuned and has no source; expected a folder or hub id"
            )


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """A model with random weights; what is None is as in the published size.

    Attributes:
        architecture: Hugging Face's model_type; `effjax list architectures`.
        size: one of its published sizes.
        hidden: width.
        layers: depth.
        heads: attention heads.
        ffn: width of the feed-forward network.
        dropout: of hidden states and attention.
        fields: further fields of its config.json, with their values.
    """

    architecture: str = "bert"
    size: str = "tiny"
    hidden: int | None = None
    layers: int | None = None
    heads: int | None = None
    ffn: int | None = None
    dropout: float | None = None
    fields: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student: a part of the teacher, a new model, or a pretrained one.

    Attributes:
        name: what tables call it.
        layers: the teacher layers that it starts from, counted from 0.
        hidden: the width that these are cut to, with as large a share of their heads and
            feed-forward units, by importance (`effjax.prune.narrowed`); None for all of it.
        model: a new model, of any architecture; it reads the teacher's tokens.
        source: a hub id or folder of an encoder, of any architecture; it reads its own tokens.
    """

    name: str
    layers: tuple[int, ...] | None = None
    hidden: int | None = None
    model: NewModel | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("layers", "model", "source") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"student {self.name!r} has {' and '.join(given) or 'none'} "
                "of layers, model and source; expected one"
            )
        if self.hidden is not None and self.layers is None:
            raise ValueError(
                f"student {self.name!r} has hidden {self.hidden} and no layers of the teacher that "
                "are cut to it"
            )

    @property
    def controls(self) -> "tuple[Method, ...]":
        """What methods are compared with; a student that is not made of the teacher's layers has
        no start to lose.
        """
        return (CONTROL,) if self.layers is None else (CONTROL, RANDOM)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training before a method's last one, such as TinyBERT's of intermediate layers.

    Attributes:
        name: what its folder is called.
        objective: what is minimised.
        epochs: how long, out of the epochs of the whole training.
        learning_rate: its own, which is not searched for.
    """

    name: str
    objective: Weighted
    epochs: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"stage {self.name!r}: epochs is {self.epochs}, learning_rate "
                f"{self.learning_rate}; expected 1 or more, and a number above 0"
            )


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train a student: what it minimises, at once or in stages.

    Attributes:
        name: what tables call it.
        objective: what is minimised in the end.
        before: stages before that. All methods take as many epochs, those of the stages included.
    """

    name: str
    objective: Weighted
    before: tuple[Stage, ...] = ()


CONTROL = Method(name="control", objective=Weighted(task=(1.0, TaskLoss())))
"""From the labels, without a teacher."""

RANDOM = Method(name="random", objective=CONTROL.objective)
"""The same, from random arrays."""

WITHOUT_TEACHER = (CONTROL.name, RANDOM.name)


def check_each_once(splits: tuple[str, ...], seeds: tuple[int, ...], held_out: int = 0) -> None:
    """Raises a ValueError for a recipe that evaluates or trains nothing, or the same twice.

    Args:
        held_out: examples that are an evaluation set too.
    """
    for name, found in {"splits": splits, "seeds": seeds}.items():
        enough = found or (name == "splits" and held_out)
        if not enough or len(set(found)) < len(found):
            listed = ", ".join(map(str, found)) or "none"
            raise ValueError(f"{name} are {listed}; expected one or more, each once")


def check_methods(methods: tuple[Method, ...], epochs: int) -> None:
    """Raises a ValueError for names that are taken, and for stages that leave no epoch or share a
    folder.
    """
    names = [method.name for method in methods]
    taken = [name for name in names if names.count(name) > 1 or name in WITHOUT_TEACHER]
    if not names or taken:
        raise ValueError(
            f"methods are named {', '.join(names) or 'not at all'}; expected one or more, each of "
            f"its own name, and none {' or '.join(WITHOUT_TEACHER)}, the arms without a teacher"
        )
    for method in methods:
        stages = [stage.name for stage in method.before]
        if len(set(stages)) < len(stages):
            raise ValueError(
                f"method {method.name!r}: its stages are named {', '.join(stages)}; expected "
                "a name of its own for each"
            )
        if (spent := sum(stage.epochs for stage in method.before)) >= epochs:
            raise ValueError(
                f"method {method.name!r}: its stages take {spent} epochs of training.epochs, "
                f"{epochs}, and leave none for its last objective"
            )


@dataclass(frozen=True, kw_only=True)
class Search:
    """How every arm chooses its learning rate: short runs with one seed, judged on validation
    examples.

    Attributes:
        learning_rates: the candidates; with a single one there is no search.
        steps: of each short run; None for runs as long as the real ones.
        validation: training examples set aside to judge by; with a single candidate too, so that
            recipes with and without a search train on the same ones.
        seed: of the short runs.
    """

    learning_rates: tuple[float, ...]
    steps: int | None
    validation: int
    seed: int = 1000

    def __post_init__(self) -> None:
        check_steps(self.steps)


@runtime_checkable
class Recipe(Protocol):
    """What every recipe says of its trainings."""

    @property
    def mesh(self) -> Mesh: ...

    @property
    def wandb_project(self) -> str | None: ...


def fit_options(recipe: Recipe, accept_changes: bool) -> FitOptions:
    """What all trainings of a recipe are called with."""
    return {
        "mesh": recipe.mesh,
        "accept_changes": accept_changes,
        "wandb_project": recipe.wandb_project,
    }
