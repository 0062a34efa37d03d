"""Contract: an example has the same outputs, loss and gradients packed with others as alone."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data import Encoded
from effjax.data.layouts import packed_batches, padded_batches
from effjax.distill import SoftTargets, TaskLoss, Weighted
from effjax.models import Model
from effjax.models.base import Head, Outputs
from effjax.models.model import INPUTS, inputs
from effjax.tree import flatten
from tests.contracts.rows import UNSUPPORTED

TOLERANCE = 1e-5
PER_TOKEN = ("masked-lm", "token-classification", "question-answering", "pretraining")

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


def run(model: Model, batch: Batch, params: Any = None) -> Outputs:
    """Plain Linen on the arrays of a batch that this model reads."""
    given = dict(inputs(model.config, batch))
    if not model.config.token_types:
        del given["token_type_ids"]
    params = model.params if params is None else params
    return model.module.apply({"params": params}, given)  # pyright: ignore[reportReturnType]


def rows_alone(batch: Batch) -> Iterator[Batch]:
    """Each example of a padded batch in a row of its own, without padding."""
    wide = batch["attention_mask"].ndim == 3
    flat = {name: value.reshape(-1, value.shape[-1]) for name, value in batch.items()}
    for i, length in enumerate(flat["attention_mask"].sum(axis=1)):
        row = {name: value[i : i + 1, :length] for name, value in flat.items()}
        yield {name: value[None] for name, value in row.items()} if wide else row


def test_packed_outputs_are_those_of_each_example_alone(
    pair: Build, name: str, head: Head | None
) -> None:
    """Alone is in a padded row, or where padding is read, in a row without."""
    both = pair(name, head)
    reads_padding = (name, "extra padding") in UNSUPPORTED
    lone = [run(both.model, row) for row in rows_alone(both.batch)] if reads_padding else []
    source = encoded(both.batch)
    (batch,) = packed_batches(source, np.arange(len(source)), 1, len(source), 1)
    assert len(batch["input_ids"]) < len(source)
    if head == "multiple-choice":
        batch["starts"] = batch["starts"].reshape(-1, 2)
    found = run(both.model, batch)
    segments = batch["segment_ids"].ravel()

    def alone(of: Callable[[Outputs], Any], per_token: bool = True) -> np.ndarray:
        values, rows = np.asarray(of(both.ours)), [np.asarray(of(one)) for one in lone]
        if per_token:
            return np.concatenate([row[0] for row in rows]) if lone else values[both.mask]
        return np.concatenate(rows).reshape(values.shape) if lone else values

    def packed(values: Any) -> np.ndarray:
        flat = np.asarray(values).reshape(len(segments), -1)
        return np.concatenate([flat[segments == n + 1] for n in range(len(source))])

    for layer in range(both.model.config.num_layers + 1):
        want = alone(lambda outputs, layer=layer: outputs.hidden(layer))
        np.testing.assert_allclose(packed(found.hidden(layer)), want, atol=TOLERANCE, rtol=0)
    for field in ("pooled", "next_sentence_logits", "logits"):
        ours = getattr(found, field)
        assert (ours is None) == (getattr(both.ours, field) is None)
        if ours is not None:
            per_token = field == "logits" and head in PER_TOKEN
            want = alone(operator.attrgetter(field), per_token)
            ours = packed(ours) if per_token else ours
            np.testing.assert_allclose(ours, want, atol=TOLERANCE, rtol=0)


LABELS = {
    "sequence-classification": np.array([3, 0, 2], np.int32),
    "token-classification": (np.arange(19, dtype=np.int32) * 7) % 5,
    "question-answering": np.array([[2, 9], [0, 6], [0, 0]], np.int32),
}


@pytest.mark.parametrize("head", LABELS)
def test_packed_and_padded_have_the_same_loss_and_gradient(pair: Build, head: Head) -> None:
    """Labels and a teacher; the third example is left out of the batch by its weight."""
    model = pair("bert", head).model
    over = "positions" if head == "question-answering" else "classes"
    objective = Weighted(task=(1.0, TaskLoss()), soft=(0.5, SoftTargets(over=over)))
    source = encoded(pair("bert", head).batch, LABELS[head])
    other = jax.tree.map(lambda x: 0.9 * x, model.params)

    def loss(params: Any, batch: Batch) -> Any:
        teachers = {"teacher": run(model, batch, other)}
        return objective({}, run(model, batch, params), teachers, batch).total

    found = []
    for make in (packed_batches, padded_batches):
        (batch,) = make(source, np.array([0, 1, 2]), 1, 4, 1)
        batch["example_mask"] = np.array([1, 1, 0, 0], np.float32)
        found.append(jax.value_and_grad(loss)(model.params, batch))
    (packed, packed_gradient), (padded, padded_gradient) = found
    assert float(packed) == pytest.approx(float(padded), abs=TOLERANCE)
    assert float(padded) > 0.1
    for path, ours in flatten(packed_gradient).items():
        theirs = flatten(padded_gradient)[path]
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0, err_msg=path)
