"""Soft targets against numbers worked out by hand."""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import Given, LogitMSE, Needs, Objective, SoftTargets, Term, Weighted
from effjax.models.base import EncoderConfig, Head, Outputs
from effjax.types import Array

Build = Callable[..., Outputs]


def term(objective: SoftTargets, student: Outputs, teacher: Outputs, **batch: list) -> Term:
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    return objective(student, Given(teacher=teacher, batch=arrays))


def test_the_divergence_by_hand(outputs: Build) -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 log 3/2 + 1/4 log 1/2."""
    student, teacher = outputs(logits=[[0.0, 0.0]]), outputs(logits=[[np.log(3.0), 0.0]])
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(term(SoftTargets(), student, teacher).values, [want], rtol=1e-6)


def test_temperature_divides_logits_and_multiplies_by_its_square(outputs: Build) -> None:
    student, teacher = outputs(logits=[[0.0, 0.0]]), outputs(logits=[[2 * np.log(3.0), 0.0]])
    want = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    found = term(SoftTargets(temperature=2.0), student, teacher)
    np.testing.assert_allclose(found.values, [want], rtol=1e-6)


def test_gradients_keep_their_size_at_high_temperature(outputs: Build) -> None:
    """As T grows, the gradient tends to (z_s - z_t) / C for centred logits, whatever T is."""
    ours, theirs = jnp.array([[0.3, -0.1, -0.2]]), jnp.array([[-0.4, 0.6, -0.2]])

    def loss(logits: jax.Array, temperature: float) -> Array:
        objective = SoftTargets(temperature=temperature)
        return term(objective, outputs(logits=logits), outputs(logits=theirs)).mean()

    found = jax.grad(lambda logits: loss(logits, 100.0))(ours)
    np.testing.assert_allclose(found, (ours - theirs) / 3, atol=2e-3)


def test_gradient_is_that_of_the_cross_entropy(outputs: Build) -> None:
    theirs = jnp.array([[1.0, -2.0, 0.5]])

    def entropy(logits: jax.Array) -> Array:
        return -(jax.nn.softmax(theirs / 2) * jax.nn.log_softmax(logits / 2)).sum() * 4

    def loss(logits: jax.Array) -> Array:
        objective = SoftTargets(temperature=2.0)
        return term(objective, outputs(logits=logits), outputs(logits=theirs)).mean()

    ours = jnp.array([[0.2, 0.1, -0.7]])
    np.testing.assert_allclose(jax.grad(loss)(ours), jax.grad(entropy)(ours), atol=1e-6)


def test_zero_at_student_equal_to_teacher(outputs: Build) -> None:
    same = outputs(logits=[[0.3, -4.0, 2.0]])
    assert abs(term(SoftTargets(temperature=3.0), same, same).mean()) < 1e-6


def test_examples_that_fill_up_a_batch_count_for_nothing(outputs: Build) -> None:
    student, teacher = outputs(logits=[[0.0, 0.0], [9.0, 0.0]]), outputs(logits=[[1.0, 0.0]] * 2)
    alone = term(SoftTargets(), outputs(logits=[[0.0, 0.0]]), outputs(logits=[[1.0, 0.0]]))
    found = term(SoftTargets(), student, teacher, example_mask=[1.0, 0.0])
    np.testing.assert_allclose(found.mean(), alone.mean(), rtol=1e-6)


def test_tokens_of_padding_count_for_nothing(outputs: Build) -> None:
    mask = [[1, 0]]
    student = outputs(logits=[[[0.0, 0.0], [9.0, 0.0]]], mask=mask)
    teacher = outputs(logits=[[[np.log(3.0), 0.0], [0.0, 0.0]]], mask=mask)
    found = term(SoftTargets(), student, teacher)
    assert found.values.shape == (1, 2)
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(found.mean(), want, rtol=1e-6)


def test_of_predicted_tokens_alone_there_are_weights(outputs: Build) -> None:
    """The second token of three, and a place behind the row."""
    mask, predicted = [[1, 1, 0]], np.array([[1, 3]], np.int32)
    student = outputs(logits=[[[0.0, 0.0], [9.0, 0.0]]], mask=mask)
    teacher = outputs(logits=[[[np.log(3.0), 0.0], [0.0, 0.0]]], mask=mask)
    found = term(SoftTargets(), student, teacher, predicted=predicted.tolist())
    assert found.weights.tolist() == [[1, 0]]
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(found.mean(), want, rtol=1e-6)


def test_over_positions_the_softmax_runs_over_tokens(outputs: Build) -> None:
    """Start: teacher (3/4, 1/4), student even. End: equal. The third token is padding."""
    mask = [[1, 1, 0]]
    student = outputs(logits=[[[0.0, 1.0], [0.0, 1.0], [7.0, 7.0]]], mask=mask)
    teacher = outputs(logits=[[[np.log(3.0), 1.0], [0.0, 1.0], [0.0, 0.0]]], mask=mask)
    found = term(SoftTargets(over="positions"), student, teacher, example_mask=[1.0])
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(found.values, [[want, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found.mean(), want / 2, rtol=1e-5)


def test_low_precision_logits_are_compared_in_float32(outputs: Build) -> None:
    ours, theirs = outputs(logits=[[0.5, 0.25]]), outputs(logits=[[1.5, 0.25]])
    low = Outputs(logits=jnp.asarray([[0.5, 0.25]], jnp.bfloat16))
    found = term(SoftTargets(), low, theirs)
    assert found.values.dtype == jnp.float32
    np.testing.assert_allclose(found.values, term(SoftTargets(), ours, theirs).values, rtol=1e-6)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ([[0.0, 1.0]], [[0.0, 1.0, 2.0]], r"\(1, 2\).*\(1, 3\)"),
        ([[0.0]], [[1.0]], "a regression"),
        ([[0.0, 1.0]], None, "'teacher' has no logits"),
        (None, [[0.0, 1.0]], "the student has no logits"),
    ],
)
def test_bad_logits_are_one_line(
    outputs: Build, student: list | None, teacher: list | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        term(SoftTargets(), outputs(logits=student), outputs(logits=teacher))
    assert "\n" not in str(caught.value)


def test_a_missing_teacher_names_those_there_are(outputs: Build) -> None:
    objective = Weighted(soft=(1.0, SoftTargets(teacher="big")))
    with pytest.raises(ValueError, match="'big'; teachers: small"):
        objective({}, outputs(logits=[[0.0]]), {"small": outputs(logits=[[0.0]])}, {})


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature is 0"):
        SoftTargets(temperature=0.0)


def test_logits_as_they_are(outputs: Build) -> None:
    student, teacher = (
        outputs(logits=[[1.0, 2.0], [0.0, 0.0]]),
        outputs(logits=[[1.0, 5.0], [2, 0]]),
    )
    found = LogitMSE()(student, Given(teacher=teacher))
    np.testing.assert_allclose(found.values, [4.5, 2.0])
    with pytest.raises(ValueError, match="LogitMSE: the student's logits are"):
        LogitMSE()(student, Given(teacher=outputs(logits=[[1.0]])))


CLASSES, POSITIONS = SoftTargets(), SoftTargets(over="positions")
FITTING: dict[Head, tuple[Objective, ...]] = {
    **dict.fromkeys(get_args(Head), (CLASSES, LogitMSE())),
    "question-answering": (POSITIONS, LogitMSE()),
    "replaced-token-detection": (),
}
"""What every head's logits can be learned with."""


