"""The one place where a weight is multiplied; quantised weights and precisions come in here."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.rounding import rounded
from effjax.types import Array, Float, Words

READ = "read"
"""The collection of what every kernel reads, where somebody asks for it (`mutable=[READ]`)."""

FACTORS = ("left", "right")
"""Where the parameters of a module hold two factors in place of a weight."""


def stored_factors(module: nn.Module) -> tuple[Array, Array] | None:
    """The two factors that a module's parameters hold, if they do."""
    if not module.has_variable("params", FACTORS[0]):
        return None
    left, right = (module.get_variable("params", name) for name in FACTORS)
    return left, right


def product(
    x: Float[Array, "*batch inputs"],
    kernel: Float[Array, "..."],
    inputs: int,
    dtype: str,
    bias: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """x @ kernel + bias, contracting the last `inputs` axes of x with the first of the kernel.

    Computed in `dtype`, accumulated in float32, with the bias too, and returned in `dtype`.
    """
    batch, contracted = x.shape[: x.ndim - inputs], math.prod(kernel.shape[:inputs])
    rows = x.reshape(-1, contracted).astype(dtype)
    matrix = kernel.reshape(contracted, -1)
    added = None if bias is None else bias.reshape(-1)
    affine = float32_affine if dtype == "float32" else bfloat16_affine
    return affine(rows, matrix, added).reshape(*batch, *kernel.shape[inputs:])


def float32_affine(
    x: Float[Array, "T I"], kernel: Float[Array, "I O"], bias: Float[Array, "O"] | None
) -> Float[Array, "T O"]:
    """x @ kernel + bias."""
    y = jnp.matmul(x, kernel)
    return y if bias is None else y + bias


@jax.custom_vjp
def bfloat16_affine(
    x: Float[Array, "T I"], kernel: Float[Array, "I O"], bias: Float[Array, "O"] | None
) -> Float[Array, "T O"]:
    """x @ kernel + bias, a product of bfloat16 accumulated in float32 and rounded once, with the
    bias. The products of the backward pass are of bfloat16 too, which in plain differentiation
    would be of float32, as the cotangent is; the bias's gradient is summed in float32.
    """
    y = jnp.matmul(x, kernel.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    return rounded(y if bias is None else y + bias)


Operands = tuple[Array, Array, Array | None]
"""x, kernel and bias, or their gradients."""


def _forward(x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Operands]:
    return bfloat16_affine(x, kernel, bias), (x, kernel, bias)


def _backward(saved: Operands, cotangent: Array) -> Operands:
    x, kernel, bias = saved
    low = kernel.astype(jnp.bfloat16)
    dx = _with_rows(cotangent, low)
    dkernel = jnp.matmul(turned(x), cotangent, preferred_element_type=jnp.float32)
    dbias = None if bias is None else cotangent.sum(0, dtype=jnp.float32).astype(bias.dtype)
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype), dbias


bfloat16_affine.defvjp(_forward, _backward)


def _with_rows(x: Array, rows: Array) -> Array:
    """x @ rows.T in float32; as it is written there, XLA has no product of bfloat16 on a CPU."""
    last = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(x, rows, last, preferred_element_type=jnp.float32)


def laid_out(transpose: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A transpose of an array's last axes that is really laid out in memory on a CPU.

    XLA folds a plain transpose into the product that reads it, and then has no product of bfloat16
    for it, or a slower one. A branch that is decided at run time stops it; only NaN takes the other
    one, and gives NaN too.
    """

    @jax.custom_batching.custom_vmap
    def transposed(x: Array) -> Array:
        if 0 in x.shape:  # there is no number to decide by
            return transpose(x)
        return jax.lax.platform_dependent(
            x,
            cpu=lambda y: jax.lax.cond(
                y.ravel()[0] <= jnp.inf,
                transpose,
                lambda z: jnp.full_like(transpose(z), jnp.nan),
                y,
            ),
            default=transpose,
        )

    @transposed.def_vmap
    def with_an_axis_more(size: int, batched: list[bool], x: Array) -> tuple[Array, bool]:
        """As it is written: mapped, the branch would be a choice, which XLA folds away."""
        del size, batched  # there is one argument
        return transposed(x), True

    return transposed


turned = laid_out(lambda x: x.mT)
"""[*batch, A, B] to [*batch, B, A]."""

_exchanged = laid_out(lambda x: x.swapaxes(-3, -2))


def exchanged(x: Float[Array, "*batch A B C"]) -> Float[Array, "*batch B A C"]:
    """Two axes of x in the other order, as products of bfloat16 want it, there and back."""
    return _exchanged_both_ways(x) if x.dtype == jnp.bfloat16 else x.swapaxes(-3, -2)


@jax.custom_vjp
def _exchanged_both_ways(x: Array) -> Array:
    return _exchanged(x)


_exchanged_both_ways.defvjp(lambda x: (_exchanged(x), None), lambda _, dx: (_exchanged(dx),))


def product_with_words(
    y: Float[Array, "*batch E"], words_VE: Words, dtype: str
) -> Float[Array, "*batch V"]:
    """y @ words.T, as `product`; of two factors, with one after the other."""
    if isinstance(words_VE, tuple):
        left_VZ, right_ZE = words_VE
        return product_with_words(product_with_words(y, right_ZE, dtype), left_VZ, dtype)
    if dtype == "float32":
        return product(y, words_VE.T, 1, dtype)
    rows = y.reshape(-1, y.shape[-1]).astype(dtype)
    return bfloat16_matmul_with_rows(rows, words_VE).reshape(*y.shape[:-1], -1)


@jax.custom_vjp
def bfloat16_matmul_with_rows(
    x: Float[Array, "T I"], rows: Float[Array, "O I"]
) -> Float[Array, "T O"]:
    """x @ rows.T as `bfloat16_affine`; the gradient lies as the rows do."""
    return rounded(_with_rows(x, rows.astype(jnp.bfloat16)))


def _with_rows_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, rows = saved
    low = rows.astype(jnp.bfloat16)
    dx = jnp.matmul(cotangent, low, preferred_element_type=jnp.float32)
    drows = jnp.matmul(turned(cotangent), x, preferred_element_type=jnp.float32)
    return dx.astype(x.dtype), drows.astype(rows.dtype)


bfloat16_matmul_with_rows.defvjp(
    lambda x, rows: (bfloat16_matmul_with_rows(x, rows), (x, rows)), _with_rows_backward
)


class Linear(nn.Module):
    """y = x W + b over several axes at once, for example hidden -> (heads, head size).

    With an empty axis there is no kernel: the product of nothing is zero, and the bias remains.
    Parameters that hold two factors, W = left right, make y = (x left) right + b.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtype: str = "float32"
    bias: bool = True
    kernel_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(
        self, x: Float[Array, "..."] | None, batch: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Args: x, [*batch, *inputs]; None where `inputs` is empty, and then `batch` gives the
        leading shape.
        """
        if math.prod(self.inputs) and x is not None:
            return self.affine(x)
        y = jnp.zeros((*batch, *self.outputs), self.dtype)
        return y if (bias := self.added()) is None else y + bias.astype(y.dtype)

    def affine(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x W + b."""
        if (both := stored_factors(self)) is None:
            kernel = self.param("kernel", self.kernel_init, self.inputs + self.outputs)
            self.sow(READ, "kernel", x)
            return product(x, kernel, len(self.inputs), self.dtype, self.added())
        (first, left), (second, right) = zip(FACTORS, both, strict=True)
        self.sow(READ, first, x)
        x = product(x, left, len(self.inputs), self.dtype)
        self.sow(READ, second, x)
        return product(x, right, 1, self.dtype, self.added())

    def added(self) -> Float[Array, "..."] | None:
        """b."""
        return self.param("bias", nn.initializers.zeros, self.outputs) if self.bias else None


class GroupedLinear(nn.Module):
    """y_g = x_g W_g + b_g: each of G equal parts of x has a product of its own, with 1/G of the
    weights of a `Linear`.

    Source: arXiv 2006.11316, section 3, the convolution of kernel size 1 with groups.
    """

    groups: int
    inputs: int
    outputs: int
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        groups, each, out = self.groups, self.inputs // self.groups, self.outputs // self.groups
        kernel_GIO = self.param("kernel", self.kernel_init, (groups, each, out))
        x_GTI = exchanged(x.reshape(-1, groups, each).astype(self.dtype))
        bias_GO = self.param("bias", nn.initializers.zeros, (self.outputs,)).reshape(groups, out)
        y_GTO = jax.vmap(
            lambda x_TI, kernel_IO, bias_O: product(x_TI, kernel_IO, 1, self.dtype, bias_O)
        )(x_GTI, kernel_GIO, bias_GO)
        return exchanged(y_GTO).reshape(*x.shape[:-1], self.outputs)
