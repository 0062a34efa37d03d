"""Kinds of tasks: how examples become arrays, and a model's answers the official score.

Text is classified or scored as a whole, questions are answered by a span of their context, tags
belong to words; similarity is read off the vectors of two sentences. Training, evaluation and
recipes know no task beyond these four rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from effjax.data.encode import Encoded, encode
from effjax.data.entities import entity_f1
from effjax.data.examples import AnyExamples, Examples
from effjax.data.metrics import decide, evaluate
from effjax.data.spans import Windows, answers, windows
from effjax.data.squad import Questions
from effjax.data.squad_metrics import evaluate_squad, exact_match
from effjax.data.tagging import TaggedSentences, decode_tags, encode_tags
from effjax.data.tasks import Task
from effjax.data.token_cache import cached

MAX_STRIDE = 128
"""Context tokens that two windows share; a third of a window where that is less."""


class Score(NamedTuple):
    """The official metrics, headline first, and whether each example is wholly right.

    `right` is empty for regressions, where nothing is right or wrong.
    """

    metrics: dict[str, float]
    right: np.ndarray


@dataclass(frozen=True)
class Kind:
    """What all tasks of one kind share.

    Attributes:
        head: the task head that answers it (`effjax.models.base.Head`); None where a bare encoder
            does, by its sentence vectors.
        per_token: whether logits are one row per token [T, C], not per example [n, C].
        encode: (tokenizer, examples, longest in tokens) -> the tokens.
        score: (task, examples, their tokens, logits) -> the score; without a head, vectors [n, D]
            in place of logits.
    """

    head: Literal["sequence-classification", "question-answering", "token-classification"] | None
    per_token: bool
    encode: Callable[[Any, Any, int], Encoded]
    score: Callable[[Task, Any, Any, np.ndarray], Score]


def score_text(task: Task, examples: Examples, encoded: Encoded, logits: np.ndarray) -> Score:
    """Classes by the highest logit; a regression's logit is its score."""
    del encoded
    predictions = decide(task, logits)
    metrics = evaluate(task, predictions, examples.labels)
    return Score(metrics, np.zeros(0, bool) if task.regression else predictions == examples.labels)


def score_answers(task: Task, questions: Questions, encoded: Windows, logits: np.ndarray) -> Score:
    """The best span over all windows of a question; in v2, none above the best threshold.

    That threshold is the one that is best for these very questions, as the official script has it:
    it says 0 also where it would be best to answer nothing, and then nothing is answered.
    """
    pair = logits[:, 0], logits[:, 1]
    found = answers(encoded, questions, *pair)
    metrics = evaluate_squad(questions, found)
    if "best_threshold" in metrics:
        best = {name: metrics[name] for name in ("best_f1", "best_threshold")}
        silent = best["best_threshold"] == 0 and best["best_f1"] == share_without_answer(questions)
        threshold = -np.inf if silent else best["best_threshold"]
        found = answers(encoded, questions, *pair, null_threshold=threshold)
        metrics = evaluate_squad(questions, found) | best
    right = [
        exact_match(found.texts[name], [text for text, _ in golds] or [""]) == 1
        for name, golds in zip(questions.ids, questions.answers, strict=True)
    ]
    return Score(headline_first(task, metrics), np.asarray(right, bool))


def share_without_answer(questions: Questions) -> float:
    """The F1 of who answers nothing."""
    return sum(not golds for golds in questions.answers) / len(questions)


def score_tags(
    task: Task, sentences: TaggedSentences, encoded: Encoded, logits: np.ndarray
) -> Score:
    """Entities with their boundaries and type; a sentence is right if all its tags are.

    Raises:
        ValueError: the tags of these sentences are not public.
    """
    if sentences.tags is None:
        raise ValueError(f"{task.name}: this split has no public tags to evaluate against")
    found = decode_tags(encoded, sentences, logits, outside=task.labels.index("O"))
    metrics = entity_f1(sentences.tags, found, task.labels)
    right = [np.array_equal(a, b) for a, b in zip(found, sentences.tags, strict=True)]
    return Score(headline_first(task, metrics), np.asarray(right, bool))


def score_similarity(task: Task, pairs: Examples, encoded: Encoded, vectors: np.ndarray) -> Score:
    """The cosine of the two sentences' vectors, correlated with the gold score.

    Source: arXiv 1908.10084, section 4.1, as in the `EmbeddingSimilarityEvaluator` of
    sentence-transformers.

    Args:
        vectors: [2n, D], as `encode_sentences` orders the sentences of n pairs.
    """
    del encoded
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, second = np.split(vectors / lengths, 2)
    metrics = evaluate(task, np.sum(first * second, axis=1), pairs.labels)
    return Score(metrics, np.zeros(0, bool))


def headline_first(task: Task, metrics: dict[str, float]) -> dict[str, float]:
    """The same metrics in the order of the task's, others after them."""
    return {name: metrics[name] for name in task.metrics} | metrics


def encode_questions(tokenizer: Any, questions: Questions, max_length: int) -> Windows:
    """Windows of at most `max_length` tokens."""
    stride = min(MAX_STRIDE, max_length // 3)
    return windows(tokenizer, questions, max_length=max_length, stride=stride)


def encode_sentences(tokenizer: Any, pairs: Examples, max_length: int) -> Encoded:
    """Every sentence alone: those of the first column, then those of the second."""
    sentences = [text for column in pairs.texts for text in column]
    numbers = np.arange(len(sentences), dtype=np.int32)
    return encode(tokenizer, Examples((sentences,), None, numbers), max_length)


KINDS: dict[str, Kind] = {
    "text": Kind("sequence-classification", False, encode, score_text),
    "answers": Kind("question-answering", True, encode_questions, score_answers),
    "tags": Kind("token-classification", True, encode_tags, score_tags),
    "similarity": Kind(None, False, encode_sentences, score_similarity),
}


class Prepared(NamedTuple):
    """Examples with their tokens."""

    examples: AnyExamples
    encoded: Encoded


def prepare(task: Task, tokenizer: Any, examples: AnyExamples, max_length: int) -> Prepared:
    """Tokenises the examples of a task by the rules of its kind; once, if they are many."""
    return Prepared(examples, cached(KINDS[task.kind].encode, tokenizer, examples, max_length))
