"""Position-wise feed-forward networks and their activations."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from effjax.layers.dropout import Dropout
from effjax.layers.linear import GroupedLinear, Linear
from effjax.layers.rounding import rounded
from effjax.types import Array, Float


def gelu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x Phi(x) = x / 2 (1 + erf(x / sqrt(2))), in float32 whatever the input.

    Source: arXiv 1606.08415, equation 2, as torch computes it; `jax.nn.gelu` takes erfc, which is
    slower on a CPU.
    """
    wide = x.astype(jnp.float32)
    y = 0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))
    return rounded(y) if x.dtype == jnp.bfloat16 else y.astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jax.numpy.tanh,
}


class FeedForward(nn.Module):
    """W_2 (gate * activation(W_1 x + b_1)) + b_2.

    Source: arXiv 1706.03762, equation 2, with the activation of the model; the gate per unit is
    arXiv 2204.09656."""

    hidden: int
    width: int
    activation: str
    dtype: str
    kernel_init: Initializer

    @nn.compact
    def __call__(
        self, x_BLD: Float[Array, "B L D"], gate_F: Float[Array, "F"] | None
    ) -> Float[Array, "B L D"]:
        down = self.linear("down", self.width, self.hidden)
        if not self.width:
            return down(None, batch=x_BLD.shape[:2])
        up = self.linear("up", self.hidden, self.width)
        h_BLF = ACTIVATIONS[self.activation](up(x_BLD))
        return down(h_BLF if gate_F is None else h_BLF * gate_F.astype(h_BLF.dtype))

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Module:
        """One of the two products."""
        return Linear((inputs,), (outputs,), self.dtype, kernel_init=self.kernel_init, name=name)


class GroupedFeedForward(FeedForward):
    """The same, each product in G groups that do not mix. Source: arXiv 2008.02496, section 3.3."""

    groups: int

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Module:
        return GroupedLinear(self.groups, inputs, outputs, self.dtype, self.kernel_init, name=name)


class GatedFeedForward(nn.Module):
    """W_2 (gate * activation(W_g x) * W_u x): GeGLU with GELU, SwiGLU with SiLU.

    Source: arXiv 2002.05202, equation 6; the gate per unit is arXiv 2204.09656.
    """

    hidden: int
    width: int
    activation: str
    bias: bool
    dtype: str
    kernel_init: Initializer
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        gate_F: Float[Array, "F"] | None,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        down = self.linear("down", (self.width,), (self.hidden,))
        if not self.width:
            return down(None, batch=x_BLD.shape[:2])
        gate_BLF, up_BLF = self.widened(x_BLD)
        h_BLF = ACTIVATIONS[self.activation](gate_BLF) * up_BLF
        if gate_F is not None:
            h_BLF = h_BLF * gate_F.astype(h_BLF.dtype)
        return down(Dropout(self.dropout)(h_BLF, deterministic))

    def widened(
        self, x_BLD: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B L F"]]:
        """W_g x and W_u x."""
        shape = (self.hidden,), (self.width,)
        return self.linear("gate", *shape)(x_BLD), self.linear("up", *shape)(x_BLD)

    def linear(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Linear:
        """One of the products."""
        return Linear(inputs, outputs, self.dtype, self.bias, self.kernel_init, name=name)


class FusedGatedFeedForward(GatedFeedForward):
    """The same with W_g and W_u as one product, "gate_up"."""

    def widened(
        self, x_BLD: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B L F"], Float[Array, "B L F"]]:
        both_BLSF = self.linear("gate_up", (self.hidden,), (2, self.width))(x_BLD)
        return both_BLSF[..., 0, :], both_BLSF[..., 1, :]
