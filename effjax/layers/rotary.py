"""Rotary positions: queries and keys are turned by angles that grow with their place.

A query at place m and a key at place n, turned so, have a product that knows m - n alone.

Source: arXiv 2104.09864, equations 13 to 16 and 34. Deviation, as in Hugging Face: number i of the
first half of a head is paired with number i of the second half, not each with its neighbour.
"""

import jax.numpy as jnp
import numpy as np

from effjax.layers.attention import SelfAttention
from effjax.layers.linear import Linear, exchanged
from effjax.types import Array, Float, Int, Shared


def rotation_key(base: float) -> str:
    """Where the layers of an encoder find the table of this base."""
    return f"rotation_{base}"


def rotation(
    position_ids: Int[Array, "B L"], head_size: int, base: float
) -> Float[Array, "2 B 1 L half"]:
    """cos and sin of m base^(-2i/K) for every token's position m and every pair i of a head."""
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / head_size
    frequencies = (1 / np.float32(base) ** exponents).astype(np.float32)
    angles_B1LI = position_ids[:, None, :, None].astype(jnp.float32) * frequencies
    return jnp.stack([jnp.cos(angles_B1LI), jnp.sin(angles_B1LI)])


def rotated(
    x_BHLK: Float[Array, "B H L K"], table: Float[Array, "2 B 1 L half"]
) -> Float[Array, "B H L K"]:
    """Queries or keys turned by a table, in float32."""
    cos, sin = table
    first, second = jnp.split(x_BHLK.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x_BHLK.dtype)


class RotaryAttention(SelfAttention):
    """Self-attention whose queries and keys are turned by the table of its base in `shared`; all of
    its products have a bias, or none.
    """

    rope_base: float
    bias: bool

    def project(self, x_BLD: Float[Array, "B L D"], shared: Shared) -> tuple[Array, Array, Array]:
        q_BHLK, k_BHMK, v_BHMK = super().project(x_BLD, shared)
        table = shared[rotation_key(self.rope_base)]
        return rotated(q_BHLK, table), rotated(k_BHMK, table), v_BHMK

    def linear(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Linear:
        return Linear(inputs, outputs, self.dtype, self.bias, self.kernel_init, name=name)


class GroupedQueryAttention(RotaryAttention):
    """Rotary attention in which all heads of a group share one key and one value.

    Keys and values are repeated for every head of their group; from then on it is plain attention.
    Kernels have an axis of groups before that of a group's heads, so that a group goes as a whole.

    Source: arXiv 2305.13245, section 2.2.
    """

    groups: int

    @property
    def head_axes(self) -> tuple[int, ...]:
        return (self.groups, self.heads // self.groups if self.groups else 0)

    def project(self, x_BLD: Float[Array, "B L D"], shared: Shared) -> tuple[Array, Array, Array]:
        q_BHLK, k_BGMK, v_BGMK = super().project(x_BLD, shared)
        each = self.heads // self.groups
        return q_BHLK, jnp.repeat(k_BGMK, each, axis=1), jnp.repeat(v_BGMK, each, axis=1)

    def projected(self, name: str, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B H L K"]:
        if name == "query":
            return super().projected(name, x_BLD)
        y_BLGK = self.linear(name, (self.hidden,), (self.groups, self.head_size))(x_BLD)
        return exchanged(y_BLGK)
