"""CoFi: heads, units, whole sub-layers and hidden states are pruned while the model is trained.

    cofi = CoFi(target=0.6)
    fitted = fit(model, encoded, objective, training, reparam=cofi, ...)
    small = settled(fitted.model, cofi.gates(fitted.learned, fitted.model))

Source: arXiv 2204.00408. Deviations: a sub-layer that is gone leaves its output bias and norm; what
is kept in the end is chosen within the target exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effjax.models.costs import Costs
from effjax.models.gates import gateable
from effjax.models.hidden_gates import normed
from effjax.models.model import Model
from effjax.prune.gates import parameters_of
from effjax.prune.hard_concrete import open_probability, sample, without_noise
from effjax.prune.reparam import Reparam
from effjax.prune.search import select
from effjax.prune.shrink import shrunk_config
from effjax.table import Table
from effjax.types import Array, Aux, Float, Gates, Int, Keep, Params

CERTAIN = 10.0
"""log alpha of what is certainly open: hidden states in the beginning, as its authors' code has."""


@dataclass(frozen=True, kw_only=True)
class CoFi(Reparam):
    """Hard concrete gates: z_i z_S of every head or unit i and its sub-layer S, and z_d of every
    number of the hidden states. The share s of parameters that is expected to be closed is held at
    a target t by L = lambda_1 (s - t) + lambda_2 (s - t)^2, with lambda raised by what the
    parameters lower.

    Source: arXiv 2204.00408, section 3.

    Attributes:
        target: share of the parameters of all heads and units that is to go, some of it with the
            hidden states that they read and write.
        warmup: share of the training over which the target rises from 0.
        hidden: whether hidden states are pruned too; transformers has such a model only in the
            layout "compact".
        open_at_start: probability that the gate of a head, a unit or a sub-layer is open in the
            beginning; those of hidden states are then open.
    """

    target: float
    warmup: float = 0.3
    hidden: bool = True
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
        sizes, hidden = gateable(table), self.wide(table)
        inner = {name: jnp.full(size, start) for name, size in sizes.items()}
        return {
            "inner": inner | {name: jnp.full(size, CERTAIN) for name, size in hidden.items()},
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
        for number, instance in enumerate((*gateable(table), *self.wide(table))):
            inner, whole = jax.random.split(jax.random.fold_in(key, number))
            gates[instance] = sample(learned["inner"][instance], inner)
            if instance in learned["whole"]:
                gates[instance] *= sample(learned["whole"][instance], whole)
        return params, gates

    def penalty(
        self, learned: Aux, table: Table, *, progress: Array | float
    ) -> tuple[Array | float, dict[str, Array]]:
        """The Lagrangian, and the share of parameters that is expected to be gone."""
        gone = self.gone(learned, table)
        target = self.target * jnp.clip(progress / max(self.warmup, 1e-9), 0, 1)
        one, two = raised(learned["multipliers"])
        return one * (gone - target) + two * (gone - target) ** 2, {"gone": gone}

    def gone(self, learned: Aux, table: Table) -> Array:
        """The share of the parameters of all heads and units that is expected to be closed."""
        left = {name: likely.sum() for name, likely in self.probabilities(learned).items()}
        return 1 - expected(table, left) / expected(table, {})

    def probabilities(self, learned: Aux) -> dict[str, Float[Array, "N"]]:
        """That each head or unit, and each number of the hidden states, is there."""
        found = {name: open_probability(inner) for name, inner in learned["inner"].items()}
        whole = {name: open_probability(x) for name, x in learned["whole"].items()}
        return {name: likely * whole.get(name, 1.0) for name, likely in found.items()}

    def gates(self, learned: Aux, model: Model) -> Gates:
        """The gates of the smaller model: 0 for the least probable ones, of the hidden states as
        many as are expected to be closed, and of the rest as many as the target says.
        """
        keep = {name: most(learned["inner"][name]) for name in self.wide(model.table)}
        table = model.architecture.table(shrunk_config(model.config, keep))
        each = {name: parameters_of(table, name) for name in gateable(table)}
        of = {name: each[name] * np.arange(table.instances[name] + 1.0) for name in each}
        costs = Costs(unit="parameters", base=0.0, of=of)
        at_most = (1 - self.target) * expected(model.table, {})
        return self.within(learned, model, costs, at_most=min(at_most, costs.whole))

    def within(
        self,
        learned: Aux,
        model: Model,
        costs: Costs,
        *,
        at_most: float | int,
        multiples: Mapping[str, int] | None = None,
    ) -> Gates:
        """The gates of a smaller model within a budget, whose parameters are the most probable.

        Args:
            costs: of heads and units, as they are with all hidden states.
            at_most: in the costs' unit.
            multiples: as of `select`; of "hidden" too.

        Raises:
            ValueError: as of `select`, but that a budget of the whole and more leaves all open.
        """
        likely = {name: np.asarray(x) for name, x in self.probabilities(learned).items()}
        each = {name: parameters_of(model.table, name) for name in gateable(model.table)}
        keep: Keep = {name: np.arange(len(likely[name])) for name in each}
        if at_most < costs.whole:
            scores = {name: each[name] * likely[name] for name in each}
            keep = select(scores, costs, at_most=at_most, multiples=multiples)
        step = (multiples or {}).get("hidden", 1)
        wide = {name: most(learned["inner"][name], step) for name in self.wide(model.table)}
        whole = {name: without_noise(x) for name, x in learned["whole"].items()}
        gates = {}
        for name, there in {**keep, **wide}.items():
            open_ = without_noise(learned["inner"][name]) * whole.get(name, 1.0)
            gates[name] = jnp.zeros(len(open_)).at[there].set(open_[there])
        return gates

    def wide(self, table: Table) -> dict[str, int]:
        """The hidden states, where they are pruned."""
        found = normed(table) if self.hidden else {}
        return {name: size for name, size in found.items() if name == "hidden"}


def expected(table: Table, left: Mapping[str, Array]) -> Any:
    """The parameters of all heads and units, if so many of what has gates are left."""
    inner, total = gateable(table), 0.0
    for row in table:
        if any(axis.instance in inner for axis in row.axes):
            total += math.prod(left.get(axis.instance or "", axis.size) for axis in row.axes)
    return total


def most(log_alpha: Float[Array, "N"], step: int = 1) -> Int[np.ndarray, "kept"]:
    """The most probable ones: as many as are expected, rounded up to a multiple."""
    likely = np.asarray(open_probability(log_alpha))
    count = max(round(float(likely.sum())), 1)
    count = min(-(-count // step) * step, len(likely))
    return np.sort(np.argsort(-likely, stable=True)[:count])


@jax.custom_vjp
def raised(x: Float[Array, "N"]) -> Float[Array, "N"]:
    """x, which goes up where others go down."""
    return x


raised.defvjp(lambda x: (x, None), lambda _, cotangent: (-cotangent,))
