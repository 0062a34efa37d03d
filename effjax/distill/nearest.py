"""A layer map that is chosen in every step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.distill.objective import (
    Given,
    Needs,
    Objective,
    Term,
    check_widths,
    known,
    token_weights,
)
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Aux

PROJECTION = "hidden"


@dataclass(frozen=True, kw_only=True)
class NearestHiddenMSE(Objective):
    """mean_D (h_s W - h_t)^2 per token and teacher layer t, h_s being the student layer whose mean
    over the batch is the smallest in this step; one learned W [D_s, D_t].

    Source: arXiv 2204.00408, section 3.2. Deviations: any layer may be chosen, closed
    ones and lower ones too (`layer_distill_version` 3 of its release); the mean over the teacher's
    layers in place of the sum; of a batch in parts, each part chooses.

    Attributes:
        teacher_layers: which hidden states are learned; 0 is the embedding.
        teacher: the teacher's name.
    """

    teacher_layers: tuple[int, ...]
    teacher: str = "teacher"

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        """W, the identity where widths are equal, else N(0, 1 / D_s)."""
        shape = student.hidden, known(teacher).hidden
        if shape[0] == shape[1]:
            return {PROJECTION: jnp.eye(shape[0])}
        return {PROJECTION: shape[0] ** -0.5 * jax.random.normal(key, shape)}

    def __call__(self, student: Outputs, given: Given) -> Term:
        projected = jnp.stack(
            [
                student.hidden(layer).astype(jnp.float32) @ given.aux[PROJECTION]
                for layer in range(1, len(student.layers) + 1)
            ]
        )
        weights, values = token_weights(student, given.batch, projected.shape[1:3]), []
        for layer in self.teacher_layers:
            wanted = given.teacher.hidden(layer).astype(jnp.float32)
            check_widths("NearestHiddenMSE", projected.shape[-1], wanted.shape[-1])
            distance_NBL = jnp.square(projected - wanted).mean(-1)
            values.append(distance_NBL[jnp.argmin((distance_NBL * weights).sum((1, 2)))])
        stacked = jnp.stack(values)
        return Term(stacked, jnp.broadcast_to(weights, stacked.shape))

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        del student
        depth = known(teacher).num_layers
        if not self.teacher_layers or not set(self.teacher_layers) <= set(range(depth + 1)):
            raise ValueError(
                f"NearestHiddenMSE: teacher_layers is {self.teacher_layers}; expected one or more "
                f"of the teacher's hidden states, 0 to {depth}"
            )
        return Needs(hidden=tuple(sorted(set(self.teacher_layers))))
