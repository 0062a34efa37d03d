"""The table and the figure of pruning_grid.py, from the results of its recipes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effjax.files import atomic_file

Report = Mapping[str, Any]
CONTROL = "random"
SET = "validation"
"""The evaluation set: dev."""


def publish(reports: Sequence[Report], path: Path) -> None:
    """Writes the tables and the figure, `path` with .md and .png."""
    with atomic_file(path.with_suffix(".md")) as partial:
        partial.write_text("\n".join(line for x in reports for line in tables(x)) + "\n")
    draw(reports, path.with_suffix(".png"))


def tables(report: Report) -> Iterator[str]:
    """A row for each way, a column for each speed-up asked for: the score, over the seeds, and the
    speed-up measured; then how many more points are right than with random scores.
    """
    ways = report["ways"]
    speedups, when = list(next(iter(ways.values()))), "recovered" if report["runs"] else "pruned"
    yield f"| {report['task']} {metric(report)}, {when} | {' | '.join(speedups)} |"
    yield "|---" * (1 + len(speedups)) + "|"
    yield row("unpruned", len(speedups) * [f"{whole(report):.1f}"])
    for way, found in ways.items():
        cells = [
            f"{spread(scores(report, way, speedup))} ({found[speedup]['speedup']['mean']:.2f}x)"
            for speedup in speedups
        ]
        yield row(way, cells)
    yield ""
    if CONTROL in ways and report["comparisons"]:
        yield f"| {report['task']}, {when}: points over {CONTROL} | {' | '.join(speedups)} |"
        yield "|---" * (1 + len(speedups)) + "|"
        for way in (way for way in ways if way != CONTROL):
            yield row(way, [over_control(report, way, speedup) for speedup in speedups])
        yield ""


def row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


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


def spread(found: Sequence[float]) -> str:
    """Mean and standard deviation."""
    several = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
    return f"{np.mean(found):.1f}{several}"


def over_control(report: Report, way: str, speedup: str) -> str:
    """With its 95% interval over the examples."""
    found = report["comparisons"][speedup][f"{way} - {CONTROL}"][SET]
    point, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    return f"{point:+.1f} [{low:+.1f}, {high:+.1f}]"


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
            points = sorted(
                (made["speedup"]["mean"], float(np.mean(scores(report, way, speedup))))
                for speedup, made in found.items()
            )
            mark = "*" if way == "distilled" else "o"
            look = {"linestyle": line, "marker": mark, "color": f"C{names.index(way)}"}
            panel.plot(*zip(*points, strict=True), **look, markersize=4, label=f"{way}{when}")
        panel.axhline(whole(report), color="grey", linestyle=":")
        panel.set(title=report["task"], xlabel="measured speed-up at 8x128")
        panel.set_ylabel(f"{metric(report)}, %")
        panel.grid(alpha=0.3)
    for panel in panels[0]:
        panel.legend(fontsize="xx-small")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
