"""Ways to prune: what a recipe compares, one small class each.

A way is a name, settings, and one method that makes a smaller model for every speed-up asked for.
Another one, in a config or in a file of its own, is no more than

    @dataclass(frozen=True, kw_only=True)
    class Halves(Way):
        def models(self, given: Given) -> Iterator[Pruned]:
            for at_most in given.at_most:
                keep = select(halves(given.model), given.costs, at_most=at_most)
                yield Pruned(shrink(given.model, keep))
"""

import abc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from effjax.data.encode import Encoded
from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.prune import (
    CoFi,
    Movement,
    Reparam,
    activation,
    alternate,
    block_fisher,
    bottom,
    fewer_layers,
    first_order,
    fisher,
    least_contributing,
    least_important,
    magnitude,
    masked,
    needed,
    retraining_free,
    select,
    settled,
    shrink,
    symmetric,
    top,
    uniform,
    ziplm,
)
from effjax.prune.scores import Criterion, Loss
from effjax.train.loop import Fit

CRITERIA: Mapping[str, Criterion] = {
    "uniform": uniform,
    "magnitude": magnitude,
    "activation": activation,
    "first_order": first_order,
    "fisher": fisher,
    "block_fisher": block_fisher,
}
"""Those that `OneShot` knows; `effjax list criteria` has formulas and sources."""

log = logging.getLogger("effjax")

SHORT = 0.05
"""How far gates that are learned may be from their target in the end, as a share of parameters,
before a line says so: the rest goes by probabilities that training has not told apart.
"""

RANDOM = ("uniform",)
"""Criteria that take a seed."""


class Pruned(NamedTuple):
    """A smaller model, and the training that making it took, or without any the time alone."""

    model: Model
    steps: int = 0
    seconds: float = 0.0


@runtime_checkable
class Train(Protocol):
    """Trains the fine-tuned model towards one speed-up, as the recipe's recovery trains."""

    def __call__(self, speedup: float, *, reparam: Reparam, steps: int) -> Fit: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """What a way is given.

    Attributes:
        model: the fine-tuned model.
        encoded: the training examples that it may look at.
        loss: what the model was fine-tuned by.
        costs: of every head and unit, in the unit of the budget.
        speedups: what is asked for; one smaller model each, in their order.
        multiples: as of `effjax.prune.select`.
        seed: of what is drawn at random.
        steps: of a recovery; what a way trains is taken off its own. 0 where there is none.
        train: for ways that prune while they train.
    """

    model: Model
    encoded: Encoded
    loss: Loss
    costs: Costs
    speedups: tuple[float, ...]
    multiples: Mapping[str, int]
    seed: int
    steps: int
    train: Train

    @property
    def at_most(self) -> tuple[float, ...]:
        """The budget of every smaller model, in the costs' unit."""
        return tuple(self.costs.whole / speedup for speedup in self.speedups)

    def cost(self, model: Model) -> float:
        """What the heads and units that are left in a smaller model cost, with all else."""
        there = model.table.instances
        return self.costs.at({name: there.get(name, 0) for name in self.costs.of})


@dataclass(frozen=True, kw_only=True)
class Way(abc.ABC):
    """A way to prune.

    Attributes:
        name: what tables and folders call it.
    """

    name: str

    trains: ClassVar[bool] = False
    """Whether it prunes while it trains, and so needs the settings of a recovery."""

    @property
    def random(self) -> bool:
        """Whether the seed makes a difference: then it prunes anew with each, else only once."""
        return self.trains

    @abc.abstractmethod
    def models(self, given: Given) -> Iterator[Pruned]:
        """A smaller model for each of `given.speedups`. One is asked for when those before it are
        done with.
        """


@dataclass(frozen=True, kw_only=True)
class OneShot(Way):
    """Keeps what a criterion scores highest within the budget.

    Attributes:
        criterion: `effjax list criteria`.
    """

    criterion: str

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(
                f"way {self.name!r}: there is no criterion {self.criterion!r}; there are "
                f"{', '.join(CRITERIA)}"
            )

    @property
    def random(self) -> bool:
        return self.criterion in RANDOM

    def models(self, given: Given) -> Iterator[Pruned]:
        seed: dict[str, Any] = {"seed": given.seed} if self.random else {}
        scores = CRITERIA[self.criterion](given.model, given.encoded, given.loss, **seed)
        for at_most in given.at_most:
            keep = select(scores, given.costs, at_most=at_most, multiples=given.multiples)
            yield Pruned(shrink(given.model, keep))


@dataclass(frozen=True, kw_only=True)
class RetrainingFree(Way):
    """Fisher information, and gates that make up for what is gone.

    Source: arXiv 2204.09656; `effjax.prune.retraining_free`.
    """

    def models(self, given: Given) -> Iterator[Pruned]:
        what = (given.model, given.encoded, given.loss, given.costs)
        for at_most in given.at_most:
            gates = retraining_free(*what, at_most=at_most, multiples=given.multiples)
            yield Pruned(settled(given.model, gates))


@dataclass(frozen=True, kw_only=True)
class ZipLM(Way):
    """Second-order removal, one calibration for the whole family; each model of it is recovered for
    itself.

    Source: arXiv 2302.04089; `effjax.prune.ziplm`.

    Attributes:
        trials: of its search, for each speed-up.
    """

    trials: int = 100

    def models(self, given: Given) -> Iterator[Pruned]:
        what = (given.model, given.encoded, given.loss, given.costs)
        how: Any = {"multiples": given.multiples, "trials": self.trials, "seed": given.seed}
        yield from map(Pruned, ziplm(*what, at_most=given.at_most, **how))


ORDERS: Mapping[str, Callable[..., Sequence[int]]] = {
    "top": top,
    "bottom": bottom,
    "alternate": alternate,
    "symmetric": symmetric,
}
"""By where layers are."""


@dataclass(frozen=True, kw_only=True)
class FewerLayers(Way):
    """As few whole layers less as the budget wants. Source: arXiv 2004.03844.

    Attributes:
        order: which layers go first, by where they are; "importance", by the loss without them; or
            "contribution", by how little they change.
    """

    order: Literal["top", "bottom", "alternate", "symmetric", "importance", "contribution"]

    def models(self, given: Given) -> Iterator[Pruned]:
        model, depth = given.model, given.model.config.num_layers
        if self.order == "importance":
            order = least_important(model, given.encoded, given.loss, depth - 1)
        elif self.order == "contribution":
            order = least_contributing(model, given.encoded, depth - 1)
        else:
            order = ORDERS[self.order](
                model, depth // 2 if self.order == "alternate" else depth - 1
            )
        for at_most in given.at_most:
            yield Pruned(fewer_layers(model, order, given.cost, at_most=at_most))


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
                "way %r: after %d steps its gates have closed %.0f%% of heads and units, and the "
                "budget wants %.0f%%; a larger learning_rate or share closes more",
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
