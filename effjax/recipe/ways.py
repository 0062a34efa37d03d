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
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from effjax.choices import check_choices
from effjax.data.encode import Encoded
from effjax.models.costs import Costs
from effjax.models.model import Model
from effjax.prune import (
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
from effjax.train.fitting import Fit

CRITERIA: Mapping[str, Criterion] = {
    "uniform": uniform,
    "magnitude": magnitude,
    "activation": activation,
    "first_order": first_order,
    "fisher": fisher,
    "block_fisher": block_fisher,
}
"""Those that `OneShot` knows; `effjax list criteria` has formulas and sources."""

RANDOM = ("uniform",)
"""Criteria that take a seed."""


class Pruned(NamedTuple):
    """A smaller model, and the training that making it took, or without any the time alone.

    Attributes:
        layers: where whole layers went, the numbers that those left had, counted from 0.
    """

    model: Model
    steps: int = 0
    seconds: float = 0.0
    layers: tuple[int, ...] | None = None


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
        """What a smaller model costs."""
        return cost_of(model, self.costs)


def cost_of(model: Model, costs: Costs) -> float:
    """What the heads and units that are left in a smaller model cost, with all else."""
    there = model.table.instances
    return costs.at({name: there.get(name, 0) for name in costs.of})


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

    def check(self, model: Model, costs: Costs, speedups: tuple[float, ...]) -> None:
        """Before anything is trained: raises a ValueError for a speed-up that it cannot give."""
        del model, costs, speedups

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

    def __post_init__(self) -> None:
        check_choices(self, f"way {self.name!r}: ")

    def check(self, model: Model, costs: Costs, speedups: tuple[float, ...]) -> None:
        cost, least = functools.partial(cost_of, costs=costs), costs.whole / max(speedups)
        try:
            fewer_layers(model, self.by_place(model), cost, at_most=least)
        except ValueError as error:
            raise ValueError(f"way {self.name!r}: {error}") from None

    def by_place(self, model: Model) -> Sequence[int]:
        """As many layers as can go; the last ones, where examples are to say which."""
        depth = model.config.num_layers
        drop = depth // 2 if self.order == "alternate" else depth - 1
        return ORDERS.get(self.order, top)(model, drop)

    def models(self, given: Given) -> Iterator[Pruned]:
        model, depth = given.model, given.model.config.num_layers
        if self.order == "importance":
            order = least_important(model, given.encoded, given.loss, depth - 1)
        elif self.order == "contribution":
            order = least_contributing(model, given.encoded, depth - 1)
        else:
            order = self.by_place(model)
        for at_most in given.at_most:
            small = fewer_layers(model, order, given.cost, at_most=at_most)
            gone = order[: depth - small.config.num_layers]
            left = tuple(i for i in range(depth) if i not in gone)
            yield Pruned(small, layers=left)
