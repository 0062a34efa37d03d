"""SQuAD's official scores, v1.1 and v2, for the same predictions as the official scripts get.

Scores are from 0 to 1, as all metrics of effjax; the official scripts print percent.

Source: evaluate-v1.1.py and evaluate-v2.0.py of Rajpurkar et al. (1606.05250, 1806.03822).
Deviation: a question without a prediction is an error (v1.1 counts it as wrong, v2 leaves it out).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from effjax.data.spans import Predictions
from effjax.data.squad import Questions

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single blanks: in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 where the normalised prediction is one of the normalised gold answers, else 0.0."""
    return float(normalise(prediction) in {normalise(gold) for gold in golds})


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Most overlap with one gold answer: the F1 of normalised words, counted with repetition.

    A gold "" says that there is no answer; then the score is 1.0 for a prediction that normalises
    to nothing, else 0.0.
    """
    return max(_f1(normalise(prediction).split(), gold) for gold in golds)


def evaluate_squad(questions: Questions, predictions: Predictions) -> dict[str, float]:
    """The official scores, each from 0 to 1 but for the threshold, which is in logits.

    Args:
        questions: With gold answers. For v2, a gold that normalises to nothing does not count.
        predictions: Taken as they are: in v2, "" is the claim that there is no answer.

    Returns:
        `exact_match` and `f1`. For v2 also both over the questions with an answer and over those
        without (`has_answer_*`, `no_answer_*`, where there are any), and where null differences are
        known, `best_f1` over all thresholds above which the answer would be "", and that
        `best_threshold`; they are the best there are when `predictions.texts` has no "" yet.

    Raises:
        ValueError: If there are no questions, or one has no prediction.
    """
    _check_complete("prediction", questions, predictions.texts)
    golds = [[text for text, _ in answers] for answers in questions.answers]
    if questions.version == "v2.0":
        golds = [[text for text in texts if normalise(text)] or [""] for texts in golds]
    texts = [predictions.texts[id_] for id_ in questions.ids]
    exact = np.array([exact_match(text, gold) for text, gold in zip(texts, golds, strict=True)])
    f1s = np.array([f1(text, gold) for text, gold in zip(texts, golds, strict=True)])
    result = {"exact_match": float(np.mean(exact)), "f1": float(np.mean(f1s))}
    if questions.version == "v1.1":
        return result
    answerable = np.array([bool(answers) for answers in questions.answers])
    for name, part in (("has_answer", answerable), ("no_answer", ~answerable)):
        if np.any(part):
            result[f"{name}_exact_match"] = float(np.mean(exact[part]))
            result[f"{name}_f1"] = float(np.mean(f1s[part]))
    if predictions.null_differences is None:
        return result
    _check_complete("null difference", questions, predictions.null_differences)
    differences = np.array([predictions.null_differences[id_] for id_ in questions.ids])
    best, threshold = _best_threshold(f1s, answerable, np.array([*map(bool, texts)]), differences)
    return {**result, "best_f1": best, "best_threshold": threshold}


def _best_threshold(
    scores: np.ndarray, answerable: np.ndarray, spoken: np.ndarray, differences: np.ndarray
) -> tuple[float, float]:
    """Best mean score, and the null difference up to which questions are answered to get it.

    Starts from "" everywhere, right where there is no answer, and answers one question more at a
    time, the surest first. The threshold is 0.0 where no answer at all is best, as officially.
    """
    order = np.argsort(differences, kind="stable")
    gains = np.where(answerable, scores, np.where(spoken, -1.0, 0.0))[order]
    totals = np.cumsum([np.sum(~answerable), *gains])  # of none, one, two, ... answered
    answered = int(np.argmax(totals))
    threshold = float(differences[order[answered - 1]]) if answered else 0.0
    return float(totals[answered]) / len(scores), threshold


def _f1(words: list[str], gold: str) -> float:
    if not gold:
        return float(not words)
    gold_words = normalise(gold).split()
    same = sum((Counter(words) & Counter(gold_words)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def _check_complete(
    what: str, questions: Questions, values: dict[str, str] | dict[str, float]
) -> None:
    if not len(questions):
        raise ValueError("evaluate_squad: no questions")
    if missing := [id_ for id_ in questions.ids if id_ not in values]:
        raise ValueError(
            f"evaluate_squad: no {what} for {len(missing)} of {len(questions)} questions; "
            f"the first is {missing[0]!r}"
        )
