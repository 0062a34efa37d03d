"""Tiny models of odd sizes with random NumPy weights, and folders made of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from effjax.hf import save_pretrained
from effjax.models import registry
from effjax.models.base import Runtime
from effjax.models.hf_config import config_from_hf
from effjax.models.model import Model
from effjax.tree import unflatten
from tests.contracts.rows import CONTRACTS

BERT = {
    "vocab_size": 31,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 24,
    "num_labels": 3,
}
DISTILBERT = {
    "vocab_size": 31,
    "dim": 12,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 20,
    "max_position_embeddings": 24,
    "num_labels": 3,
}

OWN = {
    "mobilebert": {"embedding_size": 5, "intra_bottleneck_size": 6},
    "squeezebert": {"embedding_size": 12},
}
"""Sizes that go with these, not with those of the contracts."""


def tiny_model(name: str = "bert", head: Any = None, **fields: Any) -> Model:
    """A model with weights of unit size, so that every one of them shows in the outputs."""
    architecture = registry.get(name)
    sizes = DISTILBERT if name == "distilbert" else BERT
    fields = {**sizes, **CONTRACTS[name].fields, **OWN.get(name, {}), **fields}
    config = config_from_hf(architecture, fields, head=head, where="tiny")
    random = np.random.default_rng(0)
    params = {
        row.path: 0.3 * random.standard_normal(row.shape, np.float32)
        for row in architecture.table(config)
    }
    return Model(architecture, config, unflatten(params), Runtime.plain())


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Model]:
    return tiny_model


class Checkpoint:
    """A folder as one part of a test damages or renames it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def config(self, **changes: Any) -> None:
        """Sets fields of config.json; None removes one."""
        file = self.folder / "config.json"
        fields = json.loads(file.read_text()) | changes
        kept = {name: value for name, value in fields.items() if value is not None}
        file.write_text(json.dumps(kept))

    def tensors(self, change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> None:
        """Rewrites model.safetensors."""
        from safetensors.numpy import load_file

        file = self.folder / "model.safetensors"
        save_file(dict(change(load_file(file))), file)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Writes a tiny model to a folder of its own."""

    def write(name: str = "bert", head: Any = None, **fields: Any) -> Checkpoint:
        folder = tmp_path / "checkpoint"
        save_pretrained(tiny_model(name, head, **fields), folder)
        return Checkpoint(folder)

    return write
