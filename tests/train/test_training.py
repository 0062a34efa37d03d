import math
from typing import Any

import pytest

from effjax.train import Training


def test_a_recipe_decides_how_its_models_compute() -> None:
    runtime = Training(dtype="bfloat16", remat="layers").runtime()
    assert (runtime.dtype, runtime.remat) == ("bfloat16", "layers")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="3 micro-batches do not divide a batch of 32"):
        Training(micro_batches=3)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("patience", 0, "it must be above 0"),
        ("learning_rate", math.inf, "it must be above 0"),
        ("weight_decay", -1.0, "it must be 0 or above"),
        ("weight_decay", math.nan, "it must be 0 or above"),
        ("b2", 1.5, "it is a decay below 1, from 0 to 1"),
        ("b2", 1.0, "it is a decay below 1, from 0 to 1"),
        ("ema", 1.0, "it is a decay below 1, from 0 to 1"),
        ("warmup", -0.1, "it is a share of the steps, from 0 to 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError) as caught:
        Training(**{name: value})
    assert str(caught.value) == f"training: {name} is {value!r}; {allowed}"
