"""What a pruning experiment reports: scores before and after recovery, sizes, latency predicted and
measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from effjax import measure
from effjax.files import atomic_file, write_json
from effjax.measure import Latency, LatencyTable, Speedup
from effjax.measure.latency import BUSY
from effjax.measure.table import AT_ONCE
from effjax.models.base import EncoderConfig
from effjax.models.model import Model
from effjax.prune import gated
from effjax.recipe.arms import Run, fields_of
from effjax.recipe.pruned import Bench, Made, empty_model
from effjax.recipe.pruning_figure import draw, draw_structure
from effjax.recipe.report import (
    Report,
    Size,
    TeacherScores,
    arm_summary,
    cell,
    comparisons,
    data_fields,
    mean_and_sd,
    size_fields,
    teacher_summary,
)

Sizes = Mapping[EncoderConfig, Size]


def measured(bench: Bench, made: Sequence[Made]) -> Sizes:
    """Parameters, FLOPs and latency of the whole model and of all smaller ones that differ, a few
    at a time in turns with the whole one.
    """
    whole, (batch, length) = bench.model, bench.shape
    found = {whole.config: whole}
    for one in made:
        small = empty_model(one.structure, whole)
        found.setdefault(small.config, small)
    models, sizes = list(found.values()), dict[EncoderConfig, Size]()
    bar = bench.bars.counting("latency")
    for begin in range(1, max(len(models), 2), AT_ONCE):
        block = {str(i): x for i, x in enumerate([whole, *models[begin : begin + AT_ONCE]])}
        times = measure.compare(block, batch=batch, length=length)
        for name, model in block.items():
            what = (model, bench.shape, times.latencies[name], times.speedup(name))
            sizes.setdefault(model.config, size_of(*what))
        bar(min(begin + AT_ONCE, len(models)), len(models))
    return sizes


def size_of(model: Model, shape: tuple[int, int], latency: Latency, speedup: Speedup) -> Size:
    """What one model costs, FLOPs being those of its matrix products."""
    batch, length = shape
    return Size(
        params=model.num_params,
        flops=measure.cost(model, batch=batch, length=length).product_flops,
        file_bytes=measure.file_size(model),
        latency={shape: latency},
        speedup={shape: speedup},
    )


def results(
    bench: Bench,
    scores: TeacherScores,
    made: Sequence[Made],
    sizes: Sizes,
    table: LatencyTable | None,
    provenance: Mapping[str, Any],
) -> Report:
    """All numbers of an experiment in one dict."""
    metric, costs = bench.data.task.metrics[0], bench.costs
    pruned = [made_fields(bench, one, sizes) for one in made]
    groups: dict[str, dict[str, list[int]]] = {}
    for i, one in enumerate(made):
        groups.setdefault(one.way, {}).setdefault(one.before.arm, []).append(i)
    return {
        **data_fields(bench.data),
        "model": teacher_summary(scores, metric),
        "model_scores": scores.scores,
        "model_training": scores.training,
        "model_size": size_fields(sizes[bench.model.config]),
        "model_parts": gated(bench.model),
        "budget": {
            "unit": costs.unit,
            "whole": costs.whole,
            "table_other_cores": None if table is None else table.other_cores,
        },
        "ways": {
            way: {
                speedup: group_summary(
                    [made[i] for i in group], [pruned[i] for i in group], scores, metric
                )
                for speedup, group in of.items()
            }
            for way, of in groups.items()
        },
        "comparisons": {} if bench.data.task.regression else by_speedup(made, list(scores.right)),
        "pruned": pruned,
        "runs": [fields_of(run) for one in made for run in one.after],
        **provenance,
    }


def by_speedup(made: Sequence[Made], sets: Sequence[str]) -> dict[str, Any]:
    """Every two ways at each speed-up, on the same examples: as recovered, or else as pruned."""
    groups: dict[str, dict[str, list[Run]]] = {}
    for one in made:
        groups.setdefault(one.before.arm, {}).setdefault(one.way, []).extend(
            one.after or (one.before,)
        )
    return {speedup: comparisons(ways, sets) for speedup, ways in groups.items()}


def made_fields(bench: Bench, made: Made, sizes: Sizes) -> dict[str, Any]:
    """One smaller model as JSON."""
    structure = made.structure
    size = sizes[empty_model(structure, bench.model).config]
    return {
        "way": made.way,
        "speedup": made.speedup,
        "seed": made.before.seed,
        "kept": dict(structure.kept),
        "layers": structure.layers,
        "predicted_cost": structure.cost,
        "predicted_speedup": bench.costs.whole / structure.cost,
        **size_fields(size),
        "before": fields_of(made.before),
    }


def group_summary(
    made: Sequence[Made],
    fields: Sequence[Mapping[str, Any]],
    whole: TeacherScores,
    metric: str,
) -> dict[str, Any]:
    """One way at one speed-up: means over its seeds."""
    runs = {"before": [x.before for x in made], "after": [run for x in made for run in x.after]}
    found = {
        name: {
            when: arm_summary(of, name, metric, scores[metric]) if of else None
            for when, of in runs.items()
        }
        for name, scores in whole.scores.items()
    }
    latencies = [next(iter(x["latency"].values())) for x in fields]
    return {
        "scores": found,
        "params": mean_and_sd([x["params"] for x in fields]),
        "flops": mean_and_sd([x["flops"] for x in fields]),
        "predicted_speedup": mean_and_sd([x["predicted_speedup"] for x in fields]),
        "speedup": mean_and_sd([x["speedup"] for x in latencies]),
        "median_ms": mean_and_sd([x["median_ms"] for x in latencies]),
    }


def lines(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: the whole model, then every way at every speed-up."""
    sets, shape = list(report["model"]), next(iter(report["model_size"]["latency"]))
    header = ["model"]
    for name in sets:
        header += [f"{name} {report['metric']}, pruned", "recovered", "of unpruned"]
    header += ["params", f"FLOPs {shape}", f"latency {shape}"]
    header += [f"times less {report['budget']['unit']}", "measured speed-up"]
    size = report["model_size"]
    row = ["unpruned"]
    for name in sets:
        row += [cell(report["model"][name]), "", "100%"]
    latency = size["latency"][shape]
    rows = [[*row, *numbers(size["params"], size["flops"], latency["median_ms"], 1.0, 1.0)]]
    for way, speedups in report["ways"].items():
        for speedup, found in speedups.items():
            row = [f"{way} {speedup}"]
            for name in sets:
                before, after = found["scores"][name]["before"], found["scores"][name]["after"]
                share = (after or before)["of_teacher"]
                row += [cell(before), cell(after) if after else "", f"{100 * share:.1f}%"]
            means = ("params", "flops", "median_ms", "predicted_speedup", "speedup")
            rows.append([*row, *numbers(*(found[x]["mean"] for x in means))])
    return header, rows


