"""The search for the best sizes, against trying them all."""

import itertools

import numpy as np
import pytest

from effjax.models.costs import Costs
from effjax.prune import best_sizes, select


def costs(of: dict[str, np.ndarray], base: float = 5.0) -> Costs:
    return Costs(unit="FLOPs", base=base, of=of)


def made_up(seed: int, *, whole: bool) -> tuple[dict[str, np.ndarray], Costs]:
    """Values and costs of three axis instances, neither of them proportional to the size."""
    random, values, of = np.random.default_rng(seed), {}, {}
    for name, size in {"layer_0/heads": 4, "layer_0/ffn": 6, "layer_1/ffn": 5}.items():
        values[name] = np.append(0.0, random.normal(1, 2, size).cumsum())
        grown = np.append(0.0, random.uniform(1, 9, size).cumsum())
        of[name] = np.round(grown) if whole else grown
    return values, costs(of)


def by_enumeration(values: dict[str, np.ndarray], costs: Costs, at_most: float, step: int) -> float:
    """The largest value of all choices that fit; units in multiples of `step`, or all."""
    allowed = [
        [n for n in range(len(x)) if "heads" in name or n % step == 0 or n == len(x) - 1]
        for name, x in values.items()
    ]
    found = -np.inf
    for sizes in itertools.product(*allowed):
        if costs.at(dict(zip(values, sizes, strict=True))) <= at_most:
            found = max(found, sum(x[n] for x, n in zip(values.values(), sizes, strict=True)))
    return found


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_sizes_are_found(seed: int, step: int) -> None:
    values, costs = made_up(seed, whole=True)
    for share in (0.2, 0.5, 0.9):
        at_most = costs.base + round(share * (costs.whole - costs.base))
        sizes = best_sizes(values, costs, at_most=at_most, multiples={"ffn": step})
        assert costs.at(sizes) <= at_most
        worth = sum(values[name][size] for name, size in sizes.items())
        assert worth == pytest.approx(by_enumeration(values, costs, at_most, step))


@pytest.mark.parametrize("seed", range(8))
def test_a_budget_in_seconds_is_kept(seed: int) -> None:
    """Costs without a common divisor are rounded up: nearly the best, and never too much."""
    values, costs = made_up(seed, whole=False)
    at_most = costs.base + 0.5 * (costs.whole - costs.base)
    sizes = best_sizes(values, costs, at_most=at_most)
    assert costs.at(sizes) <= at_most
    worth = sum(values[name][size] for name, size in sizes.items())
    assert worth == pytest.approx(by_enumeration(values, costs, 0.999 * at_most, 1), rel=0.1)
    assert worth <= by_enumeration(values, costs, at_most, 1) + 1e-9


def test_a_budget_for_the_least_alone_leaves_that() -> None:
    values, costs = made_up(0, whole=False)
    sizes = best_sizes(values, costs, at_most=costs.base)
    assert set(sizes.values()) == {0}


def test_sizes_that_are_not_to_be_had_are_not_chosen() -> None:
    values, costs = made_up(0, whole=True)
    values["layer_0/ffn"][[0, 1, 2, 4]] = -np.inf
    sizes = best_sizes(values, costs, at_most=0.7 * costs.whole)
    assert sizes["layer_0/ffn"] in (3, 5, 6)


def test_the_best_of_each_are_kept_and_others_whole() -> None:
    of = {"layer_0/heads": np.arange(4.0), "layer_0/ffn": np.arange(5.0), "layer_1/ffn": np.ones(3)}
    scores = {"layer_0/heads": np.array([0.1, 9.0, 0.2]), "layer_0/ffn": np.array([3, 1, 2, 4.0])}
    keep = select(scores, costs(of), at_most=5 + 1 + 3)
    assert {name: list(kept) for name, kept in keep.items()} == {
        "layer_0/heads": [1],
        "layer_0/ffn": [0, 3],
    }


@pytest.mark.parametrize(
    ("scores", "at_most", "message"),
    [
        ({}, 4.0, "no model costs 4 FLOPs or less; the nearest possible costs 5"),
        ({}, 12.0, "the model costs 12 FLOPs, which is no more than the 12 asked for"),
        ({}, float("nan"), "no model costs nan"),
        ({"layer_3/ffn": np.ones(3)}, 9.0, "'layer_3/ffn', which has no cost; there are layer_0"),
        ({"layer_0/ffn": np.ones(3)}, 9.0, r"shape \(3,\); expected \(4,\)"),
        ({"layer_0/ffn": np.full(4, np.nan)}, 9.0, r"scores\['layer_0/ffn'\] is not finite"),
    ],
)
def test_what_cannot_be_searched_is_one_line(scores: dict, at_most: float, message: str) -> None:
    of = {"layer_0/heads": np.arange(4.0), "layer_0/ffn": np.arange(5.0)}
    given = {"layer_0/heads": np.ones(3), "layer_0/ffn": np.ones(4), **scores}
    with pytest.raises(ValueError, match=message) as caught:
        select(given, costs(of), at_most=at_most)
    assert "\n" not in str(caught.value)
