"""ELECTRA's two losses: the generator's words, and the discriminator's doubts."""

from dataclasses import dataclass

import jax.numpy as jnp

from effjax.data.encode import IGNORED
from effjax.distill.objective import Given, Objective, Term, logits, token_weights
from effjax.distill.task_loss import label_term, labels_of, masked_term
from effjax.models.base import Outputs
from effjax.types import Array, Batch, Float


@dataclass(frozen=True, kw_only=True)
class GeneratorLM(Objective):
    """-log p_G(x_i) at the masked tokens i: labels [B, L] with -100 elsewhere.

    Source: arXiv 2003.10555, section 2, L_MLM.
    """

    def __call__(self, student: Outputs, given: Given) -> Term:
        guess, _ = guesses(student)
        return masked_term(guess.astype(jnp.float32), student, given.batch, "GeneratorLM")


@dataclass(frozen=True, kw_only=True)
class ReplacedTokens(Objective):
    """-log p_D(is token i the original one?) over all tokens i; a generator's lucky guess is.

    Source: arXiv 2003.10555, section 2, L_Disc. Deviation: of a head with two classes, original and
    replaced, a softmax, where the paper has the logistic function of one number: of the two's
    difference.
    """

    def __call__(self, student: Outputs, given: Given) -> Term:
        replaced = replacements(student, given.batch).astype(jnp.int32)
        weights = token_weights(student, given.batch, replaced.shape)
        return label_term(doubts(student), replaced, weights)


def doubts(student: Outputs) -> Float[Array, "B L 2"]:
    """The logits of "original" and "replaced"; where a head gives one number per token, it is the
    latter's, and the former's is 0.
    """
    found = logits(student, "discriminator")
    return found if found.ndim > 2 else jnp.stack([jnp.zeros_like(found), found], axis=-1)


def replacements(student: Outputs, batch: Batch) -> Array:
    """Which tokens, [B, L], the discriminator saw otherwise than they were before masking."""
    labels = labels_of(batch, "ReplacedTokens")
    original = jnp.where(labels == IGNORED, batch["input_ids"], labels)
    return guesses(student)[1] != original


def guesses(student: Outputs) -> tuple[Array, Array]:
    """The generator's logits, and the ids with its guesses in them.

    Raises:
        ValueError: the student has no generator.
    """
    if student.generator_logits is None or student.corrupted is None:
        raise ValueError("the student has no generator; give it one with `with_generator`")
    return student.generator_logits, student.corrupted
