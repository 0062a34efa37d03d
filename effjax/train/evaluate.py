"""Predictions of a model over encoded examples, and the official score of a task."""

from collections.abc import Callable

import jax
import numpy as np

from effjax.data.batches import EvalBatches, eval_batches
from effjax.data.encode import Encoded
from effjax.data.kinds import KINDS, Prepared, Score
from effjax.data.layouts import ALL, Batch, Share
from effjax.data.tasks import Task
from effjax.hf import SentenceEncoder
from effjax.models.base import Outputs
from effjax.models.model import Model, forward, inputs
from effjax.train.fsdp import gathered_once
from effjax.train.mesh import gathered, mesh_of, place_batch, share_of

PER_TOKEN = {kind.head: kind.per_token for kind in KINDS.values() if kind.head is not None}
"""The heads that answer a task, and whether their logits are per token."""


def predict(
    model: Model,
    encoded: Encoded,
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda i, n: None,
) -> np.ndarray:
    """The logits of a task head in the order of the examples: [n, C], or of every token [T, C].

    Raises:
        ValueError: the model has no such head.
    """
    head = model.config.head
    if head not in PER_TOKEN:
        raise ValueError(
            f"predictions need the head {', '.join(PER_TOKEN)}; this model has {head!r}"
        )
    model, mesh, batches = ready(model, encoded, batch_size)
    rows = len(encoded.input_ids) if PER_TOKEN[head] else len(encoded)
    logits = np.zeros((rows, len(model.config.labels)), np.float32)

    def compute(batch: Batch) -> jax.Array:
        return gathered(outputs(model, batch, mesh).logits)

    for i, (batch, computed) in enumerate(batches.through(compute)):
        found = np.asarray(computed, np.float32)
        if PER_TOKEN[head]:
            real = batch["token"] >= 0
            logits[batch["token"][real]] = found[real]
        else:
            logits[batch["example"]] = found
        progress(i + 1, len(batches))
    return logits


def ready(
    model: Model, encoded: Encoded, batch_size: int
) -> tuple[Model, jax.sharding.Mesh | None, EvalBatches]:
    """A model for inference, the mesh that it lies over, None for one device, and its batches."""
    model = model.for_inference()
    mesh = mesh_of(model.params)
    share = ALL if mesh is None else Share.whole(share_of(mesh).multiple)
    pad_id, chunk = model.config.pad_token_id, model.runtime.chunk_tokens
    batches = eval_batches(encoded, batch_size, pad_id=pad_id, tokens=chunk, share=share)
    return model.replace(params=gathered_once(model.params)), mesh, batches


def outputs(model: Model, batch: Batch, mesh: jax.sharding.Mesh | None) -> Outputs:
    """The model's outputs, computed where its parameters lie."""
    if mesh is None:
        return model(batch)
    return forward(model, place_batch(inputs(model.config, batch), mesh))


def evaluate(
    model: Model | SentenceEncoder, task: Task, prepared: Prepared, *, batch_size: int = 32
) -> Score:
    """The task's official score on labelled examples.

    Args:
        model: one with the task's head. Where the task has none, a bare encoder, whose sentence
            vectors are the mean over the tokens, or a `SentenceEncoder`, which knows its pooling.

    Raises:
        ValueError: the model has another head than the task's.
    """
    kind = KINDS[task.kind]
    bare = model.model if isinstance(model, SentenceEncoder) else model
    if (head := bare.config.head) != kind.head:
        answer = f"the head {kind.head}" if kind.head else "an encoder without a head"
        raise ValueError(f"{task.name} is answered by {answer}; this model has {head!r}")
    if kind.head is None:
        encoder = model if isinstance(model, SentenceEncoder) else SentenceEncoder(model)
        found = encoder.embed(prepared.encoded, batch_size)
    else:
        found = predict(bare, prepared.encoded, batch_size=batch_size)
    return kind.score(task, *prepared, found)
