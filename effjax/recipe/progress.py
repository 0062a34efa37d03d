"""Progress bars with the time left, shown by the first of several processes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from effjax.train.curves import progress_note
from effjax.train.logs import SPEED
from effjax.train.processes import is_first


class Bars:
    """A bar for what is running, and one for the whole experiment; a context manager."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.progress = Progress(
            *columns,
            console=Console(stderr=True, quiet=not is_first()),
            disable=not is_first(),
            speed_estimate_period=math.inf,  # two looks at the loss, or trainings, may be far apart
        )
        self.whole = None
        self.running = None

    def __enter__(self) -> "Bars":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def print(self, *what: Any) -> None:
        """Prints above the bars."""
        self.progress.console.print(*what, highlight=False)

    def expect(self, trainings: int) -> None:
        """Begins the bar of the whole experiment."""
        self.whole = self.progress.add_task("all trainings", total=trainings, note="")

    def advance(self, trainings: int = 1) -> None:
        """So many trainings of the whole are done."""
        if self.whole is not None:
            self.progress.advance(self.whole, trainings)

    def training(self, label: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """A bar for one training: steps, the mean loss, the last evaluation's headline, and tokens
        per second. It goes with the last step, or where none was left to do, with the next
        training.
        """
        if self.running is not None:
            self.progress.update(self.running, visible=False)
        self.running = bar = self.progress.add_task(label, total=None, note="")

        def update(step: int, steps: int, metrics: Mapping[str, float]) -> None:
            headline = next(iter(metrics))
            shown = {name: metrics[name] for name in dict.fromkeys(("loss", headline))}
            note = progress_note(shown, metrics[f"{SPEED}tokens_per_second"])
            going_on = step < steps
            self.progress.update(bar, completed=step, total=steps, note=note, visible=going_on)
            if not going_on:
                self.print(f"{label}: {steps} steps, {note}")

        return update

    def counting(self, label: str) -> Callable[[int, int], None]:
        """A bar for anything else that counts up."""
        bar = self.progress.add_task(label, total=None, note="")

        def update(done: int, total: int) -> None:
            self.progress.update(bar, completed=done, total=total, visible=done < total)

        return update
