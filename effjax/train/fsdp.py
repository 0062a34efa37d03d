"""The arrays that devices share while no step uses them (ZeRO, stage 3).

XLA could find the communication by itself. Left alone, it carries the split of a kernel on into the
activations, and moves these from device to device instead of the kernel.
"""

import functools

import jax
from jax.lax import with_sharding_constraint
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from effjax.types import Params, PyTree

AXIS = "fsdp"


def in_use(params: Params, places: PyTree) -> Params:
    """Parameters as a forward pass takes them; each device's share of the gradients comes back.

    Source: arXiv 1910.02054, section 5.3. Deviation: what was gathered for the forward pass is kept
    for the backward one, not gathered anew.

    Args:
        places: where every parameter lies.
    """
    return jax.tree.map(lambda x, place: _gathered(x, place) if split(place) else x, params, places)


def gathered_once(params: Params) -> Params:
    """Concrete parameters as `in_use` gives them, for all batches of an evaluation."""
    return jax.device_put(params, jax.tree.map(lambda x: joined(x.sharding), params))


def split(place: Sharding) -> bool:
    """Whether devices share an array that lies there."""
    return isinstance(place, NamedSharding) and AXIS in place.spec


def joined(place: Sharding) -> Sharding:
    """Where an array lies once devices share it no more; other axes split it as before."""
    if not isinstance(place, NamedSharding):
        return place
    kept = (None if name == AXIS else name for name in place.spec)
    return NamedSharding(place.mesh, PartitionSpec(*kept))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gathered(x: jax.Array, place: NamedSharding) -> jax.Array:
    return with_sharding_constraint(x, joined(place))


_gathered.defvjp(
    lambda x, place: (_gathered(x, place), None),
    # Summed, then shared out, which XLA makes one reduce-scatter of where the hardware has it.
    lambda place, _, gradient: (
        with_sharding_constraint(with_sharding_constraint(gradient, joined(place)), place),
    ),
)
