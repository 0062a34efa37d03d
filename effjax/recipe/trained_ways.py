"""Ways that prune while they train, by a `Reparam`, and recover with what is left of the steps."""

import abc
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from effjax.models.model import Model
from effjax.prune import CoFi, Movement, masked, needed, settled, shrink
from effjax.recipe.ways import Given, Pruned, Way
from effjax.train.fitting import Fit

log = logging.getLogger("effjax")

SHORT = 0.05
"""How far gates that are learned may be from their target in the end, as a share of parameters,
before a line says so: the rest goes by probabilities that training has not told apart.
"""


@dataclass(frozen=True, kw_only=True)
class Trained(Way):
    """A way that prunes while it trains, by a `Reparam`.

    Attributes:
        share: of a recovery's steps that prune; its recovery has the rest, so that all ways train
            for as long.
        learning_rate: of what the `Reparam` learns.
    """

    share: float = 0.5
    learning_rate: float = 0.01

    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"way {self.name!r}: share is {self.share}; expected above 0, below 1")
        self.reparam(0.5)

    def models(self, given: Given) -> Iterator[Pruned]:
        costs, steps = given.costs, max(1, round(self.share * given.steps))
        for speedup, at_most in zip(given.speedups, given.at_most, strict=True):
            reparam = self.reparam((costs.whole - at_most) / (costs.whole - costs.base))
            fitted = given.train(speedup, reparam=reparam, steps=steps)
            small = self.smaller(given, fitted, reparam, at_most)
            yield Pruned(small, fitted.steps, fitted.seconds)

    @abc.abstractmethod
    def reparam(self, target: float) -> Any:
        """What prunes, given the share of their costs that heads and units have to lose."""

    @abc.abstractmethod
    def smaller(self, given: Given, fitted: Fit, reparam: Any, at_most: float) -> Model:
        """What it leaves."""


@dataclass(frozen=True, kw_only=True)
class HardConcrete(Trained):
    """Gates that are learned under a target, by CoFi; what is kept in the end is within the budget.

    Source: arXiv 2204.00408; `effjax.prune.CoFi`. Hidden states stay, since the costs are those
    with all of them.

    Attributes:
        warmup: share of the steps that prune over which the target rises from 0.
    """

    warmup: float = 0.3

    def reparam(self, target: float) -> CoFi:
        how: Any = {"warmup": self.warmup, "learning_rate": self.learning_rate}
        return CoFi(target=target, hidden=False, **how)

    def smaller(self, given: Given, fitted: Fit, reparam: CoFi, at_most: float) -> Model:
        gone = float(reparam.gone(fitted.learned, fitted.model.table))
        if gone < reparam.target - SHORT:
            log.warning(
                "way %r: after %d steps its gates have closed %.0f%% of the parameters of heads "
                "and units, and aim at %.0f%%; a larger learning_rate or share closes more",
                *(self.name, fitted.steps, 100 * gone, 100 * reparam.target),
            )
        within: Any = {"at_most": at_most, "multiples": given.multiples}
        gates = reparam.within(fitted.learned, fitted.model, given.costs, **within)
        return settled(fitted.model, gates)


@dataclass(frozen=True, kw_only=True)
class BlockMovement(Trained):
    """Blocks of weights that are masked by what they learn; then heads and units that do nothing
    go, and what stays has all its weights.

    Source: arXiv 2109.04838, its filled models; `effjax.prune.Movement`. The target is the share of
    blocks that is zero, and not all of them are whole heads or units: the smaller model is larger
    than the budget.

    Attributes:
        block: inputs and outputs that share a score.
    """

    block: tuple[int, int] = (32, 32)

    def reparam(self, target: float) -> Movement:
        return Movement(sparsity=target, block=self.block, learning_rate=self.learning_rate)

    def smaller(self, given: Given, fitted: Fit, reparam: Movement, at_most: float) -> Model:
        del given, at_most
        sparse = masked(fitted.model, reparam.masks(fitted.learned, fitted.model))
        return shrink(fitted.model, needed(sparse))
