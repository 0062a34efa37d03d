"""What the metrics of a run come to: a note beside the bar, a final table, and curves as PNG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from effjax.files import atomic_file
from effjax.train.logs import SPEED, Record, read_history

FILE = "curves.png"

APART = {"grad_norm": "gradient norm", "learning_rate": "learning rate"}
"""Metrics of a training window that are no losses, and the titles of their panels."""

NAMED = 12
"""Lines of a panel that are named; the names of more would take its place."""

LOWER_IS_BETTER = ("loss", "perplexity")

Series = dict[str, list[tuple[int, float]]]
"""The points (step, value) of each metric."""


def progress_note(values: Mapping[str, float], tokens_per_second: float) -> str:
    """The text beside a progress bar: `loss 0.2310  accuracy 0.912  41 k tok/s`.

    Args:
        values: what is worth a look, by its name in the logs; a set's name is left out unless two
            sets have the metric.
        tokens_per_second: tokens trained on, padding not counted.
    """
    short = [name.rpartition("/")[2] for name in values]
    notes = []
    for name, last, value in zip(values, short, values.values(), strict=True):
        shown = last if short.count(last) == 1 else name
        notes.append(f"{shown} {value:{'.4f' if last == 'loss' else '.3f'}}")
    return "  ".join([*notes, f"{_thousands(tokens_per_second)} tok/s"])


def _thousands(x: float) -> str:
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if x >= unit:
            return f"{x / unit:.{1 if x < 10 * unit else 0}f}{name}"
    return f"{x:.0f}"


@dataclass(frozen=True)
class Course:
    """How one evaluation metric went: its best value, the earliest if several, and its last."""

    best: float
    best_step: int
    last: float
    last_step: int


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers.

    Attributes:
        steps: the last step that was recorded.
        loss: mean over the last training window; nan without one.
        tokens_per_second: median over the training windows, so that compilation in the first one
            does not count; nan without one.
        metrics: every evaluation metric by name.
    """

    steps: int
    loss: float
    tokens_per_second: float
    metrics: dict[str, Course]


def summarise(history: Sequence[Record]) -> Summary:
    """The summary of what `read_history` gave."""
    series = series_of(history)
    speeds = [speed for _, speed in series.get(f"{SPEED}tokens_per_second", ())]
    return Summary(
        steps=max((int(record["step"]) for record in history), default=0),
        loss=series["loss"][-1][1] if "loss" in series else math.nan,
        tokens_per_second=median(speeds) if speeds else math.nan,
        metrics={
            name: _course(name, points)
            for name, points in series.items()
            if "/" in name and not name.startswith(SPEED)
        },
    )


def final_table(history: Sequence[Record]) -> Table:
    """The summary as a table to print when a run is done."""
    summary = summarise(history)
    table = Table("metric", "last", "at step", "best", "at step", title=f"{summary.steps} steps")
    for name, course in summary.metrics.items():
        last, best = f"{course.last:.4f}", f"{course.best:.4f}"
        table.add_row(name, last, str(course.last_step), best, str(course.best_step))
    table.add_row("loss", f"{summary.loss:.4f}", str(summary.steps))
    table.add_row("tokens per second, median", _thousands(summary.tokens_per_second))
    return table


def series_of(history: Sequence[Record]) -> Series:
    """The points of each metric, in the order in which they first occur."""
    series: Series = {}
    for record in history:
        for name, value in record.items():
            if name != "step":
                series.setdefault(name, []).append((int(record["step"]), value))
    return series


def _course(name: str, points: list[tuple[int, float]]) -> Course:
    pick: Callable = min if name.rpartition("/")[2] in LOWER_IS_BETTER else max
    finite = [point for point in points if math.isfinite(point[1])] or points
    (best_step, best), (last_step, last) = pick(finite, key=lambda point: point[1]), points[-1]
    return Course(best, best_step, last, last_step)


def draw_curves(folder: Path) -> Path:
    """Draws `curves.png` from the history of a run: losses, gradient norm, rate, every set's
    metrics.

    Raises:
        ValueError: the history holds nothing to draw.
    """
    panels = panels_of(read_history(folder))
    if not panels:
        raise ValueError(f"{folder}: the history holds no metrics to draw")
    with atomic_file(folder / FILE) as partial:
        figure_of(panels).savefig(partial, dpi=100)
    return folder / FILE


def panels_of(history: Sequence[Record]) -> dict[str, Series]:
    """What each panel shows, by its title."""
    panels: dict[str, Series] = {}
    for name, points in series_of(history).items():
        if not name.startswith(SPEED):
            panels.setdefault(_title(name), {})[name] = points
    return panels


def _title(name: str) -> str:
    if name in APART:
        return APART[name]
    group, _, metric = name.rpartition("/")
    return group if group and metric != "loss" else "loss"


def figure_of(panels: Mapping[str, Series]) -> Any:
    """The matplotlib figure, 5 by 3.5 inches a panel, at most two in a row."""
    # Without pyplot, a figure is drawn by Agg, belongs to nobody else and is freed as any object.
    from matplotlib.figure import Figure

    columns, rows = min(2, len(panels)), math.ceil(len(panels) / 2)
    figure = Figure(figsize=(5 * columns, 3.5 * rows), layout="constrained")
    for i, (title, series) in enumerate(panels.items(), 1):
        _draw(figure.add_subplot(rows, columns, i), title, series)
    return figure


def _draw(panel: Any, title: str, series: Series) -> None:
    for name, points in series.items():
        steps = [step for step, _ in points]
        values = [value if math.isfinite(value) else math.nan for _, value in points]
        mark = "." if len(points) <= 50 else ""
        panel.plot(steps, values, marker=mark, label=name.removeprefix(f"{title}/"))
    if title in ("loss", APART["grad_norm"]) and _spans_a_decade(series):
        panel.set_yscale("log")
    panel.set(title=title, xlabel="step")
    panel.grid(alpha=0.3, which="both")
    if title not in APART.values() and len(series) <= NAMED:
        panel.legend(fontsize="small")


def _spans_a_decade(series: Series) -> bool:
    """Whether a logarithmic axis can show all values, and shows them better."""
    values = [x for points in series.values() for _, x in points if math.isfinite(x)]
    return bool(values) and 0 < 10 * min(values) < max(values)
