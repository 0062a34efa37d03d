"""From gradients to updates, without the learning rate: clipping, AdamW or LAMB, layer-wise decay.

What decays and which layer a parameter belongs to is read from the parameter table.
"""

import re
from itertools import takewhile

import jax
import jax.numpy as jnp
import optax

from effjax.table import Table
from effjax.train.training import Training
from effjax.tree import unflatten
from effjax.types import PyTree


def make_optimizer(
    table: Table, training: Training, *, layers: int
) -> optax.GradientTransformation:
    """What turns gradients of {"params", "aux", "reparam"} into updates; all of `aux` decays, and
    nothing of `reparam`, which is not clipped either.

    Sources: AdamW, arXiv 1711.05101, clipping and the mask as in arXiv 1810.04805, as released;
    LAMB, arXiv 1904.00962, algorithm 2, its norms and biases, as released, without trust ratio; an
    array that has had no gradient yet stays as it is, where its decay, at the ratio's full size,
    would wear it away.

    Args:
        layers: depth of the model.
    """
    mask = {"params": decay_mask(table), "aux": True, "reparam": False}
    decay = optax.add_decayed_weights(training.weight_decay)
    if training.optimizer == "lamb":
        decay = where_learned(optax.chain(decay, optax.scale_by_trust_ratio()))
    steps = [
        optax.stateless(lambda gradient, _: clipped(gradient, training.clip_norm)),
        optax.scale_by_adam(b2=training.b2),
        optax.masked(decay, mask),
    ]
    if training.layer_decay != 1:
        own = {"params": layer_factors(table, layers, training.layer_decay)}
        factors = {**own, "aux": 1.0, "reparam": 1.0}
        steps.append(optax.stateless(lambda updates, _: scale(updates, factors)))
    return optax.chain(*steps)


def where_learned(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same for arrays with an update; one whose update is 0 throughout keeps it."""

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, PyTree]:
        new, state = inner.update(updates, state, params)
        kept = jax.tree.map(lambda x, y: jnp.where(jnp.any(x != 0), y, x), updates, new)
        return kept, state

    return optax.GradientTransformation(inner.init, update)


def decay_mask(table: Table) -> PyTree:
    """True for the parameters that decay: kernels and embeddings."""
    return unflatten({row.path: row.role in ("kernel", "embedding") for row in table})


def layer_factors(table: Table, layers: int, decay: float) -> PyTree:
    """`decay` to the power of a parameter's distance from the head.

    Source: arXiv 2003.10555, appendix B, as released: the head and the pooler have distance 0,
    the last layer 2, the first one `layers` + 1, the embeddings, and what else the table has before
    the first layer, `layers` + 2.

    Raises:
        ValueError: layers share weights, which then have no distance of their own.
    """
    layer_of = {row.path: re.match(r"layer_(\d+)/", row.path) for row in table}
    own = len({layer[1] for layer in layer_of.values() if layer})
    if own < layers:
        raise ValueError(
            f"training: layer_decay is {decay}; the {layers} layers of this model share the "
            f"weights of {own}, which have no one depth; allowed: 1"
        )
    below = set(takewhile(lambda path: not layer_of[path], layer_of))

    def distance(path: str) -> int:
        if layer := layer_of[path]:
            return layers + 1 - int(layer[1])
        return layers + 2 if path in below else 0

    return unflatten({path: decay ** distance(path) for path in layer_of})


def scale(updates: PyTree, factors: PyTree) -> PyTree:
    """Every sub-tree of the updates times its factor; one factor may stand for many arrays."""
    return jax.tree.map(
        lambda factor, part: jax.tree.map(lambda x: factor * x, part), factors, updates
    )


def clipped(gradient: PyTree, largest: float) -> PyTree:
    """The gradient with all but that of `reparam` clipped."""
    rest = {name: part for name, part in gradient.items() if name != "reparam"}
    return {**clip(rest, largest), "reparam": gradient["reparam"]}


def clip(gradient: PyTree, largest: float) -> PyTree:
    """The gradient, scaled down to a global norm of `largest` if it is longer.

    Source: arXiv 1211.5063, algorithm 1. One factor for all: a division per element, as in
    `optax.clip_by_global_norm`, is work that XLA does not fuse with what follows on a CPU.
    """
    factor = jnp.minimum(1, largest / optax.tree.norm(gradient))
    return jax.tree.map(lambda x: factor * x, gradient)
