"""Scores of models that are pretrained on masked text: a masked LM, and ELECTRA's pair."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.encode import IGNORED, Encoded
from effjax.data.masking import Masking
from effjax.distill import GeneratorLM, Given, MaskedLM, ReplacedTokens, Term
from effjax.distill.objective import at_predicted, logits
from effjax.distill.replaced_tokens import doubts, replacements
from effjax.models.base import Outputs
from effjax.models.model import INPUTS, Model, apply, forward, inputs
from effjax.train.evaluate import ready
from effjax.train.mesh import copied, gathered, place_batch, spread
from effjax.types import Array, Batch, Float

Sums = Callable[[Model, Batch, jax.Array], Array]


def evaluate_masked_lm(
    model: Model, encoded: Encoded, masking: Masking, *, seed: int = 0, batch_size: int = 32
) -> dict[str, float]:
    """Accuracy, mean loss in nats and perplexity (its exponential) at the masked tokens.

    Args:
        seed: of the masks, which are the same for every model and in every call.

    Raises:
        ValueError: the model has no masked-lm head, or no token is masked.
    """
    if model.config.head != "masked-lm":
        raise ValueError(
            f"masked words are predicted by the head masked-lm; this model has "
            f"{model.config.head!r}"
        )
    right, loss, count = totals(masked_lm_sums, model, encoded, masking, seed, batch_size)
    check_masked(count, encoded)
    return {
        "accuracy": right / count,
        "loss": loss / count,
        "perplexity": math.exp(loss / count),
    }


def evaluate_replaced_tokens(
    model: Model, encoded: Encoded, masking: Masking, *, seed: int = 0, batch_size: int = 32
) -> dict[str, float]:
    """How well a discriminator tells replaced tokens from original ones.

    Args:
        model: one `with_generator`, which is the stronger opponent the better it is trained.
        seed: of masks and guesses.

    Returns:
        Over all tokens the discriminator's `accuracy`, that of always saying "original"
        (`majority`), and mean `loss`; `generator/loss` over the masked ones. In nats.

    Raises:
        ValueError: the model has no generator, or no token is masked.
    """
    found = totals(replaced_sums, model, encoded, masking, seed, batch_size)
    right, original, loss, tokens, generator_loss, masked = found
    check_masked(masked, encoded)
    return {
        "accuracy": right / tokens,
        "majority": original / tokens,
        "loss": loss / tokens,
        "generator/loss": generator_loss / masked,
    }


def check_masked(masked: float, encoded: Encoded) -> None:
    """Raises a ValueError where nothing can be scored."""
    if not masked:
        raise ValueError(f"no token of {len(encoded)} examples is masked; nothing can be scored")


def totals(
    sums: Sums, model: Model, encoded: Encoded, masking: Masking | None, seed: int, batch_size: int
) -> list[float]:
    """What `sums` gives, over all examples, masked unless `masking` is None."""
    model, mesh, batches = ready(model, encoded, batch_size)
    found = np.zeros(())
    for i, batch in enumerate(batches):
        if masking is not None:
            batch = masking(batch, seed=seed, epoch=0)
        rest = {"labels", "example_mask"} & set(batch)
        fields: Batch = inputs(model.config, batch) | {x: jnp.asarray(batch[x]) for x in rest}
        key = jax.random.fold_in(jax.random.key(seed), i)
        if mesh is not None:
            fields, key = place_batch(fields, mesh), spread(key, copied(mesh))
        found = found + np.asarray(gathered(sums(model, fields, key)), np.float64)
    return [float(x) for x in found]


@jax.jit
def masked_lm_sums(model: Model, batch: Batch, key: jax.Array) -> Float[Array, "3"]:
    """Over the masked tokens: right ones, losses, all.

    The logits, one for every word at each of them, never leave the device.
    """
    del key
    outputs = forward(model, inputs_of(batch))
    term = MaskedLM()(outputs, Given(batch=batch))
    right = logits(outputs, "model").argmax(-1) == at_predicted(batch["labels"], batch, IGNORED)
    return jnp.stack([count(right, term), loss(term), term.total()])


@jax.jit
def replaced_sums(model: Model, batch: Batch, key: jax.Array) -> Float[Array, "6"]:
    """Over all tokens: right ones, original ones, losses, all; over the masked: losses, all."""
    rngs = {"dropout": key}  # the stream that guesses are drawn from; nothing is dropped out
    outputs: Outputs = apply(model.module, model.params, inputs_of(batch), rngs=rngs)
    terms = [x(outputs, Given(batch=batch)) for x in (ReplacedTokens(), GeneratorLM())]
    discriminator, generator = terms
    replaced = replacements(outputs, batch)
    said = doubts(outputs).argmax(-1) == 1
    return jnp.stack(
        [
            count(said == replaced, discriminator),
            count(~replaced, discriminator),
            loss(discriminator),
            discriminator.total(),
            loss(generator),
            generator.total(),
        ]
    )


def inputs_of(batch: Batch) -> Batch:
    """What a model reads of a batch."""
    return {name: batch[name] for name in INPUTS if name in batch}


def loss(term: Term) -> Float[Array, ""]:
    """The sum of a term's weighted values."""
    return term.mean(jnp.ones(()))


def count(which: Array, term: Term) -> Float[Array, ""]:
    """The sum of a term's weights where `which` is true."""
    return jnp.where(which, term.weights, 0.0).sum()
