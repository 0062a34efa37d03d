"""The GLUE score: one number for nine tasks.

Source: arXiv 1804.07461, section 3.4: the macro-average of the tasks' scores, a task of several
metrics counting with their unweighted mean. As on the leaderboard, MNLI is one task, the mean of
matched and mismatched, WNLI is one of the nine, and the diagnostic set is none of them: so the
complete rows of arXiv 1901.11504, table 2, taken from the leaderboard, give their scores there.
Papers that leave WNLI out (arXiv 1810.04805, table 1) report another average.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from effjax.data.tasks import TASKS

GLUE = tuple(task for task in TASKS.values() if task.name.startswith("glue/"))
"""The nine tasks."""

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Official metrics by task, split and metric."""


def glue_score(scores: Scores) -> float:
    """The macro-average over the nine tasks, in the range of the metrics given.

    The score is linear in every metric: that of means over seeds is the mean of the seeds' scores.

    Args:
        scores: Of the development splits of every task (on test splits, the server computes it).
            Further tasks, splits and metrics play no part.

    Raises:
        ValueError: If something is missing; the line lists all of it.
    """
    return float(np.mean(list(task_scores(scores).values())))


def task_scores(scores: Scores) -> dict[str, float]:
    """What each of the nine tasks counts with; takes and raises what `glue_score` does."""
    if missing := list(_missing(scores)):
        raise ValueError(f"the GLUE score is of {len(GLUE)} tasks; missing: {', '.join(missing)}")
    return {
        task.name: float(
            np.mean([scores[task.name][split][name] for split in task.dev for name in task.metrics])
        )
        for task in GLUE
    }


def _missing(scores: Scores) -> Iterator[str]:
    for task in GLUE:
        if task.name not in scores:
            yield task.name
            continue
        for split in task.dev:
            found = scores[task.name].get(split, {})
            yield from (f"{task.name} {split} {name}" for name in task.metrics if name not in found)