def numbers(*found: float | int) -> tuple[str, ...]:
    """The cells of one model's size: parameters, FLOPs, milliseconds and both speed-ups."""
    params, flops, ms, predicted, speedup = found
    sizes = (f"{params / 1e6:.2f} M", f"{flops / 1e9:.3f} G", f"{ms:.2f} ms")
    return (*sizes, f"{predicted:.2f}x", f"{speedup:.2f}x")


def busy(report: Report) -> str:
    """What others did while latencies were measured; empty where they did nothing."""
    found = [next(iter(x["latency"].values()))["other_cores"] for x in report["pruned"]]
    cores = [x for x in (*found, report["budget"]["table_other_cores"]) if x is not None]
    if max(cores, default=0.0) <= BUSY:
        return ""
    return f"others kept up to {max(cores):.1f} cores busy: latencies are not to be trusted"


def publish(report: Report, out: Path) -> None:
    """Writes results.json, table.md, figure.png and structure.png, and prints the table."""
    write_json(out / "results.json", report)
    header, rows = lines(report)
    marked = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    with atomic_file(out / "table.md") as path:
        path.write_text("\n".join([*marked, *(["", busy(report)] if busy(report) else [])]) + "\n")
    draw(report, out / "figure.png")
    draw_structure(report, out / "structure.png")
    table = Table(*header, title=f"{report['task']}, seeds {report['recipe']['seeds']}")
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(Console().width, 160))
    console.print(table)
    for note in filter(None, (SCORES, busy(report))):
        console.print(note, highlight=False)
    files = "results.json, table.md, figure.png, structure.png, runs/ and models/"
    console.print(f"{files} are in {out}", highlight=False)


SCORES = "scores: mean over seeds ± standard deviation [of an accuracy: 95% interval over examples]"