@pytest.mark.parametrize("head", get_args(Head))
def test_a_softmax_runs_over_what_the_logits_of_a_head_are_over(
    config: EncoderConfig, head: Head
) -> None:
    """Of either side; the other has no head."""
    headed = config.replace(head=head)
    for objective in (CLASSES, POSITIONS, LogitMSE()):
        if objective in FITTING[head]:
            assert objective.needs(headed, headed) == Needs(logits=True)
            continue
        bare = config.replace(head="question-answering" if objective == POSITIONS else None)
        for whose, pair in {"student": (headed, bare), "teacher": (bare, headed)}.items():
            message = f"head of the {whose} (is )?{head}[,;].* expected (over|one with logits over)"
            with pytest.raises(ValueError, match=message) as caught:
                objective.needs(*pair)
            assert "\n" not in str(caught.value)


def test_the_softmax_that_a_head_wants_is_named(config: EncoderConfig) -> None:
    for objective, head, right in (
        (CLASSES, "question-answering", "positions"),
        (POSITIONS, "sequence-classification", "classes"),
    ):
        headed = config.replace(head=head)
        message = f"over is '{objective.over}', and the head of the student {head}; expected over="
        with pytest.raises(ValueError, match=f"^SoftTargets: {message}'{right}'$"):
            objective.needs(headed, headed)
