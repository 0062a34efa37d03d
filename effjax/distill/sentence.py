"""Sentence embeddings: the student's vectors of whole texts learn the teacher's."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.distill.hidden import cosine, direction
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
    """mean_D (s W - t)^2 per example, with a learned W [D_s, D_t], of sentence embeddings s and t:
    the mean of the last hidden states over the tokens of the example.

    Student and teacher may each read tokens of their own.

    Source: arXiv 2004.09813, section 2, where both have one width. Deviation: W.

    Attributes:
        project: learns W; False compares the embeddings as they are, which then are of one width.
        teacher: the teacher's name.
    """

    project: bool = True
    teacher: str = "teacher"

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        return projection(key, student, teacher, "SentenceMSE", self.project)

    def __call__(self, student: Outputs, given: Given) -> Term:
        ours, theirs = embeddings("SentenceMSE", student, given, self.teacher)
        values = jnp.square(ours - theirs).mean(-1)
        return Term(values, example_weights(given.batch, len(values)))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        del student, teacher
        return Needs(sentence=True)


@dataclass(frozen=True, kw_only=True)
class SentenceCosine(Objective):
    """1 - cos(s W, t) per example, with a learned W [D_s, D_t], of sentence embeddings s and t as
    in `SentenceMSE`.

    Source: arXiv 1910.01108, section 2 (there of each token). Deviation: W.

    Attributes:
        project: learns W; False compares the embeddings as they are, which then are of one width.
        teacher: the teacher's name.
    """

    project: bool = True
    teacher: str = "teacher"

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        return projection(key, student, teacher, "SentenceCosine", self.project)

    def __call__(self, student: Outputs, given: Given) -> Term:
        values = 1 - cosine(*embeddings("SentenceCosine", student, given, self.teacher))
        return Term(values, example_weights(given.batch, len(values)))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        del student, teacher
        return Needs(sentence=True)


@dataclass(frozen=True, kw_only=True)
class SentenceSimilarity(Objective):
    """(cos(s_i, s_j) - cos(t_i, t_j))^2 per pair i, j of different examples of the batch, of
    sentence embeddings s and t as in `SentenceMSE`, whose widths may differ.

    Source: arXiv 1907.09682, equation 4. Deviations: cosines, where the paper divides each row of
    inner products by its length; the diagonal, where any two cosines are equal, does not count; a
    batch in parts is compared part by part.

    Attributes:
        teacher: the teacher's name.
    """

    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        ours_ND = direction(embedding(student, "student"))
        theirs_ND = direction(embedding(given.teacher, f"teacher {self.teacher!r}"))
        ours_NN, theirs_NN = ours_ND @ ours_ND.T, theirs_ND @ theirs_ND.T
        weights_N = example_weights(given.batch, len(ours_ND))
        weights_NN = weights_N[:, None] * weights_N * (1 - jnp.eye(len(ours_ND)))
        return Term(jnp.square(ours_NN - theirs_NN), weights_NN)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        del student, teacher
        return Needs(sentence=True)


def projection(
    key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None, who: str, learned: bool
) -> Aux:
    """W, N(0, 1 / D_s), if it is learned.

    Raises:
        ValueError: it is not, and widths differ.
    """
    teacher = known(teacher)
    if not learned:
        check_widths(who, student.hidden, teacher.hidden)
        return {}
    shape, scale = (student.hidden, teacher.hidden), student.hidden**-0.5
    return {PROJECTION: scale * jax.random.normal(key, shape)}


def embeddings(
    who: str, student: Outputs, given: Given, teacher: str
) -> tuple[Float[Array, "examples D"], Float[Array, "examples D"]]:
    """Those of the student, in the teacher's width where there is a projection, and the teacher's.

    Raises:
        ValueError: the outputs have none, or widths differ.
    """
    ours = embedding(student, "student")
    theirs = embedding(given.teacher, f"teacher {teacher!r}")
    if PROJECTION in given.aux:
        ours = ours @ given.aux[PROJECTION]
    check_widths(who, ours.shape[-1], theirs.shape[-1])
    return ours, theirs


def embedding(outputs: Outputs, whose: str) -> Float[Array, "examples D"]:
    """The embedding of each example in float32.

    Raises:
        ValueError: the outputs have none.
    """
    if outputs.sentence is None:
        raise ValueError(f"the {whose} has no sentence embeddings: they were not kept")
    return outputs.sentence.astype(jnp.float32)
