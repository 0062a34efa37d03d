"""The best sizes within a budget: a knapsack with one choice per axis instance, solved exactly for
costs with a large common divisor, and else to a part in 20,000 of the budget.
"""

from collections.abc import Mapping

import numpy as np

from effjax.models.costs import Costs
from effjax.types import Float, Keep, Scores

BINS = 20_000
"""Parts of a budget that costs are rounded up to, where they have no common divisor as large."""

ROUNDING, TINY = 1e-9, 1e-200


def select(
    scores: Scores,
    costs: Costs,
    *,
    at_most: float | int,
    multiples: Mapping[str, int] | None = None,
) -> Keep:
    """What to keep, so that the scores of it add up to the most and it costs no more than that.

        costs = flop_costs(model)
        keep = select(scores, costs, at_most=0.5 * costs.whole)

    Args:
        scores: of what may be removed; anything else is kept.
        at_most: in the costs' unit.
        multiples: sizes that the hardware likes: {"ffn": 32} keeps a multiple of 32 units, or all.

    Raises:
        ValueError: scores do not fit the costs, or no model costs so little, or all of it does.
    """
    ranked, values = {}, {}
    for instance, score in scores.items():
        check_scores(instance, np.asarray(score), costs)
        order = np.argsort(-np.asarray(score, np.float64), stable=True)
        ranked[instance] = order
        values[instance] = np.append(0.0, np.cumsum(np.asarray(score, np.float64)[order]))
    sizes = best_sizes(values, costs, at_most=at_most, multiples=multiples)
    return {instance: np.sort(ranked[instance][:size]) for instance, size in sizes.items()}


def check_scores(instance: str, score: np.ndarray, costs: Costs) -> None:
    """Raises a ValueError for scores of something that has no cost, or of another shape, or not
    finite.
    """
    if instance not in costs.of:
        there = ", ".join(costs.of)
        raise ValueError(f"scores name {instance!r}, which has no cost; there are {there}")
    size = len(costs.of[instance]) - 1
    if score.shape != (size,):
        raise ValueError(f"scores[{instance!r}] has shape {score.shape}; expected ({size},)")
    if not np.isfinite(score).all():
        raise ValueError(f"scores[{instance!r}] is not finite everywhere")


def best_sizes(
    values: Mapping[str, Float[np.ndarray, "sizes"]],
    costs: Costs,
    *,
    at_most: float | int,
    multiples: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The sizes n_i that have the largest sum of values_i(n_i) and cost no more than that.

    Source: dynamic programming over a budget in equal parts, as in arXiv 2302.04089.

    Args:
        values: what 0, 1, ... of each axis instance are worth; -inf for a size that is not to be
            had.

    Raises:
        ValueError: as of `select`.
    """
    allowed = {name: choices(name, values[name], multiples or {}) for name in values}
    cheapest = {name: min(costs.of[name][n] for n in sizes) for name, sizes in allowed.items()}
    fixed = costs.base + sum(x[-1] for name, x in costs.of.items() if name not in values)
    least = fixed + sum(cheapest.values())
    if not least <= at_most:
        raise ValueError(
            f"no model costs {at_most:,.4g} {costs.unit} or less; the nearest possible costs "
            f"{least:,.4g}"
        )
    if at_most >= costs.whole:
        raise ValueError(
            f"the model costs {costs.whole:,.4g} {costs.unit}, which is no more than the "
            f"{at_most:,.4g} asked for; there is nothing to remove"
        )
    above = {name: costs.of[name] - cheapest[name] for name in values}
    whole, parts = in_parts(above, at_most - least)
    best, chosen = np.zeros(whole + 1), {}
    for name, sizes in allowed.items():
        best, chosen[name] = with_one_more(best, sizes, values[name], parts[name])
    left, found = whole, {}
    for name in reversed(allowed):
        found[name] = int(chosen[name][left])
        left -= int(parts[name][found[name]])
    return {name: found[name] for name in values}


def choices(instance: str, values: np.ndarray, multiples: Mapping[str, int]) -> list[int]:
    """The sizes that an axis instance may have."""
    step, whole = multiples.get(instance.partition("/")[2], 1), len(values) - 1
    return [n for n in range(whole + 1) if (n % step == 0 or n == whole) and values[n] > -np.inf]


def in_parts(
    of: Mapping[str, Float[np.ndarray, "sizes"]], budget: float
) -> tuple[int, dict[str, np.ndarray]]:
    """Budget and costs as whole numbers of equal parts; costs are rounded up, so that what fits
    does. Costs with a common divisor that is large enough are not rounded.
    """
    every = np.concatenate([np.asarray(costs, np.float64) for costs in of.values()])
    divisor = 0
    if (every == np.round(every)).all():
        divisor = int(np.gcd.reduce(every.astype(np.int64)))
    part = divisor if divisor and budget / divisor <= BINS else max(budget, TINY) / BINS
    # What rounding of floating-point numbers adds is no cost.
    exact = {name: np.asarray(costs, np.float64) / part - ROUNDING for name, costs in of.items()}
    return int(budget / part + ROUNDING), {
        name: np.ceil(np.minimum(costs, BINS + 1)).astype(np.int64) for name, costs in exact.items()
    }


def with_one_more(
    best: Float[np.ndarray, "parts"], sizes: list[int], values: np.ndarray, parts: np.ndarray
) -> tuple[Float[np.ndarray, "parts"], np.ndarray]:
    """The best value for every budget when one more axis instance is chosen, and its size there."""
    found = np.full(len(best), -np.inf)
    chosen = np.zeros(len(best), np.int64)
    for size in sizes:
        cost = parts[size]
        if cost >= len(best):
            continue
        there = best[: len(best) - cost] + values[size]
        better = there > found[cost:]
        found[cost:][better] = there[better]
        chosen[cost:][better] = size
    return found, chosen
