"""Pruning experiments of the smallest size, for tests of what they do and of what they refuse."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from effjax.data import toy
from effjax.distill import SoftTargets, Weighted, init_student
from effjax.recipe import Given, OneShot, Pruned, Pruning, Recovery, Teacher, Way
from effjax.train import Training

SMALL = Training(epochs=1, batch_size=64, learning_rate=2e-3, max_length=32)
RECIPE = Pruning(
    task="toy/sentiment",
    splits=("validation",),
    transfer=128,
    model=Teacher(hidden=16, layers=2, heads=2, vocab_size=200, training=SMALL),
    budget="flops",
    shape=(1, 8),
    speedups=(2.0,),
    multiples=(("ffn", 32),),
    calibration=32,
    ways=(OneShot(name="by size", criterion="magnitude"),),
    recovery=Recovery(training=SMALL, objective=Weighted(soft=(1.0, SoftTargets(temperature=2.0)))),
    seeds=(0, 1),
)


@dataclass(frozen=True, kw_only=True)
class FirstLayer(Way):
    """A way as a user adds it; it removes the first layer, and draws nothing at random."""

    def models(self, given: Given) -> Iterator[Pruned]:
        for _ in given.speedups:
            yield Pruned(init_student(given.model, layers=(1,)), layers=(1,))


WITHOUT = replace(
    RECIPE,
    ways=(OneShot(name="random", criterion="uniform"), FirstLayer(name="first layer")),
    speedups=(1.3, 2.0),
    recovery=None,
    layout="dense",
)
"""Without recovery."""


@pytest.fixture(autouse=True, scope="module")
def few_texts() -> Iterator[None]:
    """A small part of the generated language, for all tests here."""
    whole = toy.examples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "examples", lambda split: whole(split, size=300))
        yield
