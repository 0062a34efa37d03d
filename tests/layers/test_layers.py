"""The small layers against their formulas in numpy."""

from collections.abc import Callable

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from jax.extend.random import threefry_2x32

from effjax.layers.dropout import Dropout, dropout_mask, random_bytes, threefry
from effjax.layers.embedding import positions_after_padding, positions_from_start
from effjax.layers.feedforward import ACTIVATIONS, FeedForward
from effjax.layers.linear import GroupedLinear, Linear, product, product_with_words
from effjax.layers.norm import LayerNorm, NoNorm
from effjax.table import Axis, grouped

RNG = np.random.default_rng(0)


def test_norm_has_mean_zero_and_variance_one_before_scale_and_bias() -> None:
    x = RNG.normal(3, 5, size=(2, 7)).astype(np.float32)
    params = {"scale": jnp.full(7, 2.0), "bias": jnp.full(7, 0.5)}
    found = LayerNorm(1e-3).apply({"params": params}, jnp.asarray(x))
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * 2 + 0.5
    np.testing.assert_allclose(np.asarray(found), want, atol=1e-6)


def test_norm_of_bfloat16_is_computed_in_float32() -> None:
    x = jnp.asarray(RNG.normal(100, 1, size=(1, 64)), jnp.bfloat16)
    params = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    low = LayerNorm(1e-6).apply({"params": params}, x)
    high = LayerNorm(1e-6).apply({"params": params}, x.astype(jnp.float32))
    assert isinstance(low, jax.Array) and low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, jnp.asarray(high, jnp.bfloat16))


