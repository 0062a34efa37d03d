"""Attention objectives: the student's heads look where the teacher's look."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp

from effjax.distill.layer_maps import LayerMap, resolve
from effjax.distill.objective import (
    EXCLUDED,
    Given,
    Needs,
    Objective,
    Term,
    known,
    neighbours,
    token_weights,
)
from effjax.distill.soft_targets import divergence
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array, Batch, Bool, Float


@dataclass(frozen=True, kw_only=True)
class AttentionMSE(Objective):
    """mean_m (a_s[l, m] - a_t[l, m])^2 per layer pair, head and query l, of the scores
    a = q k^T / sqrt(K) before the softmax; m runs over the tokens of l's example.

    Source: arXiv 1909.10351, section 3.1, L_attn. Deviation: the mean over layer pairs in place of
    their sum.

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs; layer 1 is the first.
        teacher: the teacher's name.
    """

    layers: LayerMap = "uniform"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        own = neighbours(student, given.batch)
        values = []
        for ours, theirs in score_pairs("AttentionMSE", self.layers, student, given.teacher):
            squares = jnp.where(own, jnp.square(ours - theirs), 0.0)
            values.append(squares.sum(-1) / jnp.maximum(own.sum(-1), 1))
        return over_queries(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return scores_needed(self.layers, student, teacher)


@dataclass(frozen=True, kw_only=True)
class AttentionKL(Objective):
    """KL(A_t[l] || A_s[l]) per layer pair, head and query l, of the weights A = softmax(a).

    Source: arXiv 2002.10957, section 3.1 (of the last layer); 2004.02984, "attention transfer" (of
    every layer).

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs; layer 1 is the first.
        teacher: the teacher's name.
    """

    layers: LayerMap = "last"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        own = neighbours(student, given.batch)
        pairs = score_pairs("AttentionKL", self.layers, student, given.teacher)
        values = [divergence_within(own, ours, theirs) for ours, theirs in pairs]
        return over_queries(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return scores_needed(self.layers, student, teacher)


def score_pairs(
    who: str, layers: LayerMap, student: Outputs, teacher: Outputs
) -> Iterator[tuple[Float[Array, "B H L M"], Float[Array, "B H L M"]]]:
    """The scores of each pair of layers in float32.

    Raises:
        ValueError: there are none, or the two have not as many heads over as many tokens.
    """
    for pair in resolve(layers, len(student.layers), len(teacher.layers)):
        ours, theirs = student.of_layer("scores", pair[0]), teacher.of_layer("scores", pair[1])
        if ours.shape != theirs.shape:
            raise ValueError(
                f"{who}: layer {pair[0]} of the student has scores {ours.shape}, layer {pair[1]} "
                f"of the teacher {theirs.shape}; heads and tokens have to be as many"
            )
        yield ours.astype(jnp.float32), theirs.astype(jnp.float32)


def divergence_within(
    own: Bool[Array, "B 1 #L M"], student: Float[Array, "B H L M"], teacher: Float[Array, "B H L M"]
) -> Float[Array, "B H L"]:
    """KL(softmax(teacher) || softmax(student)) over the keys that each query may see."""
    return divergence(*(jnp.where(own, x, EXCLUDED) for x in (student, teacher)))


def over_queries(values: list[Float[Array, "B H L"]], student: Outputs, batch: Batch) -> Term:
    """The values of all pairs as one term [pairs, B, H, L]; padding counts for nothing."""
    stacked = jnp.stack(values)
    weights_BL = token_weights(student, batch, (stacked.shape[1], stacked.shape[3]))
    return Term(stacked, jnp.broadcast_to(weights_BL[:, None], stacked.shape))


def scores_needed(layers: LayerMap, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
    """The teacher's side of the map."""
    pairs = resolve(layers, student.num_layers, known(teacher).num_layers)
    return Needs(scores=tuple(sorted({theirs for _, theirs in pairs})))
