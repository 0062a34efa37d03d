"""ZipLM: a family of smaller models in one run, each within its budget.

    costs = table.costs(model)                       # seconds, by `effjax.measure.latency_table`
    budgets = [costs.whole / speedup for speedup in (1.5, 2, 3, 4)]
    family = ziplm(model, encoded, loss, costs, at_most=budgets)

Or gradually, each made of the one before, after that has recovered:

    soft, tokens = SoftTargets(temperature=2.0), HiddenMSE(project=False)
    objective = Weighted(soft=(1.0, soft), tokens=(1.0, tokens))

    def recover(small: Model) -> Model:
        options = {"seed": 0, "folder": out / str(small.num_params), "teachers": {"teacher": model}}
        return fit(small, encoded, objective, training, **options).model

    family = ziplm_gradual(model, encoded, loss, costs, at_most=budgets, recover=recover)

Source: arXiv 2302.04089, whose search of coefficients is that of SPDY, arXiv 2201.13096.
Deviations: feed-forward networks may have every size, or multiples of some number, in place of
powers of 0.9; all coefficients are 1 in the beginning, and fewer are tried by default.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.models.costs import Costs
from effjax.models.gates import gateable
from effjax.models.model import Model, apply
from effjax.prune.gates import gated
from effjax.prune.obs import refitted, removals, smaller
from effjax.prune.scores import AT_ONCE, Loss, one_by_one
from effjax.prune.search import best_sizes
from effjax.types import Array, Batch, Float

CHANGED = 0.1
"""Share of the coefficients that a trial changes, on average; at least one."""


def ziplm(
    model: Model,
    encoded: Encoded,
    loss: Loss,
    costs: Costs,
    *,
    at_most: Sequence[float | int],
    multiples: Mapping[str, int] | None = None,
    trials: int = 100,
    seed: int = 0,
) -> tuple[Model, ...]:
    """The smaller models with the least loss found within each budget, not trained again.

    Sizes n_i minimise sum_i c_i errors_i(n_i) within the budget, with the errors of
    `effjax.prune.obs`; the coefficients c_i are searched by the loss of the model that they lead
    to.

    Args:
        encoded: calibration examples, a few hundred or thousand of those of the training.
        loss: what the search judges by, meaned over the examples.
        costs: of the model.
        at_most: what each of the models may cost, in the costs' unit.
        multiples: as of `select`; they also make the search faster.
        trials: models that are tried for each budget, besides that of equal coefficients; the
            paper's search has 1,000.
        seed: of the coefficients.

    Raises:
        ValueError: as of `select`; or the costs are of another model.
    """
    check(model, costs, at_most)
    found = removals(model, encoded, gated(model))

    def sizes(coefficients: Float[np.ndarray, "N"], budget: float) -> dict[str, int]:
        each = zip(coefficients, found.items(), strict=True)
        values = {name: -c * one.errors for c, (name, one) in each}
        return best_sizes(values, costs, at_most=budget, multiples=multiples)

    @functools.cache
    def loss_with(counts: tuple[int, ...]) -> float:
        named = dict(zip(found, counts, strict=True))
        return mean_loss(refitted(model, found, named), encoded, loss)

    family = []
    for budget in at_most:
        best = searched(
            lambda c, budget=budget: loss_with(tuple(sizes(c, budget).values())),
            len(found),
            trials=trials,
            seed=seed,
        )
        family.append(smaller(model, found, sizes(best, budget)))
    return tuple(family)


def ziplm_gradual(
    model: Model,
    encoded: Encoded,
    loss: Loss,
    costs: Costs,
    *,
    at_most: Sequence[float | int],
    recover: Callable[[Model], Model],
    multiples: Mapping[str, int] | None = None,
    trials: int = 100,
    seed: int = 0,
) -> tuple[Model, ...]:
    """The same, each model made of the one before, after that has recovered.

    Args:
        costs: of the whole model.
        at_most: from large to small.
        recover: trains a smaller model again, as it is. The result is the next to be pruned, and
            what is returned.

    Raises:
        ValueError: as of `ziplm`; or the budgets do not descend.
    """
    if any(np.diff(at_most) >= 0):
        raise ValueError(f"at_most is {list(at_most)}; expected budgets from large to small")
    check(model, costs, at_most)
    settings = {"multiples": multiples, "trials": trials, "seed": seed}
    family = []
    for budget in at_most:
        left = costs.of_smaller(gateable(model.table))
        if left.whole > budget:
            (small,) = ziplm(model, encoded, loss, left, at_most=[budget], **settings)
            model = recover(small)
        family.append(model)
    return tuple(family)


def check(model: Model, costs: Costs, at_most: Sequence[float | int]) -> None:
    """Raises a ValueError for costs of another model, and for budgets that `best_sizes` would
    refuse, before anything is computed.
    """
    for name, size in gated(model).items():
        if name not in costs.of:
            raise ValueError(f"the costs have no {name!r}, which this model has")
        if len(costs.of[name]) != size + 1:
            raise ValueError(
                f"the costs are of {len(costs.of[name]) - 1} of {name!r}; this model has {size}"
            )
    emptied = {name: np.append(0.0, np.full(size, -np.inf)) for name, size in gated(model).items()}
    for budget in at_most:
        best_sizes(emptied, costs, at_most=budget)


def searched(
    judge: Callable[[Float[np.ndarray, "N"]], float], count: int, *, trials: int, seed: int
) -> Float[np.ndarray, "N"]:
    """The best coefficients found by changing some of the best so far, beginning with ones.

    Source: arXiv 2302.04089, section 3.
    """
    random = np.random.default_rng(seed)
    best = np.ones(count)
    least = judge(best)
    for _ in range(trials):
        change = random.random(count) < CHANGED
        change[random.integers(count)] |= not change.any()
        tried = np.where(change, random.random(count), best)
        found = judge(tried)
        # What is no worse is gone on from, so that several small changes may add up to one.
        if found <= least:
            best, least = tried, found
    return best


def mean_loss(model: Model, encoded: Encoded, loss: Loss) -> float:
    """Over the examples, each a batch of its own."""
    pad_id, found = model.config.pad_token_id, []
    for batch in eval_batches(encoded, AT_ONCE, pad_id=pad_id, layout="padded"):
        found.append((losses(model, dict(batch), loss), batch["example_mask"] > 0))
    return float(np.concatenate([np.asarray(each)[real] for each, real in found]).mean())


@functools.partial(jax.jit, static_argnames="loss")
def losses(model: Model, batch: Batch, loss: Loss) -> Float[Array, "examples"]:
    """Of every example in a batch."""

    def of_example(inputs: Batch, example: Batch) -> Array:
        return loss(apply(model.module, model.params, inputs), example)

    return one_by_one(of_example, batch)