def test_no_norm_scales_and_shifts() -> None:
    x = RNG.normal(3, 5, size=(2, 7)).astype(np.float32)
    scale, bias = RNG.normal(size=(2, 7)).astype(np.float32)
    params = {"params": {"scale": scale, "bias": bias}}
    found = NoNorm().apply(params, jnp.asarray(x))
    np.testing.assert_allclose(np.asarray(found), x * scale + bias, atol=1e-6)
    low = NoNorm().apply(params, jnp.asarray(x, jnp.bfloat16))
    assert isinstance(low, jax.Array) and low.dtype == jnp.bfloat16


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_a_grouped_product_is_torchs_convolution(groups: int) -> None:
    """Its weights come and go through the row of the table, bit by bit."""
    theirs = torch.nn.Conv1d(12, 18, kernel_size=1, groups=groups)
    row, bias = grouped("g", Axis("D", 12), Axis("F", 18), groups, hf="conv", hf_axes="(G O) I 1")
    stored = theirs.weight.detach().numpy()
    assert row.hf_shape == stored.shape
    kernel = einops.rearrange(stored, f"{row.hf_axes} -> {row.letters}", **row.sizes)
    assert kernel.shape == row.shape == (groups, 12 // groups, 18 // groups)
    again = einops.rearrange(kernel, f"{row.letters} -> {row.hf_axes}", **row.sizes)
    np.testing.assert_array_equal(again, stored)
    x = RNG.normal(size=(2, 5, 12)).astype(np.float32)
    layer = GroupedLinear(groups, 12, 18, "float32", nn.initializers.normal(1.0))
    params = {"kernel": kernel, "bias": theirs.state_dict()["bias"].numpy()}
    assert params["bias"].shape == bias.shape
    found = layer.apply({"params": params}, jnp.asarray(x))
    with torch.no_grad():
        want = theirs(torch.from_numpy(x).mT).mT.numpy()
    np.testing.assert_allclose(np.asarray(found), want, atol=1e-5)


def test_product_contracts_several_axes() -> None:
    x = RNG.normal(size=(2, 5, 3, 4)).astype(np.float32)
    kernel = RNG.normal(size=(3, 4, 6)).astype(np.float32)
    found = product(jnp.asarray(x), jnp.asarray(kernel), 2, "float32")
    np.testing.assert_allclose(found, np.einsum("blhk,hkd->bld", x, kernel), atol=1e-5)


def test_product_in_bfloat16_accumulates_in_float32() -> None:
    """A sum of 4096 ones stops at 256 in bfloat16."""
    found = product(jnp.ones((1, 4096)), jnp.ones((4096, 1)), 1, "bfloat16")
    assert found.dtype == jnp.bfloat16 and found[0, 0] == 4096


def test_a_bias_is_added_before_a_product_is_rounded() -> None:
    """1 + 2^-9 + 2^-8 is nearest to 1 + 2^-7; a product that is rounded first stays 1."""
    x = jnp.array([[1.0, 2**-9]], jnp.bfloat16)
    found = product(x, jnp.ones((2, 1)), 1, "bfloat16", jnp.full(1, 2**-8))
    assert found.dtype == jnp.bfloat16
    assert float(found[0, 0]) == 1 + 2**-7


def test_gradients_in_bfloat16_are_near_float32_and_products_of_bfloat16() -> None:
    """2^-8 is the rounding of one number; sums are float32, so the whole errs less than that."""
    keys = jax.random.split(jax.random.key(0), 4)
    x, kernel, bias, cotangent = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, ((96, 80), (80, 112), (112,), (96, 112)), strict=True)
    )

    def loss(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: str) -> jax.Array:
        return (product(x, kernel, 1, dtype, bias) * cotangent).sum()

    gradient = jax.grad(loss, argnums=(0, 1, 2))
    for low, full in zip(
        gradient(x, kernel, bias, "bfloat16"), gradient(x, kernel, bias, "float32"), strict=True
    ):
        assert low.dtype == full.dtype == jnp.float32
        assert jnp.linalg.norm(low - full) <= 2**-8 * jnp.linalg.norm(full)
    lowered = jax.jit(gradient, static_argnums=3).lower(x, kernel, bias, "bfloat16").as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line]
    assert len(products) == 2  # the forward product is not needed for the gradient
    assert all(line.count("xbf16>") == 2 for line in products)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "of"),
    [
        (lambda x, kernel: product(x, kernel, 1, "bfloat16"), ((16, 8), (8, 12))),
        (lambda x, words: product_with_words(x, words, "bfloat16"), ((16, 8), (12, 8))),
        (lambda x, bias: product(x, jnp.eye(8), 1, "bfloat16", bias), ((16, 8), (8,))),
    ],
    ids=["product", "product with words", "bias"],
)
def test_gradients_in_bfloat16_are_mapped_over_students(
    function: Callable[..., jax.Array], of: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """Without a rule of their own XLA's optimizations, which the slow tests have, fold a transpose
    into a product that a CPU then does not have.
    """
    inputs, weights = (RNG.normal(size=(3, *shape)).astype(np.float32) for shape in of)

    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return (function(x.astype(jnp.bfloat16), weight).astype(jnp.float32) ** 2).sum()

    gradient = jax.grad(loss, argnums=(0, 1))
    mapped = jax.jit(jax.vmap(gradient))(inputs, weights)
    for i in range(3):
        for found, want in zip(mapped, gradient(inputs[i], weights[i]), strict=True):
            np.testing.assert_allclose(found[i], want, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("inputs", "outputs", "bias"), [((0, 4), (6,), (6,)), ((6,), (0, 4), None)]
)
def test_a_linear_layer_with_an_empty_axis_has_no_kernel(
    inputs: tuple[int, ...], outputs: tuple[int, ...], bias: tuple[int, ...] | None
) -> None:
    layer = Linear(inputs, outputs, bias=bias is not None)
    found, variables = layer.init_with_output(jax.random.key(0), None, batch=(2, 5))
    assert jnp.shape(found) == (2, 5, *outputs)
    assert jax.tree.map(jnp.shape, variables.get("params", {})) == ({"bias": bias} if bias else {})


def test_feed_forward_and_its_gate() -> None:
    module = FeedForward(4, 3, "relu", "float32", nn.initializers.normal(1.0))
    x, gate = jnp.asarray(RNG.normal(size=(1, 2, 4)), jnp.float32), jnp.array([0.0, 1.0, 2.0])
    found, variables = module.init_with_output(jax.random.key(0), x, gate)
    up, down = variables["params"]["up"], variables["params"]["down"]
    hidden = np.maximum(np.asarray(x) @ up["kernel"] + up["bias"], 0) * np.asarray(gate)
    np.testing.assert_allclose(found, hidden @ down["kernel"] + down["bias"], atol=1e-5)


def test_without_units_the_bias_remains() -> None:
    module = FeedForward(4, 0, "relu", "float32", nn.initializers.normal(1.0))
    params = {"down": {"bias": jnp.arange(4.0)}}
    found = module.apply({"params": params}, jnp.ones((1, 2, 4)), None)
    np.testing.assert_array_equal(np.asarray(found), np.tile(np.arange(4.0), (1, 2, 1)))


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("gelu", 0.841345),
        ("gelu_new", 0.841192),
        ("relu", 1.0),
        ("silu", 0.731059),
        ("tanh", 0.761594),
    ],
)
def test_activations_at_one(name: str, want: float) -> None:
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.array(1.0)), want, atol=1e-6)


