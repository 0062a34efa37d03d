"""Which weights go at a sparsity: those of the lowest scores, so many of the whole model, of every
matrix, of every output's weights, or of every m in a row.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from effjax.types import Array, Bool, Float, Int, UInt32

Name = Literal["model", "matrix", "output"]
NAMES = get_args(Name)
Within = Name | int
"""What the sparsity holds in: the masked kernels together, each of them, each output's weights, or
every m of these in a row, contracted axes flattened; with an int m, n of m is sparsity 1 - n/m.
"""


def check_sparsity(who: str, sparsity: float | int, within: Within) -> None:
    """Raises a ValueError for a sparsity outside [0, 1), or one that does not go into m weights."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"{who}: sparsity is {sparsity}; expected 0 or more, below 1")
    if not isinstance(within, int):
        if within not in NAMES:
            raise ValueError(
                f"{who}: within is {within!r}; expected a number or one of {', '.join(NAMES)}"
            )
        return
    if within < 1:
        raise ValueError(f"{who}: within is {within}; expected 1 weight or more")
    if abs(sparsity * within - round(sparsity * within)) > 1e-6:
        raise ValueError(
            f"{who}: sparsity is {sparsity} within every {within} weights; expected a multiple of "
            f"1/{within}"
        )


def strongest(
    scores: Mapping[str, Float[Array, "_ _ _"]], sparsity: Array | float | int, within: Within
) -> dict[str, Bool[Array, "_ _ _"]]:
    """True for all but the round(sparsity N) lowest of every N scores that are compared, of equal
    ones the first.

    Which they are is found bit by bit, which is exact and takes a sparsity that is traced. It costs
    32 counts over the scores, and one for every bit of N for those that are equal, each as long as
    reading them takes; no score is sorted, and matrices of one shape go together. The number
    sparsity N is a float32.

    Args:
        scores: of groups, inputs and outputs, by the path of the kernel.

    Raises:
        ValueError: m does not divide the scores along a kernel's inputs; the kernel is named.
    """
    shapes = {path: compared(path, x.shape, within) for path, x in scores.items()}
    axis, alike, low = 1 if within == "model" else 0, {}, {}
    for path, (_, *shape) in shapes.items():
        alike.setdefault(axis or tuple(shape), []).append(path)
    for paths in alike.values():
        together = jnp.concatenate([scores[path].reshape(shapes[path]) for path in paths], axis)
        ends = np.cumsum([shapes[path][axis] for path in paths])[:-1]
        parts = jnp.split(lowest(together, sparsity), ends.tolist(), axis)
        low |= dict(zip(paths, parts, strict=True))
    return {path: ~low[path].reshape(x.shape) for path, x in scores.items()}


def compared(path: str, shape: tuple[int, ...], within: Within) -> tuple[int, int, int]:
    """The shape of [groups, inputs, outputs] in which what is compared lies along the middle; of a
    whole model, this kernel's part of it.
    """
    groups, inputs, outputs = shape
    if within in ("model", "matrix"):
        return 1, groups * inputs * outputs, 1
    if not isinstance(within, int):
        return groups, inputs, outputs
    if inputs % within:
        raise ValueError(
            f"within every {within}: {path} has {inputs} along its inputs, which {within} does not "
            "divide"
        )
    return groups * inputs // within, within, outputs


@jax.jit
def lowest(
    scores_ANC: Float[Array, "A N C"], sparsity: Array | float | int
) -> Bool[Array, "A N C"]:
    """True for the round(sparsity N) lowest along N."""
    size = scores_ANC.shape[1]
    count = jnp.round(jnp.asarray(sparsity) * size).astype(jnp.int32)
    keys_ANC = ordered(scores_ANC)
    last_A1C = nth(keys_ANC, count, 32)
    below_ANC, equal_ANC = keys_ANC < last_A1C, keys_ANC == last_A1C
    room_A1C = count - below_ANC.sum(1, keepdims=True)
    places_1N1 = jnp.arange(size, dtype=jnp.uint32)[None, :, None]
    places_ANC = jnp.where(equal_ANC, places_1N1, jnp.uint32(size))
    return below_ANC | (equal_ANC & (places_ANC < nth(places_ANC, room_A1C + 1, size.bit_length())))


def nth(
    keys_ANC: UInt32[Array, "A N C"], count: Int[Array, "..."], bits: int
) -> UInt32[Array, "A 1 C"]:
    """The largest number of so many bits with fewer than `count` keys along N below it, which is
    the key of that rank, where there is one.
    """

    def with_bit(number: Array, found_A1C: Array) -> Array:
        larger_A1C = found_A1C | (jnp.uint32(1) << (bits - 1 - number).astype(jnp.uint32))
        below_A1C = (keys_ANC < larger_A1C).sum(1, keepdims=True)
        return jnp.where(below_A1C < count, larger_A1C, found_A1C)

    return jax.lax.fori_loop(0, bits, with_bit, jnp.zeros_like(keys_ANC[:, :1]))


def ordered(x: Float[Array, "A N C"]) -> UInt32[Array, "A N C"]:
    """Whole numbers in the order of the float32 numbers."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))
