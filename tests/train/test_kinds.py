"""Heads that answer per token learn from packed batches and are scored per token."""

from pathlib import Path

import jax
import numpy as np
import pytest

from effjax.data.encode import IGNORED, Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import create
from effjax.train import Training, fit, predict

TRAINING = Training(epochs=25, batch_size=16, learning_rate=1e-2)


@pytest.mark.parametrize(
    "head", ["token-classification", pytest.param("question-answering", marks=pytest.mark.slow)]
)
def test_a_head_over_tokens_learns(head, encoded: Encoded, tmp_path: Path) -> None:
    """A tag is the token's parity; an answer is the one token 7 or 8 that every example has."""
    model = create(
        "bert",
        size="tiny",
        head=head,
        key=jax.random.key(0),
        vocab_size=31,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    if head == "token-classification":
        labels = encoded.input_ids % 2
        labels[encoded.offsets[:-1]] = IGNORED
    else:
        labels = np.ones((len(encoded), 2), np.int32)
    given = Encoded(encoded.input_ids, encoded.token_type_ids, encoded.offsets, labels, encoded.idx)
    objective = Weighted(task=(1.0, TaskLoss()))
    fitted = fit(model, given, objective, TRAINING, seed=0, folder=tmp_path)
    logits = predict(fitted.model, given)
    assert logits.shape == (len(encoded.input_ids), 2)
    if head == "token-classification":
        counted = labels != IGNORED
        right = logits.argmax(1)[counted] == labels[counted]
    else:
        begins = encoded.offsets[:-1]
        right = np.array(
            [logits[i:j, 0].argmax() == 1 for i, j in zip(begins, encoded.offsets[1:], strict=True)]
        )
    assert right.mean() > 0.95
