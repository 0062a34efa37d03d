"""Dropping whole layers, by where they are or by what they do.

    small = without_layers(model, top(model, 3))
    small = without_layers(model, least_important(model, encoded, loss, 3))

What says which layers is a tuple of their numbers, counted from 0, in the order in which they are
to go: of 3 it is the beginning of that of 4. So a budget cuts one short:

    order = least_important(model, encoded, loss, model.config.num_layers - 1)
    small = fewer_layers(model, order, lambda m: cost(m).product_flops, at_most=1e9)

Source: arXiv 2004.03844, section 3; each function says what of it. A student so begun is
`effjax.distill.init_student` of the other layers.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.layers.pooling import first_of_tokens
from effjax.models.depth import with_layers
from effjax.models.model import Model, apply
from effjax.prune.scores import AT_ONCE, Loss, one_by_one
from effjax.table import Table
from effjax.types import Array, Batch, Float

Order = tuple[int, ...]
"""Numbers of layers, counted from 0, in the order in which they are to go."""


def without_layers(model: Model, layers: Sequence[int]) -> Model:
    """The model without these layers, the arrays of the others shared with it.

    Raises:
        ValueError: there is no such layer, or one is named twice, or none is left.
    """
    depth, gone = model.config.num_layers, set(layers)
    if len(gone) < len(layers) or not gone <= set(range(depth)):
        raise ValueError(
            f"dropping layers {tuple(layers)}: expected each once, from 0 to {depth - 1}"
        )
    check_count(model, len(gone))
    return with_layers(model, [i for i in range(depth) if i not in gone])


def fewer_layers(
    model: Model,
    layers: Sequence[int],
    cost: Callable[[Model], float | int],
    *,
    at_most: float | int,
) -> Model:
    """The model without as few of these layers as a budget allows; all of it, if that is within.

    Args:
        layers: in the order in which they are to go.
        cost: of a model: `lambda m: m.num_params`, or what `effjax.measure` tells of it.
        at_most: in the unit of that.

    Raises:
        ValueError: without all of these layers it costs more too; or as of `without_layers`.
    """
    least = np.inf
    for count in range(len(layers) + 1):
        small = without_layers(model, layers[:count])
        if (found := cost(small)) <= at_most:
            return small
        least = min(least, found)
    raise ValueError(
        f"no model without some of the layers {tuple(layers)} costs {at_most:,.4g} or less; the "
        f"nearest possible costs {least:,.4g}"
    )


def top(model: Model, drop: int) -> Order:
    """The last layers. Source: arXiv 2004.03844, top-layer dropping."""
    check_count(model, drop)
    return tuple(range(model.config.num_layers))[::-1][:drop]


def bottom(model: Model, drop: int) -> Order:
    """The first layers. Source: arXiv 2004.03844, bottom-layer dropping."""
    check_count(model, drop)
    return tuple(range(drop))


def alternate(model: Model, drop: int, *, which: Literal["odd", "even"] = "even") -> Order:
    """Every second layer from the top down, odd or even as counted from 1: of 12 layers 4 are
    5, 7, 9, 11 or 6, 8, 10, 12.

    Source: arXiv 2004.03844, alternate dropping.

    Raises:
        ValueError: there are not as many.
    """
    check_count(model, drop)
    there = range(0 if which == "odd" else 1, model.config.num_layers, 2)
    if drop > len(there):
        raise ValueError(
            f"dropping {drop} {which} layers: of {model.config.num_layers} layers "
            f"{len(there)} are {which}"
        )
    return tuple(there)[::-1][:drop]


def symmetric(model: Model, drop: int) -> Order:
    """Layers in the middle, with as many left above as below: of 12 layers 6 are 4 to 9, as counted
    from 1.

    Source: arXiv 2004.03844, symmetric dropping. Deviation: where that leaves an odd number, there
    is one more below.
    """
    check_count(model, drop)
    depth = model.config.num_layers
    return tuple(sorted(range(depth), key=lambda i: abs(2 * i - depth + 0.5)))[:drop]


def every_other(model: Model, drop: int) -> Order:
    """Layers at equal distances: those whose number, counted from 1, floor(layers / drop) divides.

    Source: arXiv 1909.11556, "every other"; its rate is the share of layers that goes. It is for
    models that were trained with `LayerDrop`. That of fewer layers is not the beginning of that of
    more.

    Raises:
        ValueError: those are another number of layers than is to go.
    """
    check_count(model, drop)
    depth = model.config.num_layers
    found = tuple(range(depth))[depth // drop - 1 :: depth // drop] if drop else ()
    if len(found) != drop:
        allowed = sorted({depth // distance for distance in range(2, depth + 1)})
        raise ValueError(
            f"dropping every other of {depth} layers so that {drop} go: allowed are "
            f"{', '.join(map(str, allowed))}"
        )
    return found


def least_important(model: Model, encoded: Encoded, loss: Loss, drop: int) -> Order:
    """The layers without which the loss grows least: each time that one is dropped, the loss is
    measured anew without each of the others.

    Nothing is approximated: that takes up to drop x layers passes over the examples, all by one
    compiled function.

    Args:
        encoded: a few hundred or thousand training examples; the loss is the mean over them.

    Raises:
        ValueError: layers share their weights, and one cannot be skipped alone; or the loss is not
            a number.
    """
    check_count(model, drop)
    gone: Order = ()
    for _ in range(drop):
        gone += (int(np.argmin(losses_without(model, encoded, loss, gone))),)
    return gone


def losses_without(
    model: Model, encoded: Encoded, loss: Loss, gone: Sequence[int] = ()
) -> Float[np.ndarray, "N"]:
    """The mean loss without each layer, and without those that are gone; inf for these.

    Raises:
        ValueError: as of `least_important`.
    """
    separate_layers(model.table)
    depth = model.config.num_layers
    left, total_N = [i for i in range(depth) if i not in gone], np.full(depth, np.inf)
    total_N[left] = 0.0
    for batch in calibration(model, encoded):
        for i in left:
            gate_N = np.ones(depth, np.float32)
            gate_N[[*gone, i]] = 0.0
            found_B = np.asarray(example_losses(model, batch, gate_N, loss), np.float64)
            total_N[i] += found_B[batch["example_mask"] > 0].sum()
    check_numbers(total_N, "the loss without layer")
    return total_N / len(encoded)


def least_contributing(model: Model, encoded: Encoded, drop: int) -> Order:
    """The layers that change the first token least: whose input and output are most alike by their
    cosine, as a mean over examples.

    Source: arXiv 2004.03844, contribution-based dropping. Deviation: as many layers as are to go,
    in place of those above a threshold.

    Raises:
        ValueError: hidden states are not numbers.
    """
    check_count(model, drop)
    total_N = np.zeros(model.config.num_layers)
    for batch in calibration(model, encoded):
        found_BN = np.asarray(likeness(model, batch), np.float64)
        total_N += found_BN[batch["example_mask"] > 0].sum(0)
    check_numbers(total_N, "the cosine of input and output of layer")
    return tuple(np.argsort(-total_N, stable=True)[:drop].tolist())


def calibration(model: Model, encoded: Encoded) -> Iterator[Batch]:
    """The examples, some at a time."""
    pad_id = model.config.pad_token_id
    return iter(eval_batches(encoded, AT_ONCE, pad_id=pad_id, layout="padded"))


@functools.partial(jax.jit, static_argnames="loss")
def example_losses(
    model: Model, batch: Batch, gate_N: Float[Array, "N"], loss: Loss
) -> Float[Array, "B"]:
    """The loss of every example, with a gate for each layer."""
    gates = dict(zip(separate_layers(model.table), gate_N, strict=True))

    def of_example(inputs: Batch, example: Batch) -> Array:
        return loss(apply(model.module, model.params, inputs, gates=gates), example)

    return one_by_one(of_example, batch)


@jax.jit
def likeness(model: Model, batch: Batch) -> Float[Array, "B N"]:
    """The cosine of every example's first token before and after each layer."""

    def of_example(inputs: Batch, _: Batch) -> Array:
        outputs = apply(model.module, model.params, inputs)
        assert outputs.embedded is not None
        states = [outputs.embedded, *(trace.hidden for trace in outputs.layers)]
        first_NBD = jnp.stack([first_of_tokens(x, None).astype(jnp.float32) for x in states])
        first_NBD /= jnp.linalg.norm(first_NBD, axis=-1, keepdims=True)
        return (first_NBD[:-1] * first_NBD[1:]).sum(-1).mean(-1)

    return one_by_one(of_example, batch)


def separate_layers(table: Table) -> list[str]:
    """The names of the layers, in their order.

    Raises:
        ValueError: layers share their weights, and with them their name and gate.
    """
    rows = [row for row in table if row.path.startswith("layer_")]
    if any(len(set(row.uses)) < len(row.uses) for row in rows):
        raise ValueError("layers of this model share their weights; none can be skipped alone")
    return list(dict.fromkeys(row.path.partition("/")[0] for row in rows))


def check_count(model: Model, drop: int) -> None:
    """Raises a ValueError for a number of layers that cannot go."""
    depth = model.config.num_layers
    if not 0 <= drop < depth:
        raise ValueError(f"dropping {drop} of {depth} layers: expected 0 to {depth - 1}")


def check_numbers(total_N: Float[np.ndarray, "N"], what: str) -> None:
    """Raises a ValueError for what is not a number."""
    for layer in np.flatnonzero(np.isnan(total_N)):
        raise ValueError(f"{what} {layer} is not a number; layers cannot be compared")
