"""Contract: every training step lowers for TPU and CUDA, in both precisions, packed or not."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data import Encoded
from effjax.data.layouts import ALL, ASSEMBLE, Layout
from effjax.distill import MaskedLM, TaskLoss, Weighted
from effjax.models import registry
from effjax.models.base import Head, Runtime
from effjax.train.step import init_state, train_step
from effjax.train.training import Training

LENGTHS = np.array([11, 7, 1])
TOKENS = int(LENGTHS.sum())

LABELS: dict[Head, np.ndarray] = {
    "masked-lm": np.arange(TOKENS, dtype=np.int32) % 5,
    "sequence-classification": np.array([3, 0, 2], np.int32),
    "token-classification": np.arange(TOKENS, dtype=np.int32) % 5,
    "question-answering": np.array([[2, 9], [0, 6], [0, 0]], np.int32),
}
"""The heads that recipes train, with labels for three examples."""


def encoded(labels: np.ndarray) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    ids = np.arange(TOKENS, dtype=np.int32) + 2
    return Encoded(ids, np.zeros_like(ids), offsets, labels, np.arange(3, dtype=np.int32))


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("trained", LABELS)
def test_a_training_step_lowers(
    pair: Callable[..., Any], name: str, trained: Head, layout: Layout
) -> None:
    if trained not in registry.get(name).heads:
        with pytest.raises(ValueError, match=f"{name} has no head '{trained}'"):
            registry.get(name).head_spec(trained)
        return
    model = pair(name, trained).model
    (batch,) = ASSEMBLE[layout](encoded(LABELS[trained]), np.arange(3), 1, 4, 1, ALL)
    if not model.config.token_types:
        del batch["token_type_ids"]
    objective = Weighted(loss=(1.0, MaskedLM() if trained == "masked-lm" else TaskLoss()))
    runtime = Runtime(dtype="bfloat16" if layout == "packed" else "float32")
    step = train_step(model.architecture, model.config, runtime, objective, Training())
    state = init_state(model, objective, Training(), steps=10, seed=0, teachers={})
    leaves, structure = jax.tree.flatten((state, ((batch, {}),)))
    flat = jax.jit(lambda given: jax.tree.leaves(step(*structure.unflatten(given))))
    lowered = flat.trace(leaves).lower(lowering_platforms=("tpu", "cuda")).as_text()
    assert lowered.count("stablehlo.dot_general") > 20
