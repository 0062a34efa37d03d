"""CoFi: heads, units and whole sub-layers are pruned while the model is trained.

    cofi = CoFi(target=0.6)
    fitted = fit(model, encoded, objective, training, reparam=cofi, ...)
    small = settled(fitted.model, cofi.gates(fitted.learned, fitted.model))

Source: arXiv 2204.00408. Deviations: the hidden dimension is not pruned; a sub-layer that is gone
leaves its output bias and norm; what is kept in the end is chosen within the target exactly.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.prune.gates import gateable, parameters_of
from effjax.prune.hard_concrete import open_probability, sample, typical
from effjax.prune.reparam import Reparam
from effjax.prune.search import select
from effjax.table import Table
from effjax.types import Array, Aux, Float, Gates, Params


@dataclass(frozen=True, kw_only=True)
class CoFi(Reparam):
    """Hard concrete gates z_i z_S of every head or unit i and its sub-layer S, whose expected share
    of closed parameters s is held at a target t by L = lambda_1 (s - t) + lambda_2 (s - t)^2, with
    lambda raised by what the parameters lower.

    Source: arXiv 2204.00408, section 3.

    Attributes:
        target: share of the parameters of all heads and units that is to go.
        warmup: share of the training over which the target rises from 0.
        open_at_start: probability that a gate is open in the beginning.
    """

    target: float
    warmup: float = 0.3
    open_at_start: float = 0.95

    def __post_init__(self) -> None:
        for name in ("target", "open_at_start"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"CoFi: {name} is {getattr(self, name)}; expected above 0, below 1"
                )
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"CoFi: warmup is {self.warmup}; expected 0 to 1")

    def init(self, key: jax.Array, table: Table) -> Aux:
        """log alpha of every gate, and both multipliers."""
        del key
        middle = open_probability(jnp.zeros(()))
        start = jnp.log(self.open_at_start / (1 - self.open_at_start)) - jnp.log(
            middle / (1 - middle)
        )
        sizes = gateable(table)
        return {
            "inner": {instance: jnp.full(size, start) for instance, size in sizes.items()},
            "whole": {instance: jnp.asarray(start) for instance in sizes},
            "multipliers": jnp.zeros(2),
        }

    def apply(
        self,
        learned: Aux,
        params: Params,
        table: Table,
        *,
        progress: Array | float,
        key: jax.Array,
    ) -> tuple[Params, Gates]:
        del progress
        gates = {}
        for number, instance in enumerate(gateable(table)):
            inner, whole = jax.random.split(jax.random.fold_in(key, number))
            gates[instance] = sample(learned["inner"][instance], inner) * sample(
                learned["whole"][instance], whole
            )
        return params, gates

    def penalty(
        self, learned: Aux, table: Table, *, progress: Array | float
    ) -> tuple[Array | float, dict[str, Array]]:
        """The Lagrangian, and the share of parameters that is expected to be gone."""
        probabilities, sizes = self.probabilities(learned), gateable(table)
        costs = {name: parameters_of(table, name) for name in sizes}
        kept = jnp.stack([costs[x] * probabilities[x].sum() for x in sizes]).sum()
        gone = 1 - kept / sum(costs[x] * size for x, size in sizes.items())
        target = self.target * jnp.clip(progress / max(self.warmup, 1e-9), 0, 1)
        one, two = raised(learned["multipliers"])
        return one * (gone - target) + two * (gone - target) ** 2, {"gone": gone}

    def probabilities(self, learned: Aux) -> dict[str, Float[Array, "N"]]:
        """That each head or unit is there."""
        return {
            name: open_probability(inner) * open_probability(learned["whole"][name])
            for name, inner in learned["inner"].items()
        }

    def gates(self, learned: Aux, model: Model) -> Gates:
        """The gates of the smaller model: 0 for the least probable ones, as many as the target
        says.
        """
        sizes, likely = gateable(model.table), self.probabilities(learned)
        each = {name: parameters_of(model.table, name) for name in sizes}
        of = {name: each[name] * np.arange(size + 1.0) for name, size in sizes.items()}
        costs = Costs(unit="parameters", base=0.0, of=of)
        scores = {name: each[name] * np.asarray(likely[name]) for name in sizes}
        keep = select(scores, costs, at_most=(1 - self.target) * costs.whole)
        gates = {}
        for name, indices in keep.items():
            open_ = typical(learned["inner"][name]) * typical(learned["whole"][name])
            gates[name] = jnp.zeros(sizes[name]).at[indices].set(open_[indices])
        return gates


@jax.custom_vjp
def raised(x: Float[Array, "N"]) -> Float[Array, "N"]:
    """x, which goes up where others go down."""
    return x


raised.defvjp(lambda x: (x, None), lambda _, cotangent: (-cotangent,))
