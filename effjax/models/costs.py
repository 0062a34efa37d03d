"""What the models cost that can be made of one by removing heads and feed-forward units."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effjax.types import Float


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """base + sum_i of_i(n_i), for models that keep n_i of axis instance i.

    Attributes:
        unit: what is counted: "parameters", "FLOPs", "seconds".
        base: what everything costs that is not in `of`.
        of: by axis instance, what 0, 1, ... of it cost.
    """

    unit: str
    base: float
    of: Mapping[str, Float[np.ndarray, "sizes"]]

    @property
    def whole(self) -> float:
        """Of the model with nothing removed."""
        return self.at({instance: len(costs) - 1 for instance, costs in self.of.items()})

    def at(self, sizes: Mapping[str, int]) -> float:
        """Of the model with these sizes."""
        return self.base + sum(float(costs[sizes[name]]) for name, costs in self.of.items())

    def of_smaller(self, sizes: Mapping[str, int]) -> "Costs":
        """Of the models that can be made of one with these sizes; nothing is left of what is not
        named.
        """
        of = {name: costs[: sizes.get(name, 0) + 1] for name, costs in self.of.items()}
        return Costs(unit=self.unit, base=self.base, of=of)
