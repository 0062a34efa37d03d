"""Costs agree with XLA's own count, and file sizes with files."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from effjax import measure
from effjax.hf import save_pretrained
from effjax.measure.cost import products, program
from effjax.models import registry
from effjax.models.base import EncoderConfig, Head, LayerSpec, Runtime
from effjax.models.hf_config import config_from_hf
from effjax.models.model import Model
from effjax.tree import unflatten
from tests.contracts.rows import CONTRACTS

SIZES = {"hidden": 36, "depth": 2, "heads": 3, "ffn": 40, "vocab_size": 61, "positions": 40}
EVERY_HEAD = [
    pytest.param(name, head, marks=() if head in (None, "masked-lm") else pytest.mark.slow)
    for name in registry.ARCHITECTURES
    for head in registry.get(name).heads
]
REAL_SIZES = [
    ("bert", "tiny", "masked-lm", 1, 8),
    ("bert", "minilm-l6-h384", "sequence-classification", 8, 128),
    ("bert", "base", None, 1, 128),
    ("distilbert", "base", "token-classification", 2, 512),
    ("albert", "base", None, 1, 128),
    ("mpnet", "base", None, 1, 128),
]


def tiny_config(name: str, head: Head | None) -> EncoderConfig:
    architecture = registry.get(name)
    fields = {architecture.fields[ours]: size for ours, size in SIZES.items()}
    fields |= CONTRACTS[name].fields
    return config_from_hf(architecture, fields, head=head)


def blank_model(name: str, config: EncoderConfig) -> Model:
    """A model of zeros."""
    architecture = registry.get(name)
    params = {row.path: np.zeros(row.shape, np.float32) for row in architecture.table(config)}
    return Model(architecture, config, unflatten(params), Runtime.plain())


def products_of_bert(config: EncoderConfig, batch: int, length: int) -> int:
    """FLOPs of BERT's matrix products, by its table and the formula of attention."""
    times = {"token": batch * length, "sequence": batch}
    rows = [row for row in registry.get("bert").table(config) if row.role != "bias"]
    linear = sum(2 * row.size * times[use] for row in rows for use in row.uses if use in times)
    heads = sum(layer.heads for layer in config.layers)
    return linear + 4 * batch * heads * length**2 * config.head_size


@pytest.mark.parametrize("head", [None, "masked-lm", "sequence-classification", "pretraining"])
def test_product_flops_are_those_of_the_formula(head: Head | None) -> None:
    layers = (LayerSpec(heads=0, ffn=40), LayerSpec(heads=1, ffn=0), LayerSpec(heads=5, ffn=7))
    model = blank_model("bert", tiny_config("bert", head).replace(layers=layers))
    found = measure.cost(model, batch=2, length=11)
    assert found.product_flops == products_of_bert(model.config, 2, 11)
    assert found.product_flops < found.flops


def square(x: Any) -> Any:
    return x @ x


def five_times(x: Any) -> Any:
    return jax.lax.scan(lambda carry, _: (square(carry), None), x, length=5)[0]


def grouped(x: Any) -> Any:
    """A convolution of width 1 in two groups, as SqueezeBERT has them."""
    kernel = jnp.ones((1, 2, 4))
    layout = ("NWC", "WIO", "NWC")
    how = {"window_strides": (1,), "padding": "VALID", "dimension_numbers": layout}
    return jax.lax.conv_general_dilated(x[None], kernel, **how, feature_group_count=2)


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (square, 2 * 4**3),
        (jax.jit(square), 2 * 4**3),
        (jax.checkpoint(square), 2 * 4**3),
        (five_times, 5 * 2 * 4**3),
        (grouped, 2 * 4 * 4 * 2),  # 4 rows, 4 outputs, each of 2 inputs
        (lambda x: x + 1, 0),
    ],
)
def test_products_are_counted_wherever_they_are(function: Any, flops: int) -> None:
    made = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((4, 4), jnp.float32))
    assert products(made.jaxpr) == flops


@pytest.mark.parametrize(("name", "size", "head", "batch", "length"), REAL_SIZES)
def test_flops_of_real_models_are_within_two_percent_of_the_compiled_program(
    name: str, size: str, head: Head | None, batch: int, length: int
) -> None:
    architecture = registry.get(name)
    config = config_from_hf(architecture, architecture.sizes[size], head=head)
    forward = program(architecture, config, batch=batch, length=length)
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in forward.in_avals]
    analysis = jax.jit(jaxpr_as_fun(forward)).lower(*given).compile().cost_analysis()
    assert isinstance(analysis, dict)
    found = measure.cost(shapes_of(name, config), batch=batch, length=length)
    assert found.flops == pytest.approx(analysis["flops"], rel=0.02)


@pytest.mark.parametrize(("name", "head"), EVERY_HEAD)
def test_every_model_has_a_cost_that_grows(name: str, head: Head | None) -> None:
    model = shapes_of(name, tiny_config(name, head))
    one, two, three = (measure.cost(model, batch=batch, length=8) for batch in (1, 2, 3))
    each = two.product_flops - one.product_flops
    assert each == three.product_flops - two.product_flops
    assert each <= one.product_flops  # less where something is computed once for the whole batch
    assert 0 < one.product_flops < one.flops < two.flops


def shapes_of(name: str, config: EncoderConfig) -> Model:
    """A model without arrays."""
    architecture = registry.get(name)
    rows = architecture.table(config)
    params = {row.path: jax.ShapeDtypeStruct(row.shape, jnp.float32) for row in rows}
    return Model(architecture, config, unflatten(params), Runtime.plain())


def test_bert_base_takes_the_published_22_gflops() -> None:
    config = config_from_hf(registry.get("bert"), registry.get("bert").sizes["base"])
    cost = measure.cost(shapes_of("bert", config), batch=1, length=128)
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
