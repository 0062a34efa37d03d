"""Contract: an example has the same outputs, loss and gradients packed with others as alone."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data import Encoded
from effjax.data.layouts import packed_batches, padded_batches
from effjax.distill import (
    Given,
    HiddenMSE,
    MaskedLM,
    Objective,
    SentenceMSE,
    SoftTargets,
    TaskLoss,
    Term,
    Weighted,
)
from effjax.distill.objective import example_weights, token_weights
from effjax.distill.replaced_tokens import doubts
from effjax.distill.task_loss import label_term
from effjax.models import Model
from effjax.models.base import Head, Outputs
from effjax.models.model import INPUTS, apply, inputs
from effjax.tree import flatten
from tests.contracts.rows import UNSUPPORTED

TOLERANCE = 1e-5
PER_TOKEN = (
    "masked-lm",
    "token-classification",
    "question-answering",
    "pretraining",
    "replaced-token-detection",
)

Build = Callable[[str, Head | None], Any]
Batch = dict[str, np.ndarray]


def encoded(batch: Batch, labels: np.ndarray | None = None) -> Encoded:
    """The rows of a padded batch without their padding."""
    ids, mask = (batch[name].reshape(-1, batch["input_ids"].shape[-1]) for name in INPUTS[:2])
    types = batch.get("token_type_ids", np.zeros_like(batch["input_ids"])).reshape(ids.shape)
    real, idx = mask.astype(bool), np.arange(len(ids), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int64)
    ids, types = (tokens[real].astype(np.int32) for tokens in (ids, types))
    return Encoded(ids, types, offsets, labels, idx)


def read(model: Model, batch: Batch) -> dict[str, jax.Array]:
    """The arrays of a batch that this model reads."""
    unread = () if model.config.token_types else ("token_type_ids",)
    return {name: x for name, x in inputs(model.config, batch).items() if name not in unread}


def run(model: Model, batch: Batch) -> Outputs:
    """Plain Linen."""
    with jax.disable_jit():  # operation by operation: nothing is compiled per model
        return apply(model.module, model.params, read(model, batch))


def alone(both: Any, *, padded: bool) -> list[tuple[Outputs, np.ndarray]]:
    """The outputs for each example alone, and where in them there are tokens: of the padded batch,
    or, where outputs depend on padding, of every example without any.
    """
    if padded:
        return [(both.ours, both.mask)]
    found = []
    for i, mask in enumerate(both.batch["attention_mask"]):
        length = int(mask.sum(-1).max())
        row = {field: value[i : i + 1, ..., :length] for field, value in both.batch.items()}
        real = np.ones((row["input_ids"].size // length, length), bool)
        found.append((both.apply(both.model, row), real))
    return found


def test_packed_outputs_are_those_of_each_example_alone(
    pair: Build, name: str, head: Head | None
) -> None:
    both = pair(name, head)
    source = encoded(both.batch)
    (batch,) = packed_batches(source, np.arange(len(source)), 1, len(source), 1)
    assert len(batch["input_ids"]) < len(source)
    if head == "multiple-choice":
        batch["starts"] = batch["starts"].reshape(-1, 2)
    found = run(both.model, batch)
    segments = batch["segment_ids"].ravel()

    runs = alone(both, padded=(name, "extra padding") not in UNSUPPORTED)

    def of_tokens(field: Callable[[Outputs], Any]) -> np.ndarray:
        return np.concatenate([np.asarray(field(outputs))[mask] for outputs, mask in runs])

    def packed(values: Any) -> np.ndarray:
        flat = np.asarray(values).reshape(len(segments), *np.shape(values)[2:])
        return np.concatenate([flat[segments == n + 1] for n in range(len(source))])

    for layer in range(both.model.config.num_layers + 1):
        want = of_tokens(lambda outputs, layer=layer: outputs.hidden(layer))
        np.testing.assert_allclose(packed(found.hidden(layer)), want, atol=TOLERANCE, rtol=0)
    for field in ("pooled", "sentence", "next_sentence_logits", "logits"):
        ours, get = getattr(found, field), operator.attrgetter(field)
        assert (ours is None) == (get(both.ours) is None)
        if ours is not None:
            if field == "logits" and head in PER_TOKEN:
                ours, theirs = packed(ours), of_tokens(get)
            else:
                theirs = np.concatenate([get(outputs) for outputs, _ in runs])
            np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


class Replaced(Objective):
    """`ReplacedTokens` by labels, without a generator."""

    def __call__(self, student: Outputs, given: Given) -> Term:
        labels = given.batch["labels"]
        weights = token_weights(student, given.batch, labels.shape)
        return label_term(doubts(student), labels, weights)


class NextSentence(Objective):
    """Of the second logits of the head pretraining, which no objective of the library reads."""

    def __call__(self, student: Outputs, given: Given) -> Term:
        found = student.next_sentence_logits
        assert found is not None
        return Term(jnp.square(found).sum(-1), example_weights(given.batch, len(found)))


SOFT = (0.5, SoftTargets())
TASK = Weighted(task=(1.0, TaskLoss()), soft=SOFT)
STATES = HiddenMSE(layers="uniform", project=False)

OBJECTIVES: dict[Head | None, Weighted] = {
    None: Weighted(hidden=(1.0, STATES), sentence=(1.0, SentenceMSE(project=False))),
    "masked-lm": Weighted(mlm=(1.0, MaskedLM()), soft=SOFT),
    "sequence-classification": TASK,
    "token-classification": TASK,
    "question-answering": Weighted(
        task=(1.0, TaskLoss()), soft=(0.5, SoftTargets(over="positions"))
    ),
    "multiple-choice": TASK,
    "next-sentence-prediction": TASK,
    "pretraining": Weighted(mlm=(1.0, MaskedLM()), soft=SOFT, pair=(1.0, NextSentence())),
    "replaced-token-detection": Weighted(task=(1.0, Replaced())),
}
"""What every head learns: from labels, a teacher or both."""


def labelled(source: Encoded, head: Head | None) -> Encoded:
    """With labels of the head: of each token, of answers, or of each example."""
    labels = np.arange(len(source.input_ids)) * 7 % (2 if head == "replaced-token-detection" else 5)
    if head == "question-answering":
        labels = np.stack([source.lengths // 4, source.lengths // 2], axis=1)
    elif head not in PER_TOKEN:
        labels = np.arange(1, len(source) + 1) % 2
    return dataclasses.replace(source, labels=labels.astype(np.int32))


def unpacked(source: Encoded, choices: int, *, padded: bool) -> list[Batch]:
    """All examples in one batch; or, where outputs depend on padding, each in one without any."""
    if padded:
        return list(padded_batches(source, np.arange(len(source)), 1, len(source) + choices, 1))
    found = []
    for rows in np.arange(len(source)).reshape(-1, choices):
        (batch,) = padded_batches(source, rows, 1, choices, 1)
        length = int(source.lengths[rows[0]])
        found.append({name: x[:, :length] if x.ndim > 1 else x for name, x in batch.items()})
    return found


def given(batch: Batch, choices: int, examples: int) -> Batch:
    """A batch of which only the first examples count, and whose choices are put together."""
    batch = batch | {"example_mask": batch["example_mask"] * (batch["example"] < examples)}
    if choices == 1:
        return batch
    batch |= {name: batch[name][::choices] for name in ("labels", "example_mask")}
    if "starts" in batch:
        return batch | {"starts": batch["starts"].reshape(-1, choices)}
    width = batch["input_ids"].shape[-1]
    return batch | {name: batch[name].reshape(-1, choices, width) for name in INPUTS[:3]}


def test_packed_and_unpacked_have_the_same_loss_and_gradient(
    pair: Build, name: str, head: Head | None
) -> None:
    """The last example is left out by its weight. Parts of a gradient that are far smaller than
    others have the rounding of these. Compiled with few optimizations: fusions round differently in
    the two programs, by twice as much as all else.
    """
    both, objective = pair(name, head), OBJECTIVES[head]
    model, choices = both.model, 2 if head == "multiple-choice" else 1
    source = labelled(encoded(both.batch), head)
    other = jax.tree.map(lambda x: 0.9 * x, model.params)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @jax.value_and_grad
    def loss(params: Any, batches: Sequence[Batch], arrays: Sequence[Batch]) -> Any:
        found = []
        for batch, fields in zip(batches, arrays, strict=True):
            student, teacher = (apply(model.module, x, fields) for x in (params, other))
            found.append(objective.measure({}, student, {"teacher": teacher}, batch))
        totals: Any = {term: sum(x[term].total() for x in found) for term in found[0]}
        return sum(objective.reduce(x, totals).total for x in found)

    def learned(batches: Sequence[Batch]) -> Any:
        counted = [given(batch, choices, len(source) - choices) for batch in batches]
        return loss(model.params, counted, [read(model, batch) for batch in counted])

    size = len(source) + choices
    batches = packed_batches(source, np.arange(len(source)), 1, size, 1)
    assert len(batches[0]["input_ids"]) < len(source)
    ours, our_gradient = learned(batches)
    alone = unpacked(source, choices, padded=(name, "extra padding") not in UNSUPPORTED)
    theirs, their_gradient = learned(alone)
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE)
    assert theirs > 0.01
    wanted = flatten(their_gradient)
    largest = max(float(abs(x).max()) for x in wanted.values())
    assert largest > 0.01
    for path, found in flatten(our_gradient).items():
        bound = TOLERANCE * min(1.0, largest)
        np.testing.assert_allclose(found, wanted[path], atol=bound, rtol=0, err_msg=path)
