"""Contract: every parameter of the module, and of torch, is on exactly one row of the table."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
import transformers

from effjax.models import registry
from effjax.models.base import EncoderConfig, Head, Runtime
from effjax.models.hf_config import config_from_hf
from effjax.tree import flatten
from tests.contracts.rows import CONTRACTS

Build = Callable[[str, Head | None], Any]

BUFFERS = ("position_ids", "token_type_ids")
"""Torch's entries of a state dict that are constants."""

PUBLISHED = {
    (name, size): count for name, row in CONTRACTS.items() for size, count in row.published.items()
}

ALL_SIZES = [(name, size) for name in registry.ARCHITECTURES for size in registry.get(name).sizes]


def published(name: str, size: str, head: Head | None = None) -> EncoderConfig:
    architecture = registry.get(name)
    return config_from_hf(architecture, architecture.sizes[size], head=head)


def shapes(name: str, config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """What `module.init` would make, by path."""
    module = registry.get(name).build(config, Runtime.plain())
    batch = {"input_ids": jnp.ones((1, 2, 3) if config.head == "multiple-choice" else (1, 3), int)}

    def init() -> Any:
        return module.init(jax.random.key(0), batch)["params"]

    return {path: value.shape for path, value in flatten(jax.eval_shape(init)).items()}


def test_every_parameter_is_on_one_row(pair: Build, name: str, head: Head | None) -> None:
    model = pair(name, head).model
    rows = {row.path: row.shape for row in model.table}
    assert shapes(name, model.config) == rows
    assert {path: value.shape for path, value in flatten(model.params).items()} == rows


def test_every_torch_parameter_is_on_one_row(pair: Build, name: str, head: Head | None) -> None:
    both = pair(name, head)
    state, prefix = both.torch.state_dict(), both.model.architecture.hf_prefix
    names = [{hf.removeprefix(prefix) for hf in row.hf} for row in both.model.table]
    for key, value in state.items():
        if key.endswith(BUFFERS):
            continue
        owners = [i for i, known in enumerate(names) if key.removeprefix(prefix) in known]
        assert len(owners) == 1, key
        assert both.model.table.rows[owners[0]].size == value.numel(), key
    for row in both.model.table:
        assert row.hf[0] in state or row.hf[0].removeprefix(prefix) in state, row.path


@pytest.mark.parametrize(("model_type", "size"), ALL_SIZES)
def test_published_sizes_build(model_type: str, size: str) -> None:
    config = published(model_type, size)
    table = registry.get(model_type).table(config)
    assert shapes(model_type, config) == {row.path: row.shape for row in table}
    if (model_type, size) in PUBLISHED:
        assert table.num_params == PUBLISHED[model_type, size]


@pytest.mark.parametrize("head", ["masked-lm", "sequence-classification"])
@pytest.mark.parametrize(("model_type", "size"), PUBLISHED)
def test_counts_with_a_head_are_torchs(model_type: str, size: str, head: Head) -> None:
    """A tied output projection counts once, on both sides."""
    config, architecture = published(model_type, size, head), registry.get(model_type)
    fields = {**architecture.defaults, **architecture.sizes[size]}
    fields = {field: value for field, value in fields.items() if value is not None}
    with torch.device("meta"):
        kind = getattr(transformers, architecture.heads[head].hf_class)
        model = kind(transformers.AutoConfig.for_model(model_type, **fields))
    assert architecture.table(config).num_params == sum(p.numel() for p in model.parameters())


def test_an_untied_projection_is_a_row_of_its_own(name: str) -> None:
    config = published(name, next(iter(registry.get(name).sizes)), "masked-lm")
    tied = registry.get(name).table(config.replace(tie_embeddings=True)).num_params
    untied = registry.get(name).table(config.replace(tie_embeddings=False)).num_params
    assert untied - tied == math.prod((config.vocab_size, config.embedding_size))
    small = config.replace(vocab_size=11, layers=config.layers[:1], tie_embeddings=False)
    rows = {row.path: row.shape for row in registry.get(name).table(small)}
    assert shapes(name, small) == rows
