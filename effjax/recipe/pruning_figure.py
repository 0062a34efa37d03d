"""The pictures of a pruning experiment: scores against sizes and speed-ups, and what is kept."""

from pathlib import Path
from typing import Any

import numpy as np

from effjax.files import atomic_file
from effjax.recipe.figure import MARKS

BARS = ("C0", "C1", "C2", "C3")
"""Colours of heads, feed-forward units, and whatever else layers have."""


AXES = {
    "params": (1e-6, "parameters, millions"),
    "flops": (1e-9, "FLOPs at {shape}, billions"),
    "speedup": (1.0, "measured speed-up at {shape}"),
}
"""What scores are drawn against: its unit and label, by its name in the report."""

PREDICTED = "hollow: the speed-up predicted"


def draw(report: dict[str, Any], path: Path) -> None:
    """A row per evaluation set, a column per axis, one line per way: means over the seeds with
    their 95% interval after recovery, and dashed as they were pruned. Where the budget was of
    seconds, the speed-ups that it predicted are beside those measured.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets, shape = list(report["model"]), next(iter(report["model_size"]["latency"]))
    wide = {"squeeze": False, "sharey": "row", "layout": "constrained"}
    size = (4.5 * len(AXES), 4.5 * len(sets))
    figure, panels = plt.subplots(len(sets), len(AXES), figsize=size, **wide)
    for row, name in zip(panels, sets, strict=True):
        for panel, axis in zip(row, AXES, strict=True):
            draw_ways(panel, report, name, axis)
            panel.set(title=f"{report['task']} {name}", xlabel=AXES[axis][1].format(shape=shape))
            panel.grid(alpha=0.3)
        row[0].set_ylabel(f"{report['metric']}, %")
        row[-1].legend(fontsize="x-small", handlelength=4)
    save(figure, path)


def draw_ways(panel: Any, report: dict[str, Any], name: str, axis: str) -> None:
    """The whole model and all ways in one panel."""
    unit, whole = AXES[axis][0], 100 * report["model"][name]["mean"]
    at = 1.0 if axis == "speedup" else unit * report["model_size"][axis]
    panel.plot(at, whole, "*", color="black", markersize=10, label="unpruned")
    panel.axhline(whole, color="black", linewidth=0.5)
    predicted = axis == "speedup" and report["budget"]["unit"] == "seconds"
    for i, (way, speedups) in enumerate(report["ways"].items()):
        look = {"color": f"C{i}", "marker": MARKS[i % len(MARKS)]}
        for when, line in (("before", "--"), ("after", "-")):
            if points := points_of(speedups, name, when, axis):
                x, y, low, high = zip(*sorted(points), strict=True)
                label = f"{way}{', as pruned' if when == 'before' else ''}"
                bars = {"yerr": (low, high), "capsize": 3}
                panel.errorbar(unit * np.array(x), y, linestyle=line, label=label, **bars, **look)
            if points and predicted:
                foretold = points_of(speedups, name, when, "predicted_speedup")
                x, y, *_ = zip(*foretold, strict=True)
                panel.plot(x, y, linestyle="", markerfacecolor="none", markersize=10, **look)
    if predicted:
        panel.plot([], [], "o", color="grey", markerfacecolor="none", label=PREDICTED)


def points_of(
    speedups: dict[str, Any], name: str, when: str, axis: str
) -> list[tuple[float, float, float, float]]:
    """(place on the axis, score, below, above) of one way, scores in per cent."""
    points = []
    for found in speedups.values():
        score = found["scores"][name][when]
        if score is not None:
            mean = score["mean"]
            low, high = score.get("interval", (mean, mean))
            spread = 100 * (mean - low), 100 * (high - mean)
            points.append((found[axis]["mean"], 100 * mean, *spread))
    return points


def draw_structure(report: dict[str, Any], path: Path) -> None:
    """A row per way and a column per speed-up: the share of the heads and units of each layer that
    the first seed's model has kept.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ways, parts = report["ways"], report["model_parts"]
    speedups = list(next(iter(ways.values())))
    layers = list(dict.fromkeys(instance.partition("/")[0] for instance in parts))
    kinds = list(dict.fromkeys(instance.partition("/")[2] for instance in parts))
    wide = max(2.2, 0.3 * len(layers))
    figure, panels = plt.subplots(
        len(ways),
        len(speedups),
        figsize=(wide * len(speedups) + 1, 1.3 * len(ways) + 1),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for row, way in zip(panels, ways, strict=True):
        for panel, speedup in zip(row, speedups, strict=True):
            strip(panel, kept_of(report, way, speedup), parts, layers, kinds)
            panel.set_title(f"{way} {speedup}", fontsize="small")
    for panel in panels[-1]:
        panel.set_xlabel("layer", fontsize="small")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    save(figure, path)


def kept_of(report: dict[str, Any], way: str, speedup: str) -> dict[str, int]:
    """What the first model of a way and speed-up has kept, layers called as in the whole one."""
    of = (x for x in report["pruned"] if (x["way"], x["before"]["arm"]) == (way, speedup))
    made = next(of)
    if made["layers"] is None:
        return made["kept"]
    names = {f"layer_{new}": f"layer_{old}" for new, old in enumerate(made["layers"])}
    found = {}
    for instance, size in made["kept"].items():
        layer, slash, kind = instance.partition("/")
        found[names.get(layer, layer) + slash + kind] = size
    return found


def strip(
    panel: Any, kept: dict[str, int], parts: dict[str, int], layers: list[str], kinds: list[str]
) -> None:
    """Bars of one model: layers from left to right, each with one bar per kind."""
    width = 0.8 / len(kinds)
    for i, kind in enumerate(kinds):
        names = [f"{layer}/{kind}" for layer in layers]
        shares = [kept.get(name, 0) / parts[name] if name in parts else 0.0 for name in names]
        places = [n + (i - (len(kinds) - 1) / 2) * width for n in range(len(layers))]
        panel.bar(places, [1.0] * len(places), width, color="0.92")
        panel.bar(places, shares, width, color=BARS[i % len(BARS)], label=kind)
    panel.set(ylim=(0, 1), yticks=(0, 1), xticks=range(len(layers)))
    panel.tick_params(labelsize="x-small")


def save(figure: Any, path: Path) -> None:
    """Writes it as a whole."""
    import matplotlib.pyplot as plt

    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
