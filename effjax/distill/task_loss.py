"""The losses of the labels: what a student, or a control without a teacher, learns from data."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.data.encode import IGNORED
from effjax.distill.objective import (
    Given,
    Objective,
    Term,
    at_predicted,
    example_weights,
    logits,
    token_weights,
)
from effjax.distill.soft_targets import over_positions
from effjax.models.base import Outputs
from effjax.types import Array, Batch, Float, Int


@dataclass(frozen=True, kw_only=True)
class TaskLoss(Objective):
    """The loss that the batch's labels ask for.

    * integer labels [B]: cross-entropy of logits [B, C];
    * integer labels [B, L]: cross-entropy per token of logits [B, L, C], label -100 ignored;
    * float labels [B]: squared error of logits [B, 1];
    * `start_positions`, `end_positions` [B]: the mean of the two cross-entropies over tokens;
      positions outside the input are ignored.

    Source: arXiv 1810.04805, section 4. Deviation: in question answering, padding has no part in
    the softmax.
    """

    def __call__(self, student: Outputs, given: Given) -> Term:
        batch, found = given.batch, logits(student, "student")
        if "start_positions" in batch and "end_positions" in batch:
            return span_term(found, student, batch)
        labels = labels_of(batch, "TaskLoss")
        if not jnp.issubdtype(labels.dtype, jnp.floating):
            per_token = labels.ndim > 1
            weights = (
                token_weights(student, batch, labels.shape)
                if per_token
                else example_weights(batch, len(labels))
            )
            return label_term(found, labels, weights)
        if found.shape != (*labels.shape, 1):
            raise ValueError(
                f"float labels {labels.shape} want logits {(*labels.shape, 1)}, not {found.shape}"
            )
        return Term(jnp.square(found[:, 0] - labels), example_weights(batch, len(labels)))


@dataclass(frozen=True, kw_only=True)
class MaskedLM(Objective):
    """-log p(x_i) at the masked tokens i: labels [B, L] with -100 elsewhere, logits [B, L, V], or
    [B, P, V] at the P tokens of a row that the batch asks to predict.

    Source: arXiv 1810.04805, section 3.1.
    """

    def __call__(self, student: Outputs, given: Given) -> Term:
        return masked_term(logits(student, "student"), student, given.batch, "MaskedLM")


def masked_term(found: Float[Array, "..."], student: Outputs, batch: Batch, who: str) -> Term:
    """Cross-entropy at the tokens that the batch asks to predict, or at all that have a label.

    Raises:
        ValueError: labels are missing, or not one per token.
    """
    labels = labels_of(batch, who)
    if labels.ndim != 2:
        raise ValueError(
            f"{who} wants one label per token [B, L], not labels of shape {labels.shape}"
        )
    weights = at_predicted(token_weights(student, batch, labels.shape), batch, 0.0)
    return label_term(found, at_predicted(labels, batch, IGNORED), weights)


def labels_of(batch: Batch, who: str) -> Array:
    """The batch's labels.

    Raises:
        ValueError: it has none.
    """
    if "labels" not in batch:
        raise ValueError(f"{who} needs labels, the batch has {', '.join(batch)}")
    return jnp.asarray(batch["labels"])


def label_term(
    found: Float[Array, "*B C"], labels: Int[Array, "..."], weights: Float[Array, "..."]
) -> Term:
    """Cross-entropy where there is a label."""
    if found.shape[:-1] != labels.shape:
        raise ValueError(f"integer labels {labels.shape} do not fit logits {found.shape}")
    return Term(cross_entropy(found, labels), weights * (labels != IGNORED))


def span_term(found: Float[Array, "B L 2"], student: Outputs, batch: Batch) -> Term:
    """Cross-entropy of the start and of the end, [B, 2]."""
    over_BCL = over_positions(found, student, batch)
    spans_BC = jnp.stack([batch["start_positions"], batch["end_positions"]], axis=1)
    inside_BC = (spans_BC >= 0) & (spans_BC < over_BCL.shape[-1])
    values_BC = cross_entropy(over_BCL, jnp.where(inside_BC, spans_BC, IGNORED))
    return Term(values_BC, inside_BC * example_weights(batch, len(spans_BC))[:, None])


def cross_entropy(found: Float[Array, "*B C"], labels: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """-log softmax(logits)[label]; a label of -100 gives a number that its weight of 0 discards."""
    index = jnp.where(labels == IGNORED, 0, labels)
    chosen = jnp.take_along_axis(found, index[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(found, axis=-1) - chosen
