"""The picture of a distillation experiment: the score against the measured latency."""

from pathlib import Path
from typing import Any

from effjax.files import atomic_file

MARKS = "oDvPXd"
"""Of methods, one after the other."""

CONTROLS = {"control": "s", "random": "^"}


def draw(report: dict[str, Any], path: Path) -> None:
    """One panel per evaluation set: every arm's mean with its 95% interval, at its measured
    latency.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = list(report["teacher"])
    figure, panels = plt.subplots(
        1, len(sets), figsize=(5 * len(sets), 4), squeeze=False, layout="constrained"
    )
    for panel, name in zip(panels[0], sets, strict=True):
        first = report["teacher_name"]
        point(panel, report, first, report["teacher"][name], "*", "black", first)
        for other, found in report["other_teachers"].items():
            point(panel, report, other, found["scores"][name], "*", "grey", other)
        for student, arms in report["students"].items():
            for i, (arm, scores) in enumerate(arms.items()):
                mark = CONTROLS.get(arm, MARKS[i % len(MARKS)])
                point(panel, report, student, scores[name], mark, f"C{i}", f"{student} {arm}")
        shape = next(iter(report["sizes"][first]["latency"]))
        panel.set(
            title=f"{report['task']} {name}",
            xlabel=f"latency at {shape}, ms",
            ylabel=f"{report['metric']}, %",
        )
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def point(
    panel: Any,
    report: dict[str, Any],
    model: str,
    score: dict[str, Any],
    mark: str,
    colour: str,
    label: str,
) -> None:
    """One arm at its measured latency, with its interval as error bars."""
    latency = next(iter(report["sizes"][model]["latency"].values()))["median_ms"]
    low, high = score.get("interval", (score["mean"], score["mean"]))
    spread = [[100 * (score["mean"] - low)], [100 * (high - score["mean"])]]
    panel.errorbar(
        latency, 100 * score["mean"], yerr=spread, fmt=mark, color=colour, capsize=3, label=label
    )
