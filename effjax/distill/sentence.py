"""Sentence embeddings: the student's vector of a text learns the teacher's."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.distill.objective import (
    Given,
    Needs,
    Objective,
    Term,
    check_widths,
    example_weights,
    known,
)
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array, Aux, Float

PROJECTION = "sentence"


@dataclass(frozen=True, kw_only=True)
class SentenceMSE(Objective):
    """mean_D (s_s W - s_t)^2 per example, with a learned W [D_s, D_t]; s is the mean of the last
    hidden states over the tokens of the example.

    Student and teacher may each read tokens of their own.

    Source: arXiv 2004.09813, section 2, where both have one width. Deviation: W, where they have
    not, or where it is asked for.

    Attributes:
        project: learns W; False compares the embeddings as they are, which then are of one width.
        teacher: the teacher's name.
    """

    project: bool = True
    teacher: str = "teacher"

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        """W, N(0, 1 / D_s)."""
        teacher = known(teacher)
        if not self.project:
            check_widths("SentenceMSE", student.hidden, teacher.hidden)
            return {}
        shape, scale = (student.hidden, teacher.hidden), student.hidden**-0.5
        return {PROJECTION: scale * jax.random.normal(key, shape)}

    def __call__(self, student: Outputs, given: Given) -> Term:
        theirs = embedding(given.teacher, f"teacher {self.teacher!r}")
        ours = embedding(student, "student")
        ours = ours @ given.aux[PROJECTION] if self.project else ours
        check_widths("SentenceMSE", ours.shape[-1], theirs.shape[-1])
        values = jnp.square(ours - theirs).mean(-1)
        return Term(values, example_weights(given.batch, len(values)))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        del student, teacher
        return Needs(sentence=True)


def embedding(outputs: Outputs, whose: str) -> Float[Array, "examples D"]:
    """The embedding of each example in float32.

    Raises:
        ValueError: the outputs have none.
    """
    if outputs.sentence is None:
        raise ValueError(f"the {whose} has no sentence embeddings: they were not kept")
    return outputs.sentence.astype(jnp.float32)
