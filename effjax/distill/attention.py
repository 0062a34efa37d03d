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

Scores = tuple[Float[Array, "B H L M"], Bool[Array, "B 1 #L M"]]
"""What the heads of a layer give each key, in float32, and which keys each query sees."""


@dataclass(frozen=True, kw_only=True)
class AttentionMSE(Objective):
    """mean_m (a_s[l, m] - a_t[l, m])^2 per layer pair, head and query l, of the scores
    a = q k^T / sqrt(K) before the softmax; m runs over the tokens of l's example that both layers
    of the pair reach.

    Source: arXiv 1909.10351, section 3.1, L_attn. Deviation: the mean over layer pairs in place of
    their sum.

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs; layer 1 is the first.
        teacher: the teacher's name.
    """

    layers: LayerMap = "uniform"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        values = []
        for ours, theirs in score_pairs("AttentionMSE", self.layers, student, given):
            seen = ours[1] & theirs[1]
            squares = jnp.where(seen, jnp.square(ours[0] - theirs[0]), 0.0)
            values.append(squares.sum(-1) / jnp.maximum(seen.sum(-1), 1))
        return over_queries(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return scores_needed(self.layers, student, teacher)


@dataclass(frozen=True, kw_only=True)
class AttentionKL(Objective):
    """KL(A_t[l] || A_s[l]) per layer pair, head and query l, of the weights A = softmax(a), each
    over what its layer reaches. The student's layer reaches as far as the teacher's or further,
    since what it gives no weight is infinitely far from what the teacher gives some.

    Source: arXiv 2002.10957, section 3.1 (of the last layer); 2004.02984, "attention transfer" (of
    every layer).

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs; layer 1 is the first.
        teacher: the teacher's name.
    """

    layers: LayerMap = "last"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        check_reaches(self.layers, student, given.teacher)
        pairs = score_pairs("AttentionKL", self.layers, student, given)
        values = [divergence_within(ours, theirs) for ours, theirs in pairs]
        return over_queries(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        check_reaches(self.layers, student, known(teacher))
        return scores_needed(self.layers, student, teacher)


def score_pairs(
    who: str, layers: LayerMap, student: Outputs, given: Given
) -> Iterator[tuple[Scores, Scores]]:
    """The scores of each pair of layers.

    Raises:
        ValueError: there are none, or the two have not as many heads over as many tokens.
    """
    teacher = given.teacher
    for pair in resolve(layers, len(student.layers), len(teacher.layers), first=1):
        ours, theirs = student.of_layer("scores", pair[0]), teacher.of_layer("scores", pair[1])
        if ours.shape != theirs.shape:
            raise ValueError(
                f"{who}: layer {pair[0]} of the student has scores {ours.shape}, layer {pair[1]} "
                f"of the teacher {theirs.shape}; heads and tokens have to be as many"
            )
        reaches = student.layers[pair[0] - 1].reach, teacher.layers[pair[1] - 1].reach
        our_keys, their_keys = (neighbours(student, given.batch, reach) for reach in reaches)
        yield (ours.astype(jnp.float32), our_keys), (theirs.astype(jnp.float32), their_keys)


def check_reaches(
    layers: LayerMap, student: EncoderConfig | Outputs, teacher: EncoderConfig | Outputs
) -> None:
    """Raises a ValueError for a layer of the student that reaches less than its teacher's."""
    for ours, theirs in resolve(layers, len(student.layers), len(teacher.layers), first=1):
        reach, wanted = student.layers[ours - 1].reach, teacher.layers[theirs - 1].reach
        if reach is not None and (wanted is None or wanted > reach):
            raise ValueError(
                f"AttentionKL: layer {ours} of the student reaches {reach} places, layer {theirs} "
                f"of the teacher {wanted or 'all'}; expected as far or further"
            )


def divergence_within(student: Scores, teacher: Scores) -> Float[Array, "B H L"]:
    """KL(softmax(teacher) || softmax(student)), each over the keys that it sees."""
    return divergence(*(jnp.where(seen, x, EXCLUDED) for x, seen in (student, teacher)))


def over_queries(values: list[Float[Array, "B H L"]], student: Outputs, batch: Batch) -> Term:
    """The values of all pairs as one term [pairs, B, H, L]; padding counts for nothing."""
    stacked = jnp.stack(values)
    weights_BL = token_weights(student, batch, (stacked.shape[1], stacked.shape[3]))
    return Term(stacked, jnp.broadcast_to(weights_BL[:, None], stacked.shape))


def scores_needed(layers: LayerMap, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
    """The teacher's side of the map."""
    pairs = resolve(layers, student.num_layers, known(teacher).num_layers, first=1)
    return Needs(scores=tuple(sorted({theirs for _, theirs in pairs})))