def test_dropout_keeps_the_expectation_and_its_rate() -> None:
    mask = dropout_mask(jax.random.key(0), 0.1, (400, 400))
    assert np.unique(mask).tolist() == [0.0, pytest.approx(256 / 230)]
    assert float(jnp.mean(mask == 0)) == pytest.approx(26 / 256, abs=0.003)
    assert float(mask.mean()) == pytest.approx(1, abs=0.005)


def test_threefry_is_that_of_jax() -> None:
    """Which runs over a first and a second half of its counts."""
    key = jnp.array([0x13198A2E, 0x03707344], jnp.uint32)
    counts = jnp.array([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    theirs = threefry_2x32(key, jnp.concatenate([counts, jnp.zeros_like(counts)]))
    np.testing.assert_array_equal(jnp.concatenate(threefry(key, counts)), theirs)


@pytest.mark.parametrize("shape", [(7,), (64, 129), (3, 5, 16)])
def test_random_bytes_of_any_width_are_uniform(shape: tuple[int, ...]) -> None:
    found = np.asarray(random_bytes(jax.random.key(0), shape))
    assert found.shape == shape
    assert found.dtype == np.uint8
    if found.size > 1000:
        counts = np.bincount(found.reshape(-1) // 16, minlength=16)
        assert np.all(np.abs(counts - found.size / 16) < 5 * np.sqrt(found.size / 16))


def test_the_gradient_of_a_bias_is_the_sum_over_all_tokens() -> None:
    layer = Linear((5,), (2, 3))
    x = jax.random.normal(jax.random.key(0), (4, 7, 5))
    variables = layer.init(jax.random.key(1), x)
    weights = jax.random.normal(jax.random.key(2), (4, 7, 2, 3))
    gradient = jax.grad(lambda v: jnp.vdot(jnp.asarray(layer.apply(v, x)), weights))(variables)
    np.testing.assert_allclose(gradient["params"]["bias"], weights.sum((0, 1)), rtol=1e-5)


def test_dropout_is_off_without_a_rate_or_in_evaluation() -> None:
    x = jnp.ones((3, 4))
    for rate, deterministic in ((0.5, True), (0.0, False)):
        assert Dropout(rate).apply({}, x, deterministic) is x
    dropped = Dropout(0.5).apply({}, x, False, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(np.asarray(dropped))) == {0.0, 2.0}


def test_positions() -> None:
    ids = jnp.array([[5, 7, 9, 1, 1], [5, 1, 9, 8, 8]])
    assert positions_from_start(ids).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert positions_after_padding(ids, 1).tolist() == [[2, 3, 4, 1, 1], [2, 1, 3, 4, 5]]
