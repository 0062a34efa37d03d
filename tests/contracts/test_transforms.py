"""Contract: a model is an ordinary JAX value: jit, grad, gates, and lowering for other machines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effjax.distill import Given, HiddenCosine, SoftTargets, TaskLoss, Weighted
from effjax.models.base import Head, Runtime
from effjax.models.model import Model
from effjax.types import Array
from tests.contracts.rows import UNSUPPORTED

Build = Callable[[str, Head | None], Any]

HEAD: Head = "sequence-classification"


def apply(module: Any, params: Any, batch: Any, **options: Any) -> Any:
    """The model as plain Linen."""
    return module.apply({"params": params}, batch, **options)


def test_a_model_is_an_argument_of_jit(pair: Build, name: str) -> None:
    """New weights do not compile again; a new config does."""
    both = pair(name, HEAD)
    traces = []

    @jax.jit
    def logits(model: Model, batch: Any) -> Array:
        traces.append(model.config)
        return apply(model.module, model.params, batch).logits

    np.testing.assert_allclose(logits(both.model, both.batch), both.ours.logits, atol=1e-5)
    doubled = both.model.replace(params=jax.tree.map(lambda x: 2 * x, both.model.params))
    assert not np.allclose(logits(doubled, both.batch), both.ours.logits)
    assert len(traces) == 1
    leaves, structure = jax.tree.flatten(both.model)
    assert len(leaves) == len(both.model.table)
    assert jax.tree.unflatten(structure, leaves).config == both.model.config


def test_calling_and_tracing_agree_with_plain_linen(pair: Build, name: str) -> None:
    both = pair(name, HEAD)
    called, traced = both.model(both.batch), both.model.trace(both.batch)
    assert called.layers == () and called.embedded is None
    for outputs in (called, traced):
        np.testing.assert_allclose(outputs.logits, both.ours.logits, atol=1e-5)
    for layer in range(both.model.config.num_layers + 1):
        ours, theirs = traced.hidden(layer)[both.mask], both.ours.hidden(layer)[both.mask]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_gradients_through_gates_are_finite_and_there(pair: Build, name: str) -> None:
    """Every head and unit matters to the loss, and padding alone in a row breaks nothing."""
    both = pair(name, HEAD)
    gates = {i: jnp.ones(n) for i, n in both.model.table.instances.items() if "/" in i}
    batch = {**both.batch, "attention_mask": both.batch["attention_mask"].copy()}
    batch["attention_mask"][-1] = 0

    @jax.jit
    @jax.grad
    def gradient(gates: Any) -> Array:
        outputs = apply(both.model.module, both.model.params, batch, gates=gates)
        return TaskLoss()(outputs, Given(batch={"labels": np.array([0, 1, 2])})).mean()

    assert bool(gates) == ((name, "pruning") not in UNSUPPORTED)
    for instance, found in gradient(gates).items():
        assert jnp.isfinite(found).all(), instance
        assert (found != 0).all(), instance


def test_a_distillation_step_lowers_for_tpu_and_cuda(pair: Build, name: str) -> None:
    """Loss and gradient of a student under dropout, lowered here without either machine."""
    both = pair(name, HEAD)
    objective = Weighted(
        soft=(1.0, SoftTargets(temperature=2.0)), cos=(1.0, HiddenCosine()), task=(1.0, TaskLoss())
    )
    model = both.model.replace(runtime=Runtime(dtype="bfloat16"))

    def loss(params: Any, batch: Any, key: jax.Array) -> Array:
        module, inputs = model.module, {k: v for k, v in batch.items() if k != "labels"}
        student = apply(module, params, inputs, deterministic=False, rngs={"dropout": key})
        teachers = {"teacher": apply(module, params, inputs)}
        return objective({}, student, teachers, batch).total

    batch = {**both.batch, "labels": np.array([0, 1, 2])}
    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=("tpu", "cuda"))
    lowered = exported(model.params, batch, jax.random.key(0))
    assert lowered.platforms == ("tpu", "cuda")
    assert len(lowered.out_avals) == len(model.table)


def test_dropout_follows_its_key(pair: Build, name: str) -> None:
    both = pair(name, HEAD)

    @jax.jit
    def logits(key: jax.Array) -> Array:
        drawn = {"deterministic": False, "rngs": {"dropout": key}}
        return apply(both.model.module, both.model.params, both.batch, **drawn).logits

    first, again, other = (logits(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)
