"""The table and the figure of pruning_grid.py, from the results of its recipes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grid_tables import points, spread, table

from effjax.files import atomic_file

Report = Mapping[str, Any]
CONTROL = "random"
SET = "validation"
"""The evaluation set: dev."""


def publish(reports: Sequence[Report], path: Path) -> None:
    """Writes the tables and the figure, `path` with .md and .png."""
    with atomic_file(path.with_suffix(".md")) as partial:
        lines = [line for report in reports for line in tables(report)]
        partial.write_text("\n".join([*lines, *foretold(reports), "", *took(reports)]) + "\n")
    draw(reports, path.with_suffix(".png"))


def tables(report: Report) -> Iterator[str]:
    """A row for each way, a column for each speed-up asked for: the score, over the seeds, and the
    speed-up measured; then how many more points are right than with random scores.
    """
    ways = report["ways"]
    speedups, when = list(next(iter(ways.values()))), "recovered" if report["runs"] else "pruned"
    unpruned = ["unpruned", *len(speedups) * [spread([whole(report)])]]
    found = [
        [
            way,
            *(
                f"{spread(scores(report, way, x))} ({of[x]['speedup']['mean']:.2f}x)"
                for x in speedups
            ),
        ]
        for way, of in ways.items()
    ]
    yield from table([f"{report['task']} {metric(report)}, {when}", *speedups], [unpruned, *found])
    if CONTROL in ways and report["comparisons"]:
        more = [
            [way, *(points(report["comparisons"][x][f"{way} - {CONTROL}"][SET]) for x in speedups)]
            for way in ways
            if way != CONTROL
        ]
        header = [f"{report['task']}, {when}: points over {CONTROL}", *speedups]
        yield from table(header, more)


def foretold(reports: Sequence[Report]) -> Iterator[str]:
    """How far measured speed-ups are from those of the budget, over all that were timed: smaller
    models of one report with the same sizes were timed once.
    """
    found = {
        (i, tuple(made["kept"].items())): made
        for i, report in enumerate(reports)
        for made in report["pruned"]
    }
    off = [
        100 * (next(iter(made["latency"].values()))["speedup"] / made["predicted_speedup"] - 1)
        for made in found.values()
    ]
    within, median = np.sum(np.abs(off) <= 10), np.median(np.abs(off))
    yield (
        f"Of {len(off)} models {within} are within 10% of the speed-up foretold; "
        f"median {median:.1f}%, slowest {min(off):+.1f}%, fastest {max(off):+.1f}%."
    )


def took(reports: Sequence[Report]) -> Iterator[str]:
    """What each way took that trains nothing, for all speed-ups together, with one seed."""
    for report in (report for report in reports if not report["runs"]):
        spent = dict.fromkeys(report["ways"], 0.0)
        for made in report["pruned"]:
            if made["seed"] == report["recipe"]["seeds"][0]:
                spent[made["way"]] += made["before"]["seconds"]
        each = ", ".join(f"{way} {seconds:.0f} s" for way, seconds in spent.items())
        yield f"{report['task']}, all speed-ups together: {each}."


def metric(report: Report) -> str:
    """Accuracy, where it is one of a task's: the F1 of a model that always says yes is high."""
    return "accuracy" if "accuracy" in report["model_scores"][SET] else report["metric"]


def whole(report: Report) -> float:
    """The score of the unpruned model, in percent."""
    return 100 * report["model_scores"][SET][metric(report)]


def scores(report: Report, way: str, speedup: str) -> list[float]:
    """Those of every seed after recovery, or as pruned where there is none, in percent."""
    runs = report["runs"] or [made["before"] for made in report["pruned"]]
    found = [run for run in runs if (run["student"], run["arm"]) == (way, speedup)]
    return [100 * run["scores"][SET][metric(report)] for run in found]


def draw(reports: Sequence[Report], path: Path) -> None:
    """A panel for each task: scores against the speed-up measured, dashed as pruned, solid as
    recovered, a star for what was distilled.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(report["task"] for report in reports))
    names = list(dict.fromkeys(way for report in reports for way in report["ways"]))
    size = (4.5 * len(tasks), 4.2)
    figure, panels = plt.subplots(1, len(tasks), figsize=size, squeeze=False, layout="constrained")
    for report in reports:
        panel = panels[0][tasks.index(report["task"])]
        when, line = ("", "-") if report["runs"] else (", as pruned", "--")
        for way, found in report["ways"].items():
            drawn = sorted(
                (made["speedup"]["mean"], float(np.mean(scores(report, way, speedup))))
                for speedup, made in found.items()
            )
            mark, wide = ("*", 9) if way == "distilled" else ("o", 4)
            look = {"linestyle": line, "marker": mark, "color": f"C{names.index(way)}"}
            panel.plot(*zip(*drawn, strict=True), **look, markersize=wide, label=f"{way}{when}")
        panel.axhline(whole(report), color="grey", linestyle=":")
        panel.set(title=report["task"], xlabel="measured speed-up at 8x128")
        panel.set_ylabel(f"{metric(report)}, %")
        panel.grid(alpha=0.3)
    for panel in panels[0]:
        panel.legend(fontsize="xx-small")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
