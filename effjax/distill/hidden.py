"""Hidden-state objectives: the student's layers learn the teacher's, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.distill.layer_maps import LayerMap, resolve
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
from effjax.types import Array, Aux, Batch, Float

TINY = 1e-12
"""Below this squared length a hidden state counts as zero, and its cosine as 0."""


@dataclass(frozen=True, kw_only=True)
class HiddenCosine(Objective):
    """1 - cos(h_s, h_t) per token and layer pair.

    Source: arXiv 1910.01108, section 2 ("cosine embedding loss").

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs.
        teacher: the teacher's name.
    """

    layers: LayerMap = "last"
    teacher: str = "teacher"

    def __call__(self, student: Outputs, given: Given) -> Term:
        values = []
        for _, ours, theirs in hidden_pairs(self.layers, student, given.teacher):
            check_widths("HiddenCosine", ours.shape[-1], theirs.shape[-1])
            values.append(1 - cosine(ours, theirs))
        return stack(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return hidden_needs(self.layers, student, teacher)


@dataclass(frozen=True, kw_only=True)
class HiddenMSE(Objective):
    """mean_D (h_s W - h_t)^2 per token and layer pair, with a learned W [D_s, D_t].

    Source: arXiv 1909.10351, section 3.1, L_hidn, and L_embd of the pair (0, 0); 2004.02984,
    "feature map transfer", without W. Deviations: W belongs to the pair, not to all of them; the
    mean over pairs in place of their sum.

    Attributes:
        layers: a rule of `layer_maps`, or (student, teacher) pairs.
        project: learns W; False compares the states as they are, which then are of one width.
        teacher: the teacher's name.
    """

    layers: LayerMap = "uniform"
    project: bool = True
    teacher: str = "teacher"

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        """One W per pair, N(0, 1 / D_s), named after its two hidden states."""
        teacher = known(teacher)
        pairs = resolve(self.layers, student.num_layers, teacher.num_layers)
        if not self.project:
            check_widths("HiddenMSE", student.hidden, teacher.hidden)
            return {}
        shape, scale = (student.hidden, teacher.hidden), student.hidden**-0.5
        keys = jax.random.split(key, len(pairs))
        return {
            name_of(pair): scale * jax.random.normal(k, shape)
            for pair, k in zip(pairs, keys, strict=True)
        }

    def __call__(self, student: Outputs, given: Given) -> Term:
        values = []
        for pair, ours, theirs in hidden_pairs(self.layers, student, given.teacher):
            projected = ours @ projection(given.aux, pair) if self.project else ours
            check_widths("HiddenMSE", projected.shape[-1], theirs.shape[-1])
            values.append(jnp.square(projected - theirs).mean(-1))
        return stack(values, student, given.batch)

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        return hidden_needs(self.layers, student, teacher)


def cosine(x: Float[Array, "*B D"], y: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """x y / (|x| |y|) over the last axis."""
    inverse_x = jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1), TINY))
    inverse_y = jax.lax.rsqrt(jnp.maximum(jnp.square(y).sum(-1), TINY))
    return (x * y).sum(-1) * inverse_x * inverse_y


def direction(x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Every vector divided by its length."""
    return x_ND * jax.lax.rsqrt(jnp.maximum(jnp.square(x_ND).sum(-1, keepdims=True), TINY))


def hidden_pairs(
    layers: LayerMap, student: Outputs, teacher: Outputs
) -> Iterator[tuple[tuple[int, int], Float[Array, "B L D"], Float[Array, "B L E"]]]:
    """Each pair of the map with its two hidden states in float32.

    Raises:
        ValueError: a state was not kept, or the two are not of the same tokens.
    """
    for pair in resolve(layers, len(student.layers), len(teacher.layers)):
        ours, theirs = student.hidden(pair[0]), teacher.hidden(pair[1])
        if ours.shape[:2] != theirs.shape[:2]:
            raise ValueError(
                f"hidden states of the student are {ours.shape[:2]} tokens, "
                f"those of the teacher {theirs.shape[:2]}"
            )
        yield pair, ours.astype(jnp.float32), theirs.astype(jnp.float32)


def stack(values: list[Float[Array, "B L"]], student: Outputs, batch: Batch) -> Term:
    """The values of all pairs as one term [pairs, B, L]; padding counts for nothing."""
    stacked = jnp.stack(values)
    return Term(
        stacked, jnp.broadcast_to(token_weights(student, batch, stacked.shape[1:]), stacked.shape)
    )


def hidden_needs(layers: LayerMap, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
    """The teacher's side of the map."""
    pairs = resolve(layers, student.num_layers, known(teacher).num_layers)
    return Needs(hidden=tuple(sorted({theirs for _, theirs in pairs})))


def name_of(pair: tuple[int, int]) -> str:
    """What the projection of a pair is called."""
    return f"hidden_{pair[0]}_to_{pair[1]}"


def projection(aux: Aux, pair: tuple[int, int]) -> Float[Array, "D E"]:
    """The W of a pair.

    Raises:
        ValueError: `aux` was not made by `init` for this map.
    """
    if name_of(pair) not in aux:
        raise ValueError(
            f"HiddenMSE has no projection {name_of(pair)}; `init` makes them, given {sorted(aux)}"
        )
    return aux[name_of(pair)]
