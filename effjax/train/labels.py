"""The names of a head's outputs, and whether a model has a task's."""

from collections.abc import Sequence
from pathlib import Path

from effjax.data.tasks import Task
from effjax.models.hf_config import numbered_labels
from effjax.models.model import Model


def label_names(task: Task) -> tuple[str, ...] | None:
    """What the outputs of a task's head are called; None where the head itself says that."""
    if task.kind == "answers":
        return None
    return ("score",) if task.regression else task.labels


def with_labels_of(task: Task, model: Model, folder: str | Path) -> Model:
    """The model with its labels spelled as the task's.

    Names that differ in case are the same, and a model that only numbers its labels, or has one
    score, is taken at its word.

    Args:
        folder: where the model is from, for the message.

    Raises:
        ValueError: it has other labels, or these in another order.
    """
    found, wanted = model.config.labels, label_names(task) or model.config.labels
    named = found != numbered_labels(len(found)) and not task.regression
    if len(found) != len(wanted) or (named and casefold(found) != casefold(wanted)):
        raise ValueError(
            f"{folder} has the labels {', '.join(found)}; {task.name} has {', '.join(wanted)}, in "
            "this order"
        )
    return model.replace(config=model.config.replace(labels=wanted))


def casefold(names: Sequence[str]) -> list[str]:
    return [name.casefold() for name in names]
