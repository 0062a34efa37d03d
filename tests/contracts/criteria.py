"""One row per criterion of pruning: what the contracts need to know of it."""

from dataclasses import dataclass

from effjax.prune import activation, block_fisher, first_order, fisher, magnitude, uniform
from effjax.prune.scores import Criterion


@dataclass(frozen=True)
class Row:
    """A criterion as the contracts run it.

    Attributes:
        random: whether it looks at nothing of the model but its sizes.
    """

    criterion: Criterion
    random: bool = False


CRITERIA = {
    "uniform": Row(uniform, random=True),
    "magnitude": Row(magnitude),
    "activation": Row(activation),
    "first-order": Row(first_order),
    "fisher": Row(fisher),
    "block-fisher": Row(block_fisher),
}
