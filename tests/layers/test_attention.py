"""Attention against its formula in numpy, and its fast form against the textbook."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax._src.cudnn import fused_attention_stablehlo

from effjax.layers.attention import FROM_SCORES, SelfAttention
from effjax.layers.softmax import (
    MASKED,
    dot_products,
    fused_attention,
    late_division_attention,
    textbook_attention,
)
from effjax.models.base import Runtime

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
VALUES = RNG.normal(size=(2, 3, 5, 6)).astype(np.float32)


def attention(heads: int = 3) -> SelfAttention:
    return SelfAttention(12, heads, 4, 0.0, "textbook", "float32", nn.initializers.normal(0.5))


@pytest.mark.parametrize("kernel", FROM_SCORES)
def test_softmax_times_values(kernel: str) -> None:
    weights = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
    found = FROM_SCORES[kernel](jnp.asarray(SCORES), jnp.asarray(VALUES), None)
    np.testing.assert_allclose(found, weights @ VALUES, atol=1e-6)


def test_late_division_survives_large_scores() -> None:
    found = late_division_attention(jnp.asarray(SCORES) + 1e4, jnp.asarray(VALUES), None)
    want = textbook_attention(jnp.asarray(SCORES) + 1e4, jnp.asarray(VALUES), None)
    assert jnp.isfinite(found).all()
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_no_gradient_transposes_the_weights_of_all_pairs() -> None:
    """4 queries and 5 keys: on a CPU an array of 5 x 4 would be laid out anew, number by number."""

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return late_division_attention(dot_products(q, k), v, None).sum()

    shapes = (2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 6)
    lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*map(jnp.ones, shapes)).as_text()
    assert "tensor<2x3x4x5xf32>" in lowered
    assert "tensor<2x3x5x4xf32>" not in lowered


def test_both_drop_the_same_weights() -> None:
    """The sum that divides is of all weights, dropped or not, as in a softmax before dropout."""
    drop = jnp.asarray(RNG.integers(0, 2, SCORES.shape) * 1.25, jnp.float32)
    scores, values = jnp.asarray(SCORES), jnp.asarray(VALUES)
    found = late_division_attention(scores, values, drop)
    np.testing.assert_allclose(found, textbook_attention(scores, values, drop), atol=1e-6)
    assert not np.allclose(found, late_division_attention(scores, values, None))


DROPPED = jnp.asarray(RNG.integers(0, 2, SCORES.shape) * 1.25, jnp.float32)


@pytest.mark.parametrize("drop", [None, DROPPED], ids=["whole", "dropped"])
def test_the_gradients_are_those_of_the_formula(drop: jax.Array | None) -> None:
    q, k = (jnp.asarray(RNG.normal(size=(2, 3, n, 6)), jnp.float32) for n in (4, 5))

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.square(late_division_attention(dot_products(q, k), v, drop)).sum()

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(q @ k.mT) * (1 if drop is None else drop)
        return jnp.square(weights @ v).sum()

    arguments = (q, k, jnp.asarray(VALUES))
    for found, want in zip(
        jax.grad(loss, (0, 1, 2))(*arguments), jax.grad(plain, (0, 1, 2))(*arguments), strict=True
    ):
        np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_fused_form_is_the_textbook_with_its_gradients() -> None:
    """Of two segments of 3 and 2 tokens that share a row."""
    arrays = [jnp.asarray(RNG.normal(size=(2, 3, 5, 6)), jnp.float32) for _ in range(3)]
    segments = np.array([1, 1, 1, 2, 2])
    mask = jnp.asarray(segments[:, None] == segments)[None, None].repeat(2, 0)

    def fused(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sin(fused_attention(q, k, v, mask))

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        scores = jnp.where(mask, dot_products(q, k) / jnp.sqrt(6), MASKED)
        return jnp.sin(textbook_attention(scores, v, None))

    np.testing.assert_allclose(fused(*arrays), plain(*arrays), atol=1e-6)
    found, want = (
        jax.grad(lambda *x, form=form: form(*x).sum(), (0, 1, 2))(*arrays)
        for form in (fused, plain)
    )
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 16], ids=["padded", "packed"])
def test_the_fused_form_is_one_kernel_of_a_gpu(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowered for CUDA with JAX's look at the hardware left out, since there is none."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in ("check_cudnn_version", "check_compute_capability"):
        monkeypatch.setattr(fused_attention_stablehlo, name, lambda *_: 91000)
    monkeypatch.setattr(
        fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda _: False
    )
    module = SelfAttention(64, 2, 32, 0.0, "fused", "bfloat16", nn.initializers.normal())
    x, mask = jnp.ones((2, 16, 64), jnp.bfloat16), jnp.ones((2, 1, rows, 16), bool)
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "cpu")
        variables = module.init(jax.random.key(0), x, {"mask": mask}, None, True)

    def loss(variables: dict, deterministic: bool) -> jax.Array:
        return module.apply(variables, x, {"mask": mask}, None, deterministic)[0].sum()

    program = jax.jit(jax.grad(loss), static_argnums=1).trace(variables, False)
    lowered = program.lower(lowering_platforms=("cuda",)).as_text()
    assert "fmhaScaleBiasSoftmax(" in lowered or 'fmhaScaleBiasSoftmax"' in lowered
    assert "fmhaScaleBiasSoftmaxBackward" in lowered
    assert "exponential" not in lowered


def test_the_fused_form_is_refused_in_float32() -> None:
    with pytest.raises(ValueError, match="fused attention needs dtype bfloat16; it is float32"):
        Runtime(attention="fused")


def test_gradients_in_bfloat16_are_near_those_in_float32() -> None:
    """And its products are in bfloat16, forward and backward."""
    arrays = [jnp.asarray(RNG.normal(size=(2, 3, 32, 16)), jnp.bfloat16) for _ in range(3)]

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        context = late_division_attention(dot_products(q, k) / 4, v, None)
        return jnp.square(context.astype(jnp.float32)).sum()

    gradients = jax.grad(loss, (0, 1, 2))
    exact = gradients(*(x.astype(jnp.float32) for x in arrays))
    for found, want in zip(gradients(*arrays), exact, strict=True):
        error = jnp.linalg.norm(found.astype(jnp.float32) - want) / jnp.linalg.norm(want)
        assert error < 1e-2
    lowered = jax.jit(gradients).lower(*arrays).as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line]
    assert len(products) == 6
    assert all(line.count("bf16>") == 2 for line in products)


@pytest.mark.parametrize("kernel", FROM_SCORES)
def test_a_row_of_padding_alone_stays_a_number(kernel: str) -> None:
    masked = jnp.full(SCORES.shape, MASKED)
    found = FROM_SCORES[kernel](masked, jnp.asarray(VALUES), None)
    np.testing.assert_allclose(found, VALUES.mean(2, keepdims=True).repeat(4, 2), atol=1e-6)


def test_masked_keys_have_no_part() -> None:
    """The output for real queries has no gradient with respect to a masked key's input."""
    module, x = attention(), jnp.asarray(RNG.normal(size=(1, 5, 12)), jnp.float32)
    mask = jnp.array([1, 1, 1, 0, 0], bool)[None, None, None]
    _, variables = module.init_with_output(jax.random.key(0), x, {"mask": mask}, None, True)

    def real(x: jax.Array) -> jax.Array:
        return module.apply(variables, x, {"mask": mask}, None, True)[0][:, :3].sum()

    gradient = jax.grad(real)(x)
    assert not gradient[:, 3:].any() and gradient[:, :3].all()


def test_scores_are_scaled_and_unmasked() -> None:
    module, x = attention(), jnp.asarray(RNG.normal(size=(1, 5, 12)), jnp.float32)
    mask = jnp.zeros((1, 1, 1, 5), bool)
    _, trace = module.init_with_output(jax.random.key(0), x, {"mask": mask}, None, True)[0]
    want = np.einsum("bhlk,bhmk->bhlm", trace["q"], trace["k"]) / 2
    np.testing.assert_allclose(trace["scores"], want, atol=1e-5)


def test_without_heads_the_bias_of_the_output_remains() -> None:
    module, x = attention(heads=0), jnp.ones((2, 5, 12))
    mask = jnp.ones((2, 1, 1, 5), bool)
    _, variables = module.init_with_output(jax.random.key(0), x, {"mask": mask}, None, True)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"output": {"bias": (12,)}}
    params = {"output": {"bias": jnp.arange(12.0)}}
    found, trace = module.apply({"params": params}, x, {"mask": mask}, None, True)
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(12.0), (2, 5, 12)))
    assert trace == {}
