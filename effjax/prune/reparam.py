"""What acts on a model before its forward pass, in every step of a training."""

from dataclasses import dataclass

import jax

from effjax.table import Table
from effjax.types import Array, Aux, Gates, Params


@dataclass(frozen=True, kw_only=True)
class Reparam:
    """Makes of the parameters those that are used, and gates, by what it learns itself.

    Attributes:
        learning_rate: of what it learns, at the peak of the training's schedule; that does not
            decay and is not clipped.
    """

    learning_rate: float = 0.01

    def init(self, key: jax.Array, table: Table) -> Aux:
        """What is learned."""
        raise NotImplementedError

    def apply(
        self,
        learned: Aux,
        params: Params,
        table: Table,
        *,
        progress: Array | float,
        key: jax.Array,
    ) -> tuple[Params, Gates]:
        """The parameters and gates of one step.

        Args:
            progress: the share of the training that is over.
            key: of this step and part of the batch.
        """
        raise NotImplementedError

    def penalty(
        self, learned: Aux, table: Table, *, progress: Array | float
    ) -> tuple[Array | float, dict[str, Array]]:
        """What is added to the loss, and what is shown in its metrics."""
        del learned, table, progress
        return 0.0, {}
