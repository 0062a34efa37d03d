"""Contract: what is to be multiplied in bfloat16 is, in the program that a CPU runs.

XLA folds a transpose into the product that reads it, and where it then has no such product of
bfloat16 it computes one of float32, without a word and half as fast.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from effjax.layers.linear import exchanged, product_with_words
from effjax.models.base import Runtime
from effjax.models.model import apply, forward, inputs


def products(compiled: jax.stages.Compiled) -> list[tuple[str, ...]]:
    """What each product of a program reads, as in ("bf16[8,4]", "bf16[4,6]")."""
    text = compiled.as_text()
    assert text is not None
    found = []
    for computation in text.split("\n\n"):
        types = dict(re.findall(r"(%\S+) = (\w+\[[\d,]*\])", computation))
        for names in re.findall(r" dot\((.*?)\)", computation):
            found.append(tuple(types[name.split()[-1]] for name in names.split(", ")))
    return found


def least(product: tuple[str, ...]) -> int:
    """The shortest axis that a product has."""
    return min(int(size) for x in product for size in re.findall(r"(\d+)[,\]]", x))


@pytest.fixture(scope="module", autouse=True)
def _products_of_bfloat16() -> None:
    x = jnp.ones((64, 64), jnp.bfloat16)
    product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    if products(product.lower(x, x).compile()) != [("bf16[64,64]", "bf16[64,64]")]:
        pytest.skip("XLA has no products of bfloat16 on this CPU")


@pytest.mark.parametrize("what", ["outputs", "gradient"])
def test_products_are_of_bfloat16(pair: Callable[..., Any], name: str, what: str) -> None:
    both = pair(name, None)
    model = both.model.replace(runtime=Runtime(dtype="bfloat16"))
    batch = inputs(model.config, both.batch)

    def loss(params: Any) -> jax.Array:
        last_hidden = apply(model.module, params, batch).last_hidden
        assert last_hidden is not None
        return jnp.square(last_hidden).sum()

    if what == "outputs":
        lowered = forward.lower(model, batch)
    else:
        lowered = jax.jit(jax.grad(loss)).lower(model.params)
    found = products(lowered.compile())
    assert len(found) >= 4 * model.config.num_layers
    # Blocks of 2 tokens, as the local layers of these tests have them, are too short for it.
    assert all(x.startswith("bf16") for one in found for x in one if least(one) > 2)


def test_products_with_words_are_of_bfloat16() -> None:
    """The largest ones of a masked LM: forward, and both of the gradient."""
    y, words = jnp.ones((24, 16)), jnp.ones((40, 16))

    def loss(y: jax.Array, words: jax.Array) -> jax.Array:
        return jnp.square(product_with_words(y, words, "bfloat16").astype(jnp.float32)).sum()

    found = products(jax.jit(jax.grad(loss, argnums=(0, 1))).lower(y, words).compile())
    assert len(found) == 3 and all(x.startswith("bf16") for one in found for x in one)


def test_no_rows_are_exchanged_too() -> None:
    assert exchanged(jnp.zeros((0, 5, 2, 3), jnp.bfloat16)).shape == (0, 2, 5, 3)
