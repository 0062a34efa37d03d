"""Predictions in the files that official servers and scripts take: GLUE's `index<TAB>prediction`,
one per test split, and SQuAD's answers by the question's id.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from effjax.data.spans import Predictions
from effjax.data.tasks import Task
from effjax.files import write_json


def write_submission(
    task: Task, predictions: Mapping[str, np.ndarray], folder: str | Path
) -> list[Path]:
    """Writes one TSV per test split, named and spelled as GLUE wants it.

    Class ids become the official spelling; scores are clipped to the task's range and given three
    decimals.

    Args:
        task: A task with a leaderboard.
        predictions: Test split (`test`; for MNLI `test_matched` and `test_mismatched`) to class ids
            int [n] or scores [n], in official order, which is the order of `load`.
        folder: Made when it does not exist.

    Returns:
        The files written.

    Raises:
        ValueError: If the task takes no submissions, a split is not a test split, or a prediction
            is no class or score.
    """
    check_leaderboard(task)
    names = dict(zip(task.test, task.submission, strict=True))
    for split in predictions:
        if split not in names:
            raise ValueError(
                f"{task.name}: {split!r} is no test split; allowed: {', '.join(names)}"
            )
    contents = {names[split]: _spell(task, values) for split, values in predictions.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in contents.items():
        beside = folder / f".{name}.writing"
        lines = ["index\tprediction", *(f"{i}\t{cell}" for i, cell in enumerate(cells))]
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(beside, folder / name)
    return [folder / name for name in contents]


def write_answers(predictions: Predictions, folder: str | Path) -> list[Path]:
    """Writes `predictions.json`, the answers by id; and `null_odds.json`, how much better "no
    answer" scores than the best span, which evaluate-v2.0.py takes as its `--na-prob-file`.

    Args:
        folder: Made when it does not exist.

    Returns:
        The files written.
    """
    contents = {"predictions": predictions.texts, "null_odds": predictions.null_differences}
    files = {Path(folder) / f"{name}.json": x for name, x in contents.items() if x is not None}
    for file, content in files.items():
        write_json(file, content)
    return list(files)


def check_leaderboard(task: Task) -> None:
    """Raises ValueError when a task takes no submissions."""
    if not task.submission:
        raise ValueError(f"{task.name} has no leaderboard to write a submission for")


def _spell(task: Task, values: np.ndarray) -> list[str]:
    """Predictions as the official files write them."""
    if task.score_range:
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{task.name}: a predicted score is not finite")
        return [f"{score:.3f}" for score in np.clip(values, *task.score_range)]
    allowed = range(len(task.spelling))
    if wrong := [value for value in values.tolist() if value not in allowed]:
        raise ValueError(f"{task.name}: class id {wrong[0]}; allowed: 0 to {len(allowed) - 1}")
    return [task.spelling[value] for value in values.tolist()]
