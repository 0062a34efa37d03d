"""What a pruning experiment reports of scores that are made up."""

import numpy as np
import pytest

from effjax.recipe.arms import Run
from effjax.recipe.pruned import Made, Structure
from effjax.recipe.pruning_report import by_speedup

NOTHING = Structure(kept={}, fields={}, params=0, flops=0, cost=0.0)


def run(way: str, seed: int, right: tuple[int, ...]) -> Run:
    answers = {"validation": np.array(right, bool)}
    return Run(way, "2x", seed, 0.0, 0, 0.0, "", {}, answers)


def made(way: str, before: Run, *after: Run) -> Made:
    return Made(way=way, speedup=2.0, structure=NOTHING, before=before, after=after)


def test_ways_are_compared_on_the_same_examples() -> None:
    """As recovered where they are, each example with its mean over the seeds."""
    bad, good = run("any", 0, (0, 0, 0, 0)), run("any", 0, (1, 1, 1, 1))
    random = [made("random", run("random", i, (i, 0, 0, 1))) for i in (0, 1)]
    first = made("first", bad, run("first", 0, (1, 1, 1, 1)), run("first", 1, (1, 1, 1, 0)))
    found = by_speedup([*random, first, made("all", good)], ["validation"])
    assert list(found) == ["2x"]
    points = {pair: sets["validation"]["difference"] for pair, sets in found["2x"].items()}
    want = {"first - random": 0.5, "all - random": 0.625, "all - first": 0.125}
    assert points == pytest.approx(want)
