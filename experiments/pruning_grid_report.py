"""The table and the figure of pruning_grid.py, from the results of its recipes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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


def recovers(report: Report) -> bool:
    return bool(report["runs"])


def tables(report: Report) -> Iterator[str]:
    """A row for each way, a column for each speed-up asked for: the score, over the seeds, and the
    speed-up measured; then how many more points are right than with random scores.
    """
    ways = report["ways"]
    speedups, when = list(next(iter(ways.values()))), "recovered" if recovers(report) else "pruned"
    yield f"| {report['task']} {report['metric']}, {when} | {' | '.join(speedups)} |"
    yield "|---" * (1 + len(speedups)) + "|"
    yield row("unpruned", len(speedups) * [score(report["model"][SET])])
    for way, found in ways.items():
        yield row(way, [f"{score(of(x))} ({x['speedup']['mean']:.2f}x)" for x in found.values()])
    yield ""
    if CONTROL in ways and report["comparisons"]:
        yield f"| {report['task']}, {when}: points over {CONTROL} | {' | '.join(speedups)} |"
        yield "|---" * (1 + len(speedups)) + "|"
        for way in (way for way in ways if way != CONTROL):
            yield row(way, [over_control(report, way, speedup) for speedup in speedups])
        yield ""


def row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores of one way and speed-up, after recovery if there was one."""
    scores = found["scores"][SET]
    return scores["after"] or scores["before"]


def score(found: Mapping[str, Any]) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.1f}"
    return f"{100 * found['mean']:.1f}{spread}"


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
        line = "-" if recovers(report) else "--"
        for way, found in report["ways"].items():
            points = sorted((x["speedup"]["mean"], 100 * of(x)["mean"]) for x in found.values())
            mark = "*" if way == "distilled" else "o"
            look = {"linestyle": line, "marker": mark, "color": f"C{names.index(way)}"}
            label = way if recovers(report) else f"{way}, as pruned"
            panel.plot(*zip(*points, strict=True), **look, markersize=4, label=label)
        panel.axhline(100 * report["model"][SET]["mean"], color="grey", linestyle=":")
        panel.set(title=report["task"], xlabel="measured speed-up at 8x128")
        panel.set_ylabel(f"{report['metric']}, %")
        panel.grid(alpha=0.3)
    for panel in panels[0]:
        panel.legend(fontsize="xx-small")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
