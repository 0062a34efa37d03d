"""What some steps measured, and what is wrong with them."""

import math

import numpy as np
import pytest

from effjax.train.window import AHEAD, SKIPS, Measured, Window


def steps(**last: float) -> list[dict[str, float]]:
    """Two good steps and another one."""
    good = {"loss": 1.0, "grad_norm": 2.0}
    return [good, good, good | last]


@pytest.mark.parametrize(
    ("last", "before", "fault"),
    [
        ({"loss": math.inf}, 0, "the loss is inf"),
        ({"grad_norm": math.nan}, 0, "the norm of the gradient is nan"),
        ({"loss": math.nan, "skipped": 1.0}, 0, None),
        ({}, SKIPS, None),
    ],
)
def test_what_cannot_stand_is_named(last: dict[str, float], before: int, fault: str | None) -> None:
    measured = Measured(steps(**last), skipped_before=before)
    assert measured.bad == (None if fault is None else 2)
    assert fault is None or measured.fault == fault


def test_too_many_steps_left_out_in_a_row_are_named() -> None:
    left_out = {"loss": 1.0, "grad_norm": 2.0, "skipped": 1.0}
    measured = Measured([left_out, left_out], skipped_before=SKIPS - 2)
    assert measured.bad == 1 and measured.fault == f"{SKIPS} steps in a row were left out"


def test_steps_are_not_begun_far_ahead_of_the_device() -> None:
    """Whoever asks for an end would wait for all of them."""
    waited: list[int] = []

    class Number(np.ndarray):
        def block_until_ready(self) -> None:
            waited.append(int(self))

    window = Window(Measured())
    for i in range(AHEAD + 3):
        window.add({"loss": np.array(i).view(Number)}, 1)
    assert waited == [0, 1, 2]
