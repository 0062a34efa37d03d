"""LayerDrop: a model whose layers can be dropped once it is trained.

    fitted = fit(model, encoded, objective, training, reparam=LayerDrop(rate=0.2), ...)
    small = without_layers(fitted.model, every_other(fitted.model, 6))

Source: arXiv 1909.11556.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.prune.layers import separate_layers
from effjax.prune.reparam import Reparam
from effjax.table import Table
from effjax.types import Array, Aux, Gates, Params


@dataclass(frozen=True, kw_only=True)
class LayerDrop(Reparam):
    """Skips every layer by itself with probability p, in each training step and part of its batch:
    x_{i+1} = x_i + g_i (layer_i(x_i) - x_i), g_i ~ Bernoulli(1 - p). Evaluation and what
    comes out skip none.

    Source: arXiv 1909.11556, section 3. Deviation: a skipped layer is computed all the same, since
    all steps are one program, and its output is not used: no step is faster than without.

    Attributes:
        rate: p; 0.2 is what the paper's authors recommend.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"LayerDrop: rate is {self.rate}; expected 0 or more, below 1")

    def init(self, key: jax.Array, table: Table) -> Aux:
        """Nothing.

        Raises:
            ValueError: layers share their weights, and would be skipped together.
        """
        del key
        separate_layers(table)
        return {}

    def apply(
        self,
        learned: Aux,
        params: Params,
        table: Table,
        *,
        progress: Array | float,
        key: jax.Array,
    ) -> tuple[Params, Gates]:
        del learned, progress
        names = separate_layers(table) if self.rate else []
        stays = jax.random.bernoulli(key, 1 - self.rate, (len(names),)).astype(jnp.float32)
        return params, dict(zip(names, stays, strict=True))
