"""Normalisation, in float32 whatever the input.

Where part of the vector is closed by gates, a norm goes over what is open (`effjax.models
.hidden_gates`).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.types import Array, Float

OPEN = "open"
"""The collection of what is open of the vector that a norm goes over: `mask` [D], 1 or 0."""


def mean(x_BLD: Float[Array, "*B D"], open_D: Float[Array, "D"] | None) -> Float[Array, "*B 1"]:
    """The mean over what is open; over all of it for None."""
    if open_D is None:
        return x_BLD.mean(-1, keepdims=True)
    return (x_BLD * open_D).sum(-1, keepdims=True) / open_D.sum()


class LayerNorm(nn.Module):
    """y = (x - E[x]) / sqrt(Var[x] + eps) * scale + bias; some models have no bias.

    Source: arXiv 1607.06450, section 3.
    """

    eps: float
    bias: bool = True

    @nn.compact
    def __call__(self, x_BLD: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", nn.initializers.ones, x_BLD.shape[-1:])
        x = x_BLD.astype(jnp.float32)
        open_D = self.get_variable(OPEN, "mask")
        centred = x - mean(x, open_D)
        variance = mean(jnp.square(centred), open_D)
        y = centred * jax.lax.rsqrt(variance + self.eps) * scale
        if self.bias:
            y += self.param("bias", nn.initializers.zeros, x_BLD.shape[-1:])
        return y.astype(x_BLD.dtype)


class NoNorm(nn.Module):
    """y = x * scale + bias, what MobileBERT has in place of a norm. Source: arXiv 2004.02984,
    section 3.3.
    """

    @nn.compact
    def __call__(self, x_BLD: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", nn.initializers.ones, x_BLD.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x_BLD.shape[-1:])
        return (x_BLD.astype(jnp.float32) * scale + bias).astype(x_BLD.dtype)


class RMSNorm(nn.Module):
    """y = x / sqrt(E[x^2] + eps) * scale. Source: arXiv 1910.07467, equation 4."""

    eps: float

    @nn.compact
    def __call__(self, x_BLD: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", nn.initializers.ones, x_BLD.shape[-1:])
        x = x_BLD.astype(jnp.float32)
        square = mean(jnp.square(x), self.get_variable(OPEN, "mask"))
        return (x * jax.lax.rsqrt(square + self.eps) * scale).astype(x_BLD.dtype)
