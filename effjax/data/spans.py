"""Windows over long contexts, and the answers that scores over their tokens amount to.

A context may be longer than a model can read, so a question is asked once per window: question plus
a piece of the context, neighbouring pieces overlapping. `windows` makes them with labels for
training; `answers` turns start and end logits over all windows of a question into one text.

Source: the BERT paper, 1810.04805, sections 4.2 and 4.3, as the `run_qa` example of Hugging Face
transformers has it. Deviations are in the docstrings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from effjax.data.encode import Encoded
from effjax.data.squad import Golds, Questions

_CHUNK = 1000  # questions tokenised at a time: offsets are Python tuples until they are an array


@dataclass(frozen=True, eq=False)
class Windows(Encoded):
    """Encoded windows: T tokens in all, `labels` int32 [n, 2], `idx` the windows' own numbers.

    `labels` are the tokens, counted from the window's first, where the first gold answer starts and
    ends, both inclusive; (0, 0), the [CLS] token, where the window does not hold all of it.

    Args:
        question: int32 [n], the row of `Questions` that a window belongs to; ascending.
        spans: int32 [T, 2], the characters of the context that a token stands for, end exclusive;
            -1 for tokens outside the context.
    """

    question: np.ndarray
    spans: np.ndarray


@dataclass(frozen=True, eq=False)
class Predictions:
    """One answer per question, by id; "" says that the context holds none.

    Args:
        texts: The answers.
        null_differences: How much better "no answer" scores than the best span, in logits; None
            where unknown. Only a model trained on unanswerable questions gives it a meaning.
    """

    texts: dict[str, str]
    null_differences: dict[str, float] | None = None


def windows(
    tokenizer: Any, questions: Questions, *, max_length: int = 384, stride: int = 128
) -> Windows:
    """Tokenises `[CLS] question [SEP] piece of the context [SEP]`, or as the tokenizer's template.

    Blanks before a question are dropped (some of SQuAD's fill a window), as in `run_qa`.

    Args:
        tokenizer: A Hugging Face fast tokenizer.
        questions: From `effjax.data.squad`.
        max_length: Longest window in tokens, special tokens included.
        stride: Context tokens that neighbouring windows share.

    Raises:
        ValueError: If the tokenizer is slow, there are no questions, or one is so long that a
            window has no room for more than `stride` tokens of context.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer: it gives no offsets")
    if not len(questions):
        raise ValueError("no questions to make windows from")
    _check_room(tokenizer, questions, max_length, stride)
    parts = list(_tokenise(tokenizer, questions, max_length, stride))
    ids, types, lengths, question, spans = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    labels = _labels(questions, offsets, question, spans)
    idx = np.arange(len(question), dtype=np.int32)
    return Windows(ids, types, offsets, labels, idx, question, spans)


def answers(
    windows: Windows,
    questions: Questions,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    *,
    n_best: int = 20,
    max_answer_tokens: int = 30,
    null_threshold: float | None = None,
) -> Predictions:
    """The best span of each question over all its windows, or "" where no answer scores better.

    Within a window, the `n_best` starts meet the `n_best` ends; a span is valid inside the context,
    in order, and not too long. Its score is start + end logit. "No answer" scores as [CLS] does,
    the least over the windows: all of them must want it.

    Deviations from `run_qa`: padding takes no place among the `n_best`, and a question without a
    valid span gets "" instead of the word "empty" (its score is 0 in both).

    Args:
        windows: All windows of `questions`.
        questions: What `windows` was made from.
        start_logits: [T], for each token of the windows.
        end_logits: The same for the end.
        n_best: Starts and ends considered per window.
        max_answer_tokens: Longest answer.
        null_threshold: v2: the answer is "" where the null difference is above it. None answers
            every question with its best span; `evaluate_squad` then finds the best threshold.

    Raises:
        ValueError: If the logits are not one finite number per token, or the windows are of other
            questions.
    """
    start, end = _checked(windows, questions, start_logits, end_logits)
    best = [_Span(-np.inf, 0, 0)] * len(questions)
    null = np.full(len(questions), np.inf)
    for i, q in enumerate(windows.question):
        row = slice(windows.offsets[i], windows.offsets[i + 1])
        span = _best_span(start[row], end[row], windows.spans[row], n_best, max_answer_tokens)
        best[q] = span if span.score > best[q].score else best[q]
        null[q] = min(null[q], start[row.start] + end[row.start])
    texts, differences = {}, {}
    for id_, context, span, score in zip(
        questions.ids, questions.contexts, best, null, strict=True
    ):
        difference = float(score - span.score) if span.stop else float(score)
        silent = null_threshold is not None and difference > null_threshold
        texts[id_] = "" if silent else context[span.begin : span.stop]
        differences[id_] = difference
    return Predictions(texts, differences)


class _Span(NamedTuple):
    """Characters `begin` to `stop` of a context with their score; stop 0 is no span at all."""

    score: float
    begin: int
    stop: int


def _best_span(
    start: np.ndarray, end: np.ndarray, spans: np.ndarray, n_best: int, max_answer_tokens: int
) -> _Span:
    """The best valid span of one window."""
    starts, ends = (np.argsort(-logits, kind="stable")[:n_best] for logits in (start, end))
    begin, stop = spans[starts, 0][:, None], spans[ends, 1]
    tokens = ends - starts[:, None] + 1
    # stop > begin also leaves out tokens that stand for no text.
    valid = (begin >= 0) & (stop > begin) & (tokens >= 1) & (tokens <= max_answer_tokens)
    scores = np.where(valid, start[starts][:, None] + end[ends], -np.inf)
    i, j = np.unravel_index(np.argmax(scores), scores.shape)
    if not valid[i, j]:
        return _Span(-np.inf, 0, 0)
    return _Span(float(scores[i, j]), int(begin[i, 0]), int(stop[j]))


def _checked(
    windows: Windows, questions: Questions, *logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits as float64, which adds logits of any precision without rounding."""
    if int(windows.question[-1]) + 1 != len(questions):
        count = int(windows.question[-1]) + 1
        raise ValueError(f"answers: windows of {count} questions, but {len(questions)} questions")
    start, end = (np.asarray(values, np.float64) for values in logits)
    for name, values in (("start", start), ("end", end)):
        if values.shape != windows.input_ids.shape:
            raise ValueError(
                f"answers: {name}_logits {values.shape}; needs {windows.input_ids.shape}"
            )
        if count := int(np.sum(~np.isfinite(values))):
            raise ValueError(f"answers: {count} of {values.size} {name}_logits are not finite")
    return start, end


def _check_room(tokenizer: Any, questions: Questions, max_length: int, stride: int) -> None:
    """The tokenizer itself panics where a window would not move on."""
    asked = [question.lstrip() for question in questions.questions]
    made = tokenizer(asked, add_special_tokens=False, return_attention_mask=False)
    tokens = [len(ids) for ids in made["input_ids"]]
    longest = int(np.argmax(tokens))
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - tokens[longest]
    if not 0 <= stride < room:
        raise ValueError(
            f"question {questions.ids[longest]!r} has {tokens[longest]} tokens and leaves {room} "
            f"of max_length {max_length} for context; stride is {stride}, allowed: 0 to {room - 1}"
        )


def _tokenise(
    tokenizer: Any, questions: Questions, max_length: int, stride: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Per chunk of questions: ids, type ids, lengths, question rows and spans of its windows."""
    types = "token_type_ids" in tokenizer.model_input_names
    for begin in range(0, len(questions), _CHUNK):
        made = tokenizer(
            [question.lstrip() for question in questions.questions[begin : begin + _CHUNK]],
            questions.contexts[begin : begin + _CHUNK],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=types,
        )
        ids = _flat(made["input_ids"])
        type_ids = _flat(made["token_type_ids"]) if types else np.zeros_like(ids)
        lengths = np.asarray([len(row) for row in made["input_ids"]])
        question = begin + np.asarray(made["overflow_to_sample_mapping"], np.int32)
        parts = chain.from_iterable(made.sequence_ids(i) for i in range(len(lengths)))
        context = np.asarray([part == 1 for part in parts])
        spans = np.asarray(list(chain.from_iterable(made["offset_mapping"])), np.int32)
        yield ids, type_ids, lengths, question, np.where(context[:, None], spans, np.int32(-1))


def _flat(rows: list[list[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), np.int32)


def _labels(
    questions: Questions, offsets: np.ndarray, question: np.ndarray, spans: np.ndarray
) -> np.ndarray:
    """Start and end token of the first gold answer in each window, int32 [n, 2].

    The first token that ends after the answer begins, and the last that begins before it ends. That
    is `run_qa`'s label but for its slips: an answer in a window's last token, which it places at
    the window's end, and a character of several tokens, where its end may come before its start.
    """
    starts, lengths = offsets[:-1], np.diff(offsets)
    golds = np.asarray([_first_gold(golds) for golds in questions.answers], np.int32)
    begin, end = np.repeat(golds[question], lengths, axis=0).T
    at = np.arange(offsets[-1], dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    context = spans[:, 0] >= 0
    reaches = np.logical_or.reduceat(context & (spans[:, 0] <= begin), starts)
    reaches &= np.logical_or.reduceat(context & (spans[:, 1] >= end), starts)
    late = np.where(context & (spans[:, 1] > begin), at, np.int32(offsets[-1]))
    early = np.where(context & (spans[:, 0] < end), at, np.int32(-1))
    first, last = np.minimum.reduceat(late, starts), np.maximum.reduceat(early, starts)
    held = reaches & (first <= last)
    return np.where(held[:, None], np.stack([first, last], axis=1), np.int32(0))


def _first_gold(golds: Golds) -> tuple[int, int]:
    """The first answer's characters without blanks at its edges; (-1, -1) where there is none."""
    if not golds:
        return -1, -1
    text, start = golds[0]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())
