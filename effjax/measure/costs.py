"""What every head and feed-forward unit adds to a model's parameters and FLOPs."""

from collections.abc import Callable

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
    whole, of, known = measure(model.config), {}, dict[tuple, np.ndarray]()
    specs = model.config.distinct_layers
    for instance, size in layer_instances(model).items():
        name, _, field = instance.partition("/")
        alike = (specs[name], field, model.config.layer_names.count(name))
        if alike not in known:
            smaller = (model.config.shrunk({instance: range(left)}) for left in (0, size - 1))
            every, one = (whole - measure(config) for config in smaller)
            known[alike] = every - one * np.arange(float(size), -1, -1)
            known[alike][0] = 0.0
        of[instance] = known[alike]
    base = float(whole) - sum(float(costs[-1]) for costs in of.values())
    return Costs(unit=unit, base=base, of=of)


def layer_instances(model: Model) -> dict[str, int]:
    """What layers can lose, with its size."""
    return {name: size for name, size in model.table.instances.items() if "/" in name}
