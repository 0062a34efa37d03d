"""A tiny classifier, and texts for it."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model, create
from effjax.tree import flatten, unflatten
from tests.train.small_run import small_data


@pytest.fixture(scope="session")
def model() -> Model:
    """Two layers, every parameter random."""
    model = create(
        "bert",
        size="tiny",
        head="sequence-classification",
        key=jax.random.key(0),
        vocab_size=32,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=7,
        max_position_embeddings=16,
    )
    random = np.random.default_rng(0)
    noisy = {
        path: x + 0.3 * random.normal(size=x.shape).astype(np.float32)
        for path, x in flatten(model.params).items()
    }
    return model.replace(params=unflatten(noisy))


@pytest.fixture(scope="session")
def encoded() -> Encoded:
    """The last batch of 16 has 6."""
    return small_data(70)


@pytest.fixture(scope="session")
def loss() -> Callable:
    objective = Weighted(task=(1.0, TaskLoss()))
    return lambda outputs, batch: objective({}, outputs, {}, batch).total
