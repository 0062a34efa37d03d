"""Contract: an example has the same outputs, loss and gradients packed with others as alone."""

import operator
from collections.abc import Callable
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


def run(model: Model, batch: Batch, params: Any = None) -> Outputs:
    """Plain Linen on the arrays of a batch that this model reads."""
    given = dict(inputs(model.config, batch))
    if not model.config.token_types:
        del given["token_type_ids"]
    params = model.params if params is None else params
    with jax.disable_jit():  # operation by operation: nothing is compiled per model
        return model.module.apply({"params": params}, given)  # pyright: ignore[reportReturnType]


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


LABELS = {
    "sequence-classification": np.array([3, 0, 2], np.int32),
    "token-classification": (np.arange(19, dtype=np.int32) * 7) % 5,
    "question-answering": np.array([[2, 9], [0, 6], [0, 0]], np.int32),
}


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=() if head == "question-answering" else pytest.mark.slow)
        for head in LABELS
    ],
)
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
