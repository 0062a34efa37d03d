"""Costs agree with XLA's own count, and file sizes with files."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax import measure
from effjax.hf import save_pretrained
from effjax.layers.feedforward import ACTIVATIONS
from effjax.measure.batch import full_batch
from effjax.models import registry
from effjax.models.base import Activation, EncoderConfig, Head, LayerSpec, Outputs, Runtime
from effjax.models.cost import ACTIVATION_FLOPS, cost_of
from effjax.models.hf_config import config_from_hf
from effjax.models.model import Model
from effjax.tree import unflatten
from effjax.types import Batch, Params

SIZES = {"hidden": 24, "depth": 2, "heads": 3, "ffn": 40, "vocab_size": 61, "positions": 40}
EVERY_HEAD = [(name, head) for name in registry.ARCHITECTURES for head in registry.get(name).heads]
REAL_SIZES = [
    ("bert", "tiny", "masked-lm", 1, 8),
    ("bert", "minilm-l6-h384", "sequence-classification", 8, 128),
    ("bert", "base", None, 1, 128),
    ("distilbert", "base", "token-classification", 2, 512),
]


def tiny_config(name: str, head: Head | None) -> EncoderConfig:
    architecture = registry.get(name)
    fields = {architecture.fields[ours]: size for ours, size in SIZES.items()}
    return config_from_hf(architecture, fields, head=head)


def lowered(name: str, config: EncoderConfig, batch: int, length: int) -> jax.stages.Lowered:
    """The plain forward pass as JAX hands it to XLA, from shapes alone.

    Positions are given, since the arithmetic on them is not part of the cost.
    """
    architecture = registry.get(name)
    module = architecture.build(config, Runtime.plain())
    rows = {
        row.path: jax.ShapeDtypeStruct(row.shape, jnp.float32) for row in architecture.table(config)
    }
    inputs = full_batch(config, batch=batch, length=length)
    inputs = {**inputs, "position_ids": inputs["input_ids"]}

    def forward(params: Params, batch: Batch) -> Outputs:
        outputs = module.apply({"params": params}, batch)
        assert isinstance(outputs, Outputs)
        return outputs.light()

    return jax.jit(forward).lower(unflatten(rows), inputs)


def blank_model(name: str, config: EncoderConfig) -> Model:
    """A model of zeros."""
    architecture = registry.get(name)
    params = {row.path: np.zeros(row.shape, np.float32) for row in architecture.table(config)}
    return Model(architecture, config, unflatten(params), Runtime.plain())


def flops(stage: jax.stages.Lowered | jax.stages.Compiled) -> float:
    analysis = stage.cost_analysis()
    assert isinstance(analysis, dict)
    return analysis["flops"]


@pytest.mark.parametrize(("name", "head"), EVERY_HEAD)
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (3, 37)])
def test_flops_are_those_of_the_program_that_jax_hands_over(
    name: str, head: Head | None, batch: int, length: int
) -> None:
    config = tiny_config(name, head)
    cost = cost_of(registry.get(name).table(config), config, batch=batch, length=length)
    assert cost.flops == pytest.approx(flops(lowered(name, config, batch, length)), rel=2e-3)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_flops_follow_layers_of_different_sizes(activation: Activation) -> None:
    layers = (LayerSpec(heads=0, ffn=40), LayerSpec(heads=1, ffn=0), LayerSpec(heads=5, ffn=7))
    config = tiny_config("bert", None).replace(layers=layers, activation=activation)
    cost = cost_of(registry.get("bert").table(config), config, batch=2, length=11)
    assert cost.flops == pytest.approx(flops(lowered("bert", config, 2, 11)), rel=2e-3)


@pytest.mark.parametrize(("name", "size", "head", "batch", "length"), REAL_SIZES)
def test_flops_of_real_models_are_within_two_percent_of_the_compiled_program(
    name: str, size: str, head: Head | None, batch: int, length: int
) -> None:
    architecture = registry.get(name)
    config = config_from_hf(architecture, architecture.sizes[size], head=head)
    cost = cost_of(architecture.table(config), config, batch=batch, length=length)
    assert cost.flops == pytest.approx(
        flops(lowered(name, config, batch, length).compile()), rel=0.02
    )
    assert cost.product_flops < cost.flops


@pytest.mark.parametrize("activation", ACTIVATION_FLOPS)
def test_activations_cost_what_xla_says(activation: Activation) -> None:
    program = jax.jit(ACTIVATIONS[activation]).lower(jax.ShapeDtypeStruct((100,), jnp.float32))
    assert flops(program) == 100 * ACTIVATION_FLOPS[activation]


def test_bert_base_takes_the_published_22_gflops() -> None:
    config = config_from_hf(registry.get("bert"), registry.get("bert").sizes["base"])
    cost = cost_of(registry.get("bert").table(config), config, batch=1, length=128)
    assert cost.params == 109_482_240
    assert cost.bytes == 4 * 109_482_240
    assert cost.product_flops == pytest.approx(22.4e9, rel=0.01)  # 11.2 G multiply-adds
    assert "109,482,240 parameters" in str(cost)


@pytest.mark.parametrize("head", [None, "masked-lm", "sequence-classification"])
def test_file_size_is_that_of_the_file_written(head: Head | None, tmp_path: Path) -> None:
    model = blank_model("roberta", tiny_config("roberta", head))
    save_pretrained(model, tmp_path / "out")
    written = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert measure.file_size(model) == written


def test_a_shape_that_the_model_cannot_run_is_named() -> None:
    model = blank_model("bert", tiny_config("bert", None).replace(positions=16))
    with pytest.raises(
        ValueError, match="length is 17; this model has positions for 1 to 16 tokens"
    ):
        measure.cost(model, length=17)
    with pytest.raises(ValueError, match="batch is 0"):
        measure.cost(model, batch=0, length=8)
    assert measure.cost(model, batch=2, length=16).flops > 2 * measure.cost(model, length=8).flops
