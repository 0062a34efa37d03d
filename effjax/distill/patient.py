"""Patient knowledge distillation: the first token's state in many layers."""

from dataclasses import dataclass

import jax.numpy as jnp

from effjax.distill.hidden import direction, hidden_needs, hidden_pairs
from effjax.distill.layer_maps import LayerMap
from effjax.distill.objective import (
    Given,
    Needs,
    Objective,
    Term,
    check_widths,
    example_weights,
)
from effjax.layers.pooling import first_of_tokens
from effjax.models.base import EncoderConfig, Outputs


@dataclass(frozen=True, kw_only=True)
class PatientMSE(Objective):
    """|h_s / |h_s| - h_t / |h_t||^2 per layer pair and example, h being the state of its first
    token.

    Source: arXiv 1908.09355, section 3.2, L_PT. Deviation: the mean over layer pairs in place of
    their sum, so that the paper's weight beta is this one's, divided by the number of pairs.

    Attributes:
        layers: a rule of `layer_maps` ("skip" is PKD-Skip, "top" PKD-Last), or (student, teacher)
            pairs.
        teacher: the teacher's name.
    """

    layers: LayerMap = "skip"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        values, starts = [], given.batch.get("starts")
        for _, ours, theirs in hidden_pairs(self.layers, student, given.teacher):
            check_widths("PatientMSE", ours.shape[-1], theirs.shape[-1])
            ours, theirs = (direction(first_of_tokens(x, starts)) for x in (ours, theirs))
            values.append(jnp.square(ours - theirs).sum(-1))
        stacked = jnp.stack(values)
        weights = example_weights(given.batch, stacked.shape[1])
        return Term(stacked, jnp.broadcast_to(weights, stacked.shape))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return hidden_needs(self.layers, student, teacher)
