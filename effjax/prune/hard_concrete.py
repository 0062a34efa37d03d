"""The hard concrete distribution: gates that are often exactly 0 or 1, and still have a gradient.

Source: arXiv 1712.01312, section 2.3.
"""

import math

import jax
import jax.numpy as jnp

from effjax.types import Array, Float

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature, and the ends of what is cut off at 0 and 1: those of the paper."""


def sample(log_alpha: Float[Array, "*N"], key: jax.Array) -> Float[Array, "*N"]:
    """z = clip(s (zeta - gamma) + gamma, 0, 1), equation 11, of
    s = sigmoid((log u - log(1 - u) + log alpha) / beta), equation 10.
    """
    u = jax.random.uniform(key, jnp.shape(log_alpha), minval=1e-6, maxval=1 - 1e-6)
    noise = jnp.log(u) - jnp.log1p(-u)
    s = jax.nn.sigmoid((noise + log_alpha) / BETA)
    return jnp.clip(s * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def without_noise(log_alpha: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """sigmoid(0.8 log alpha / beta), a gate that is never quite 0 or 1.

    Source: the release of arXiv 2204.00408. Equation 13, in its place, is cut off at both ends, and
    would leave nothing of what is kept for a budget's sake though it was mostly closed.
    """
    return jax.nn.sigmoid(0.8 * jnp.asarray(log_alpha) / BETA)


def open_probability(log_alpha: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta)), equation 12."""
    return jax.nn.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))
