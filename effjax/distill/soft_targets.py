"""The teacher's logits: as a distribution over classes, or as they are."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from effjax.choices import check_choices
from effjax.distill.objective import (
    EXCLUDED,
    Given,
    Needs,
    Objective,
    Term,
    at_predicted,
    example_weights,
    logits,
    token_weights,
)
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array, Batch, Bool, Float

Over = Literal["classes", "positions"]


@dataclass(frozen=True, kw_only=True)
class SoftTargets(Objective):
    """T^2 KL(softmax(z_t / T) || softmax(z_s / T)), per example, or per token of logits [B, L, C].

    Source: arXiv 1503.02531, section 2. Deviation: the divergence in place of the cross-entropy,
    which differs by the teacher's entropy alone: the gradient is the same, and a student equal to
    its teacher has a loss of zero.

    Attributes:
        temperature: T; the factor T^2 keeps gradients of one size whatever T is.
        over: what the softmax runs over: "classes" or choices, or "positions" for question
            answering alone, whose start and end logits [B, L, 2] are each a distribution over the
            tokens.
        teacher: the teacher's name.
    """

    temperature: float = 1.0
    over: Over = "classes"
    teacher: str = "teacher"

    def __post_init__(self) -> None:
        check_choices(self, "SoftTargets: ")
        if not self.temperature > 0:
            raise ValueError(
                f"SoftTargets: temperature is {self.temperature}; expected a number above 0"
            )

    def __call__(self, student: Outputs, given: Given) -> Term:
        ours, theirs = both_logits("SoftTargets", student, given, self.teacher)
        if self.over == "positions":
            ours, theirs = (over_positions(x, student, given.batch) for x in (ours, theirs))
        elif ours.shape[-1] == 1:
            raise ValueError(
                "SoftTargets needs two classes or more, these logits have one (a regression)"
            )
        values = self.temperature**2 * divergence(
            ours / self.temperature, theirs / self.temperature
        )
        return Term(values, logit_weights(values, student, given.batch, self.over))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        check_heads("SoftTargets", student, teacher, self.over)
        return Needs(logits=True)


@dataclass(frozen=True, kw_only=True)
class LogitMSE(Objective):
    """mean_C (z_s - z_t)^2, per example, or per token of logits [B, L, C].

    Source: arXiv 1312.6184, section 2.2; of regressions too, where C is 1. Deviation: the mean over
    classes in place of half their sum.

    Attributes:
        teacher: the teacher's name.
    """

    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        ours, theirs = both_logits("LogitMSE", student, given, self.teacher)
        values = jnp.square(ours - theirs).mean(-1)
        return Term(values, logit_weights(values, student, given.batch, "classes"))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        check_heads("LogitMSE", student, teacher)
        return Needs(logits=True)


def check_heads(
    who: str, student: EncoderConfig, teacher: EncoderConfig | None, over: Over | None = None
) -> None:
    """Raises a ValueError for a head whose logits are not over classes, choices or positions.

    Args:
        over: what a softmax runs over, which has to be what those of the head are over.
    """
    heads = {"student": student.head} | ({} if teacher is None else {"teacher": teacher.head})
    for whose, head in heads.items():
        if head == "replaced-token-detection":
            raise ValueError(
                f"{who}: the head of the {whose} is {head}, which has one logit per token; "
                "expected one with logits over classes, choices or positions"
            )
        right = "positions" if head == "question-answering" else "classes"
        if over not in (None, right):
            raise ValueError(
                f"{who}: over is {over!r}, and the head of the {whose} {head}; "
                f"expected over={right!r}"
            )


def both_logits(
    who: str, student: Outputs, given: Given, teacher: str
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The student's logits and the teacher's, in float32.

    Raises:
        ValueError: one has none, or they are not of one shape.
    """
    ours, theirs = logits(student, "student"), logits(given.teacher, f"teacher {teacher!r}")
    if ours.shape != theirs.shape:
        raise ValueError(
            f"{who}: the student's logits are {ours.shape}, "
            f"those of the teacher {teacher!r} {theirs.shape}"
        )
    return ours, theirs


def logit_weights(
    values: Float[Array, "..."], student: Outputs, batch: Batch, over: Over
) -> Float[Array, "..."]:
    """Per example [B], per token [B, L] or predicted token [B, P], or per example for start and end
    alike [B, 2].
    """
    if values.ndim == 1:
        return example_weights(batch, len(values))
    if over == "positions":
        return jnp.broadcast_to(example_weights(batch, len(values))[:, None], values.shape)
    shape = values.shape if student.mask is None else student.mask.shape
    return at_predicted(token_weights(student, batch, shape), batch, 0.0)


def divergence(student: Float[Array, "*B C"], teacher: Float[Array, "*B C"]) -> Float[Array, "*B"]:
    """KL(softmax(teacher) || softmax(student)) over the last axis."""
    log_student, log_teacher = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
    return (jnp.exp(log_teacher) * (log_teacher - log_student)).sum(-1)


def over_positions(
    logits_BLC: Float[Array, "B L C"], outputs: Outputs, batch: Batch
) -> Float[Array, "examples C L"]:
    """Each example's logits with the positions last, what is not its own excluded."""
    mask_BL = outputs.mask
    if "segment_ids" in batch:
        logits_BLC, mask_BL = unpacked(logits_BLC, batch)
    logits_BCL = logits_BLC.swapaxes(1, 2)
    return logits_BCL if mask_BL is None else jnp.where(mask_BL[:, None], logits_BCL, EXCLUDED)


def unpacked(
    values_BLX: Float[Array, "B L X"], batch: Batch
) -> tuple[Float[Array, "examples L X"], Bool[Array, "examples L"]]:
    """What belongs to each example of packed rows, from its first token on, and where that ends."""
    segments, starts = jnp.asarray(batch["segment_ids"]).ravel(), jnp.asarray(batch["starts"])
    at = starts[:, None] + jnp.arange(values_BLX.shape[1])
    inside = at < len(segments)
    at = jnp.where(inside, at, 0)
    return values_BLX.reshape(-1, values_BLX.shape[-1])[at], inside & (
        segments[at] == segments[starts][:, None]
    )
