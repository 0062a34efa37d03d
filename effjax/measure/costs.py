"""What every head and feed-forward unit adds to a model's parameters and FLOPs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from effjax.measure.cost import products, program
from effjax.models.base import EncoderConfig
from effjax.models.costs import Costs
from effjax.models.model import Model


def parameter_costs(model: Model) -> Costs:
    """Parameters of the smaller models that can be made of one, as `Model.num_params` counts."""
    table = model.architecture.table
    return differences(model, "parameters", lambda config: table(config).num_params)


def flop_costs(model: Model, *, batch: int = 1, length: int = 128) -> Costs:
    """FLOPs of the matrix products of one forward pass, which is what papers mostly print: those of
    `Cost.product_flops`.

    Raises:
        ValueError: the model cannot run that shape.
    """

    def flops(config: EncoderConfig) -> int:
        return products(program(model.architecture, config, batch=batch, length=length).jaxpr)

    return differences(model, "FLOPs", flops)


def differences(model: Model, unit: str, measure: Callable[[EncoderConfig], int]) -> Costs:
    """What is saved by removing each axis instance of a layer from the whole model.

    Every head or unit adds as much as the next one; the first may add more, where there is
    something for the sake of all of them. What layers alike cost is asked for once.
    """
    whole, of = measure(model.config), {}
    for alike in alike_instances(model):
        size = layer_instances(model)[alike[0]]
        smaller = (model.config.shrunk({alike[0]: range(left)}) for left in (0, size - 1))
        every, one = (whole - measure(config) for config in smaller)
        costs = every - one * np.arange(float(size), -1, -1)
        costs[0] = 0.0
        of |= dict.fromkeys(alike, costs)
    of = {instance: of[instance] for instance in layer_instances(model)}
    base = float(whole) - sum(float(costs[-1]) for costs in of.values())
    return Costs(unit=unit, base=base, of=of)


def alike_instances(model: Model) -> list[tuple[str, ...]]:
    """The instances that cost the same: of one kind, in layers that are alike and run as often."""
    alike: dict[Any, list[str]] = {}
    for instance in layer_instances(model):
        name, _, field = instance.partition("/")
        times = model.config.layer_names.count(name)
        ranks = tuple(model.config.ranks_below(name).items())
        kind = (model.config.distinct_layers[name], ranks, field, times)
        alike.setdefault(kind, []).append(instance)
    return [tuple(names) for names in alike.values()]


def layer_instances(model: Model) -> dict[str, int]:
    """What layers can lose, with its size."""
    return {name: size for name, size in model.table.instances.items() if "/" in name}
