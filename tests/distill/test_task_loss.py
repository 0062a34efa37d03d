"""The losses of the labels against numbers worked out by hand."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from effjax.distill import Given, MaskedLM, Objective, TaskLoss, Term
from effjax.models.base import Outputs
from effjax.types import Array

Build = Callable[..., Outputs]


def term(objective: Objective, student: Outputs, **batch: Any) -> Term:
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    return objective(student, Given(batch=arrays))


LOGITS = [[np.log(3.0), 0.0], [0.0, 0.0]]  # probabilities (3/4, 1/4) and (1/2, 1/2)


def test_cross_entropy(outputs: Build) -> None:
    found = term(TaskLoss(), outputs(logits=LOGITS), labels=[1, 0])
    np.testing.assert_allclose(found.values, [np.log(4.0), np.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(found.mean(), (np.log(4.0) + np.log(2.0)) / 2, rtol=1e-6)


def test_rows_that_fill_up_a_batch_count_for_nothing(outputs: Build) -> None:
    found = term(TaskLoss(), outputs(logits=LOGITS), labels=[1, 0], example_mask=[0.0, 1.0])
    np.testing.assert_allclose(found.mean(), np.log(2.0), rtol=1e-6)


def test_float_labels_are_a_regression(outputs: Build) -> None:
    labels = np.array([3.0, 0.0], np.float32)
    found = term(TaskLoss(), outputs(logits=[[1.0], [0.5]]), labels=labels)
    np.testing.assert_allclose(found.values, [4.0, 0.25])


def test_per_token_labels_ignore_minus_100_and_padding(outputs: Build) -> None:
    student = outputs(logits=[[*LOGITS, [5.0, 0.0]]], mask=[[1, 1, 0]])
    for objective in (TaskLoss(), MaskedLM()):
        np.testing.assert_allclose(
            term(objective, student, labels=[[1, -100, 1]]).mean(), np.log(4.0), rtol=1e-6
        )


def test_no_masked_token_at_all_is_zero_with_a_zero_gradient(outputs: Build) -> None:
    def loss(logits: jax.Array) -> Array:
        return term(MaskedLM(), outputs(logits=logits), labels=[[-100, -100]]).mean()

    value, gradient = jax.value_and_grad(loss)(np.asarray([LOGITS], np.float32))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_question_answering_is_the_mean_of_start_and_end(outputs: Build) -> None:
    """Over the two tokens that are not padding: start (3/4, 1/4), end (1/2, 1/2)."""
    logits = [[[np.log(3.0), 0.0], [0.0, 0.0], [8.0, 8.0]]]
    student = outputs(logits=logits, mask=[[1, 1, 0]])
    found = term(TaskLoss(), student, start_positions=[1], end_positions=[1])
    np.testing.assert_allclose(found.mean(), (np.log(4.0) + np.log(2.0)) / 2, rtol=1e-6)


def test_answers_outside_the_input_are_ignored(outputs: Build) -> None:
    logits = [[[0.0, 0.0], [0.0, 0.0]]]
    found = term(TaskLoss(), outputs(logits=logits), start_positions=[2], end_positions=[0])
    np.testing.assert_allclose(found.mean(), np.log(2.0), rtol=1e-6)
    assert found.weights.sum() == 1


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        (TaskLoss(), {"input_ids": [[1]]}, "TaskLoss needs labels, the batch has input_ids"),
        (TaskLoss(), {"labels": [[1, 0, 0]]}, "do not fit"),
        (TaskLoss(), {"labels": np.ones(2, np.float32)}, "float labels"),
        (MaskedLM(), {"labels": [1, 0]}, "one label per token"),
        (TaskLoss(), {"labels": [1, 0], "example_mask": [1.0] * 3}, "example_mask has 3"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(
    outputs: Build, objective: Objective, batch: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        term(objective, outputs(logits=LOGITS), **batch)
    assert "\n" not in str(caught.value)
