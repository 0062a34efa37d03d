"""What stands beside a bar while a model trains."""

import io

from rich.console import Console

from effjax.recipe.progress import Bars


def test_a_bar_has_the_loss_and_the_last_evaluations_headline() -> None:
    bars, speed = Bars(), {"speed/tokens_per_second": 41_000.0}
    bars.progress.live.console.file = shown = io.StringIO()
    assert isinstance(bars.progress.console, Console)
    update = bars.training("student")
    (bar,) = bars.progress.tasks
    update(50, 150, {"loss": 0.5, "soft": 0.25, **speed})
    assert (bar.completed, bar.total, bar.fields["note"]) == (50, 150, "loss 0.5000  41 k tok/s")
    update(150, 150, {"validation/accuracy": 0.875, "loss": 0.25, "soft": 0.125, **speed})
    assert shown.getvalue() == "student: 150 steps, loss 0.2500  accuracy 0.875  41 k tok/s\n"


def test_a_bar_goes_with_the_last_step_or_with_the_next_training() -> None:
    """Training may stop early, or have been done before."""
    bars, metrics = Bars(), {"loss": 0.5, "speed/tokens_per_second": 100.0}
    bars.progress.live.console.file = shown = io.StringIO()
    update = bars.training("early")
    update(50, 150, metrics)
    update(100, 100, metrics)
    bars.training("done before")
    bars.training("now")
    assert [bar.description for bar in bars.progress.tasks if bar.visible] == ["now"]
    assert shown.getvalue() == "early: 100 steps, loss 0.5000  100 tok/s\n"


def test_the_time_left_is_known_where_looks_are_a_minute_apart() -> None:
    bars, now = Bars(), 0.0
    bars.progress.get_time = lambda: now
    update = bars.training("student")
    (bar,) = bars.progress.tasks
    for now in (60.0, 120.0, 180.0):
        update(round(now), 600, {"loss": 0.5, "speed/tokens_per_second": 100.0})
    assert bar.time_remaining == 420
