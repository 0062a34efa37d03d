"""Metrics: GLUE's official scores, and how sure one can be of them.

Scores come from scikit-learn and scipy, imported when used. The two statistics are the ones that
the papers need: an interval for one accuracy, and a paired comparison of two models on the same
examples.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from effjax.data.tasks import Task


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of predictions that equal the label."""
    return float(np.mean(predictions == labels))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1; 0 where class 1 is neither present nor predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0))  # pyright: ignore[reportArgumentType]


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation coefficient; 0 where predictions or labels are constant."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation; 0 where a side is constant, as for `matthews` (scipy gives nan)."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, labels)


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Spearman rank correlation; 0 where a side is constant (scipy gives nan)."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, labels)


OF_SCORES = ("pearson", "spearman")
"""The metrics of regressions; the others are of classes."""

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    metric.__name__: metric for metric in (accuracy, f1, matthews, pearson, spearman)
}


def decide(task: Task, logits: np.ndarray) -> np.ndarray:
    """Logits [n, C] to what is scored: class ids int32 [n]; for regression (C = 1) scores [n]."""
    return logits[:, 0] if task.regression else np.argmax(logits, axis=-1).astype(np.int32)


def evaluate(task: Task, predictions: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """The task's official metrics, headline first, each in its natural range (accuracy 0..1).

    Args:
        task: From `get_task`.
        predictions: Class ids or scores, shape [n]; `decide` makes them from logits.
        labels: As in `Examples.labels`.

    Raises:
        ValueError: If there are no labels, shapes differ, or a score is not finite.
    """
    if labels is None:
        raise ValueError(f"{task.name}: this split has no public labels to evaluate against")
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        got = f"predictions {predictions.shape} and labels {labels.shape}"
        raise ValueError(f"{task.name}: {got}; both must be one row of the same length")
    if not np.all(np.isfinite(predictions)):
        count = int(np.sum(~np.isfinite(predictions)))
        raise ValueError(f"{task.name}: {count} of {len(labels)} predictions are not finite")
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def wilson_interval(correct: int | float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share of `correct` out of `n`.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = correct / n, z the normal
    quantile of `level`.

    Source: Wilson, JASA 22 (1927); it stays inside 0..1 and holds its level near 1, where
    accuracies are.

    Raises:
        ValueError: If not 0 <= correct <= n, n > 0 and 0 < level < 1.
    """
    if not (0 <= correct <= n and n > 0 and 0 < level < 1):
        raise ValueError(f"wilson_interval: correct {correct}, n {n}, level {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, shrink = correct / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrink
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / shrink
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


class Difference(NamedTuple):
    """accuracy(a) - accuracy(b), its 95% interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, samples: int = 10_000, seed: int = 0
) -> Difference:
    """Compares two models on the same examples by resampling the examples.

    A resample's mean difference needs only how often each distinct value of a - b was drawn, and
    those counts are multinomial: the same distribution as drawing n examples one by one.
    p = 2 min(#{d <= 0}, #{d >= 0}) + 1 over samples + 1, at most 1.

    Args:
        a: How right model a is on each example, [n]: 0 or 1, or a mean over seeds.
        b: The same for model b on the same examples in the same order.
        samples: Number of resamples.
        seed: Of the resampling.

    Source: Efron & Tibshirani (1993), chapters 13 (percentile interval) and 16; Koehn, EMNLP 2004.

    Raises:
        ValueError: If the two are not rows of numbers from 0 to 1 of the same length.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"paired_bootstrap: {a.shape} and {b.shape}; needs two rows of one length")
    if not all(np.all((x >= 0) & (x <= 1)) for x in (a, b)):
        raise ValueError("paired_bootstrap: expected numbers from 0 (wrong) to 1 (right)")
    # Rounding makes equal means over seeds equal numbers.
    values, counts = np.unique(np.round(a - b, 9), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(a.size, counts / a.size, size=samples)
    differences = drawn @ values / a.size
    low, high = np.quantile(differences, [0.025, 0.975])
    tail = min(np.sum(differences <= 0), np.sum(differences >= 0))
    p = min(1.0, (2 * int(tail) + 1) / (samples + 1))
    return Difference(float(np.mean(a - b)), float(low), float(high), p)


def _correlation(measure: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    return 0.0 if constant else float(measure(a.astype(float), b.astype(float)).statistic)
