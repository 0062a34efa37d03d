"""The GLUE score against rows of the leaderboard, and what it says is missing."""

import pytest

from effjax.data import get_task, glue_score
from effjax.data.glue_score import GLUE

NAMES = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
# arXiv 1901.11504, table 2: the leaderboard on February 25, 2019, its score and its tasks; pairs
# are F1 and accuracy, Pearson and Spearman, matched and mismatched. That they are of test splits
# changes no mean.
LEADERBOARD = {
    80.5: (60.5, 94.9, (89.3, 85.4), (87.6, 86.5), (72.1, 89.3), (86.7, 85.9), 92.7, 70.1, 65.1),
    81.7: (58.9, 94.6, (90.1, 86.4), (89.5, 88.8), (72.7, 89.6), (86.5, 85.8), 93.1, 79.1, 65.1),
    82.7: (62.5, 95.6, (91.1, 88.2), (89.5, 88.8), (72.7, 89.6), (86.7, 86.0), 93.1, 81.4, 65.1),
    87.1: (66.4, 97.8, (86.3, 80.8), (92.7, 92.6), (59.5, 80.4), (92.0, 92.8), 91.2, 93.6, 95.9),
}


def scores_of(
    row: tuple[float | tuple[float, float], ...],
) -> dict[str, dict[str, dict[str, float]]]:
    """A row of the leaderboard as metrics by task, split and metric."""
    found = {}
    for name, cell in zip(NAMES, row, strict=True):
        task = get_task(f"glue/{name}")
        slots = [(split, metric) for split in task.dev for metric in task.metrics]
        splits = {split: {} for split in task.dev}
        values = cell if isinstance(cell, tuple) else (cell,)
        for (split, metric), value in zip(slots, values, strict=True):
            splits[split][metric] = value
        found[task.name] = splits
    return found


@pytest.mark.parametrize("score", LEADERBOARD)
def test_rows_of_the_leaderboard_have_its_score(score: float) -> None:
    # Cells and score are rounded to one decimal.
    assert glue_score(scores_of(LEADERBOARD[score])) == pytest.approx(score, abs=0.051)


def test_two_metrics_and_two_splits_count_as_one_task() -> None:
    scores = scores_of((0.0,) * 2 + ((0.0, 0.0),) * 4 + (0.0,) * 3)
    scores["glue/mrpc"]["validation"] = {"f1": 0.9, "accuracy": 0.8}
    assert glue_score(scores) == pytest.approx(0.85 / 9)
    scores["glue/mnli"]["validation_mismatched"]["accuracy"] = 0.5
    assert glue_score(scores) == pytest.approx((0.85 + 0.25) / 9)
    scores["imdb_reviews/plain_text"] = {"test": {"accuracy": 1.0}}
    scores["glue/mrpc"]["test"] = {"f1": 1.0, "accuracy": 1.0}
    assert glue_score(scores) == pytest.approx((0.85 + 0.25) / 9)


def test_all_that_is_missing_is_listed() -> None:
    scores = scores_of(LEADERBOARD[80.5])
    del scores["glue/wnli"], scores["glue/mrpc"]["validation"]["accuracy"]
    del scores["glue/mnli"]["validation_mismatched"]
    missing = "glue/mrpc validation accuracy, glue/mnli validation_mismatched accuracy, glue/wnli$"
    with pytest.raises(ValueError, match=f"is of 9 tasks; missing: {missing}"):
        glue_score(scores)
    with pytest.raises(ValueError, match=", ".join(task.name for task in GLUE)):
        glue_score({})
