"""The table and the figure of methods_grid.py, from the results of its recipes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grid_tables import points, spread, table

from effjax.files import atomic_file

Report = Mapping[str, Any]
CONTROL = "control"
SOFT = "soft targets"


def publish(reports: Sequence[Report], path: Path) -> None:
    """Writes the table and the figure, `path` with .md and .png."""
    with atomic_file(path.with_suffix(".md")) as partial:
        partial.write_text("\n".join(lines(reports)) + "\n")
    draw(reports, path.with_suffix(".png"))


def lines(reports: Sequence[Report]) -> Iterator[str]:
    """A table for each student: a row for each method, a column for each task."""
    for student in students(reports):
        of = [report for report in reports if student in report["students"]]
        names, methods = [f"{report['task']} {report['metric']}" for report in of], arms(of)
        teacher = [spread([100 * report["teacher"]["validation"]["mean"]]) for report in of]
        found = [[x, *(spread(scores(report, student, x)) for report in of)] for x in methods]
        yield from table([student, *names], [["teacher", *teacher], *found])
        for other in (x for x in (CONTROL, SOFT) if x in methods[:-1]):
            later = methods[methods.index(other) + 1 :]
            more = [[x, *(difference(report, student, x, other) for report in of)] for x in later]
            yield from table([f"{student}: over {other}, points right", *names], more)


def difference(report: Report, student: str, method: str, other: str) -> str:
    """Accuracy over the other method's with its 95% interval over the examples; of a regression,
    the difference of the means of its metric.
    """
    found = report["comparisons"][student].get(f"{method} - {other}")
    if found is None:
        ours, others = (scores(report, student, arm) for arm in (method, other))
        return f"{np.mean(ours) - np.mean(others):+.1f} ({report['metric']})" if ours else "-"
    return points(found["validation"])


def students(reports: Sequence[Report]) -> list[str]:
    return list(dict.fromkeys(name for report in reports for name in report["students"]))


def arms(reports: Sequence[Report]) -> list[str]:
    """The control, then the methods."""
    names = [run["arm"] for report in reports for run in report["runs"]]
    return [CONTROL, *(name for name in dict.fromkeys(names) if name != CONTROL)]


def scores(report: Report, student: str, arm: str) -> list[float]:
    """The headline metric of every seed on dev, in percent."""
    return [
        100 * run["scores"]["validation"][report["metric"]]
        for run in report["runs"]
        if (run["student"], run["arm"]) == (student, arm)
    ]


def draw(reports: Sequence[Report], path: Path) -> None:
    """A panel for each student and task: every seed of every method, their mean, the teacher."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names, tasks = students(reports), list(dict.fromkeys(r["task"] for r in reports))
    size = (3.2 * len(tasks), 2.6 * len(names))
    figure, panels = plt.subplots(
        len(names), len(tasks), figsize=size, squeeze=False, layout="constrained"
    )
    for report in reports:
        for student in report["students"]:
            panel = panels[names.index(student)][tasks.index(report["task"])]
            methods = arms([report])
            for place, method in enumerate(reversed(methods)):
                found = scores(report, student, method)
                panel.plot(found, [place] * len(found), "o", color="C0", alpha=0.5, markersize=4)
                panel.plot(np.mean(found), place, "|", color="black", markersize=14)
            teacher = 100 * report["teacher"]["validation"]["mean"]
            panel.axvline(teacher, color="grey", linestyle=":", label="teacher")
            panel.set_yticks(range(len(methods)), list(reversed(methods)), fontsize="small")
            panel.set_title(f"{student}, {report['task']}", fontsize="small")
            panel.set_xlabel(f"{report['metric']}, %", fontsize="small")
            panel.grid(alpha=0.3)
    for panel in panels.flat:
        panel.set_visible(panel.has_data())
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
