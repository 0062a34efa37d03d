"""ELECTRA's losses against numbers worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effjax.distill import GeneratorLM, Given, ReplacedTokens
from effjax.models.base import Outputs

Build = Callable[..., Outputs]

# Tokens 5 6 7 8, of which 6 and 7 are masked; the generator guesses 9 and, luckily, 7.
BATCH = {
    "input_ids": np.array([[5, 4, 4, 8]], np.int32),
    "labels": np.array([[-100, 6, 7, -100]], np.int32),
}
CORRUPTED = np.array([[5, 9, 7, 8]], np.int32)


@pytest.fixture
def student(outputs: Build) -> Outputs:
    """Everywhere sure of "original" with probability 3/4; the last token is padding."""
    found = outputs(logits=[[[np.log(3.0), 0.0]] * 4], mask=[[1, 1, 1, 0]])
    guess = np.zeros((1, 4, 10), np.float32)
    guess[0, 1, 6] = np.log(3.0)  # 3 of 12
    return replace(found, generator_logits=guess, corrupted=CORRUPTED)


def call(objective: Any, student: Outputs, batch: dict[str, np.ndarray]) -> Any:
    return objective(student, Given(batch=batch))


def test_a_lucky_guess_is_original(student: Outputs) -> None:
    """Three tokens count: 5 and 7 are original, 9 is not."""
    found = call(ReplacedTokens(), student, BATCH)
    assert found.weights.tolist() == [[1, 1, 1, 0]]
    wanted = (2 * np.log(4 / 3) + np.log(4.0)) / 3
    np.testing.assert_allclose(found.mean(), wanted, rtol=1e-6)


def test_the_generator_is_asked_for_the_masked_words(student: Outputs) -> None:
    found = call(GeneratorLM(), student, BATCH)
    assert found.weights.tolist() == [[0, 1, 1, 0]]
    np.testing.assert_allclose(found.mean(), (np.log(4.0) + np.log(10.0)) / 2, rtol=1e-6)


def test_logits_of_predicted_tokens_alone_say_the_same(student: Outputs) -> None:
    """The masked places 1 and 2, and 4, where the row has ended."""
    batch = {**BATCH, "predicted": np.array([[1, 2, 4]], np.int32)}
    guess = np.asarray(student.generator_logits)
    fewer = replace(student, generator_logits=np.concatenate([guess[:, 1:3], guess[:, :1]], axis=1))
    found = call(GeneratorLM(), fewer, batch)
    assert found.weights.tolist() == [[1, 1, 0]]
    np.testing.assert_allclose(found.mean(), (np.log(4.0) + np.log(10.0)) / 2, rtol=1e-6)
    assert call(ReplacedTokens(), fewer, batch).weights.tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("objective", [GeneratorLM(), ReplacedTokens()])
def test_what_is_missing_is_named(student: Outputs, outputs: Build, objective: Any) -> None:
    with pytest.raises(ValueError, match="the student has no generator"):
        call(objective, outputs(logits=[[[0.0, 0.0]] * 4]), BATCH)
    with pytest.raises(ValueError, match="needs labels, the batch has input_ids"):
        call(objective, student, {"input_ids": BATCH["input_ids"]})
