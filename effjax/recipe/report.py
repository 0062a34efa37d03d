"""What a distillation experiment reports: summary statistics, a table, and everything as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from effjax.data.metrics import paired_bootstrap, wilson_interval
from effjax.files import atomic_file, write_json
from effjax.measure import Latency, Speedup
from effjax.recipe.arms import Run, fields_of
from effjax.recipe.figure import draw
from effjax.recipe.prepare import Data
from effjax.recipe.spec import WITHOUT_TEACHER

Report = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model costs; latency and speed-up over the teacher by (batch, length)."""

    params: int
    flops: int
    file_bytes: int
    latency: Mapping[tuple[int, int], Latency]
    speedup: Mapping[tuple[int, int], Speedup]


@dataclass(frozen=True, eq=False)
class TeacherScores:
    """What a teacher is worth.

    Attributes:
        scores: the official metrics by evaluation set.
        right: whether each example of each set was answered correctly; empty for regressions.
        training: steps and seconds of its training, and the commit.
    """

    name: str
    scores: Mapping[str, Mapping[str, float]]
    right: Mapping[str, np.ndarray]
    training: Mapping[str, Any]


def data_fields(data: Data) -> dict[str, Any]:
    """The task, its headline metric, and how many examples there were of each set: of the splits
    by their names, `search` for those that learning rates are chosen by, and `transfer` where
    students have others than teachers. `sha256` tells which ones were trained on, by their tokens.
    """
    parts, metric = data.splits, data.task.metrics[0]
    sets = {"train": parts.train, "search": parts.validation, **parts.evaluation}
    digests = {"train": data.train.digest}
    if parts.transfer is not parts.train:
        sets["transfer"] = parts.transfer
        digests["transfer"] = data.transfer.digest
    counts = {name: len(examples) for name, examples in sets.items() if examples is not None}
    return {"task": data.task.name, "metric": metric, "examples": counts, "sha256": digests}


def results(
    data: Data,
    teacher: TeacherScores,
    others: Sequence[TeacherScores],
    runs: Sequence[Run],
    sizes: Mapping[str, Size],
    provenance: Mapping[str, Any],
) -> Report:
    """All numbers of an experiment in one dict.

    Args:
        teacher: the first one, which students are compared with.
        others: the other teachers.
    """
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.student, {}).setdefault(run.arm, []).append(run)
    task, metric = data.task, data.task.metrics[0]
    return {
        **data_fields(data),
        "teacher": teacher_summary(teacher, metric),
        "teacher_name": teacher.name,
        "teacher_training": teacher.training,
        "other_teachers": {
            other.name: {"scores": teacher_summary(other, metric), "training": other.training}
            for other in others
        },
        "students": {
            student: {
                arm: {
                    name: arm_summary(group, name, metric, scores[metric])
                    for name, scores in teacher.scores.items()
                }
                for arm, group in arms.items()
            }
            for student, arms in groups.items()
        },
        "comparisons": {
            student: {} if task.regression else comparisons(arms, list(teacher.right))
            for student, arms in groups.items()
        },
        "sizes": {name: size_fields(size) for name, size in sizes.items()},
        "runs": [fields_of(run) for run in runs],
        **provenance,
    }


def teacher_summary(teacher: TeacherScores, metric: str) -> dict[str, Any]:
    """A teacher's headline metric on every evaluation set."""
    return {
        name: summary([scores[metric]], teacher.right[name], metric)
        for name, scores in teacher.scores.items()
    }


def comparisons(arms: Mapping[str, Sequence[Run]], sets: Sequence[str]) -> dict[str, Any]:
    """Every two arms on the same examples: the later one over the earlier one, controls first."""
    controls_first = sorted(arms, key=lambda arm: arm not in WITHOUT_TEACHER)
    return {
        f"{arm} - {other}": {name: compare(arms[arm], arms[other], name) for name in sets}
        for other, arm in combinations(controls_first, 2)
    }


def arm_summary(runs: Sequence[Run], name: str, metric: str, teacher: float) -> dict[str, Any]:
    """Mean and deviation over the seeds, an interval, and the share of the teacher kept."""
    scores = [run.scores[name][metric] for run in runs]
    right = np.mean([run.right[name] for run in runs], axis=0)
    return {**summary(scores, right, metric), "of_teacher": float(np.mean(scores)) / teacher}


def summary(scores: Sequence[float], right: np.ndarray, metric: str) -> dict[str, Any]:
    """Mean and deviation; of an accuracy also Wilson's 95% interval over the examples, at it."""
    if metric != "accuracy":
        return mean_and_sd(scores)
    interval = wilson_interval(float(right.sum()), right.size)
    return {**mean_and_sd(scores), "interval": interval, "n": int(right.size)}


def mean_and_sd(scores: Sequence[float | int]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1)."""
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return {"mean": float(np.mean(scores)), "sd": sd}


def compare(ours: Sequence[Run], others: Sequence[Run], name: str) -> dict[str, float]:
    """Paired bootstrap over the examples; each example counts with its mean over the seeds."""
    mean = (np.mean([run.right[name] for run in runs], axis=0) for runs in (ours, others))
    return paired_bootstrap(*mean)._asdict()


def size_fields(size: Size) -> dict[str, Any]:
    """A size as JSON, shapes as "BATCHxLENGTH", latencies in milliseconds."""
    shapes = {}
    for (batch, length), latency in size.latency.items():
        speedup = size.speedup[batch, length]
        shapes[f"{batch}x{length}"] = {
            "median_ms": 1e3 * latency.median,
            "quartiles_ms": [1e3 * seconds for seconds in latency.quartiles],
            "samples": len(latency.seconds),
            "compile_seconds": latency.compile_seconds,
            "other_cores": latency.other_cores,
            "speedup": speedup.ratio,
            "speedup_quartiles": list(speedup.quartiles),
        }
    return {
        "params": size.params,
        "flops": size.flops,
        "file_bytes": size.file_bytes,
        "latency": shapes,
    }


def lines(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: the teachers, then every arm of every student."""
    sets = list(report["teacher"])
    first = report["teacher_name"]
    shape = next(iter(report["sizes"][first]["latency"]))
    header = [
        "model",
        *(f"{name} {report['metric']}" for name in sets),
        "of teacher",
        "params",
        f"FLOPs {shape}",
    ]
    header += [f"latency {shape}", "speed-up", "file"]
    rows = [
        [
            first,
            *(cell(report["teacher"][name]) for name in sets),
            "100%",
            *size_cells(report, first),
        ]
    ]
    for other, found in report["other_teachers"].items():
        scores = [cell(found["scores"][name]) for name in sets]
        rows.append([other, *scores, "", *size_cells(report, other)])
    for student, arms in report["students"].items():
        for arm, scores in arms.items():
            share = f"{100 * scores[sets[0]]['of_teacher']:.1f}%"
            rows.append(
                [
                    f"{student} {arm}",
                    *(cell(scores[name]) for name in sets),
                    share,
                    *size_cells(report, student),
                ]
            )
    return header, rows


def cell(score: Mapping[str, Any]) -> str:
    """`88.53 ± 0.21 [86.2, 90.5]`: mean, deviation over seeds, interval over examples."""
    text = f"{100 * score['mean']:.2f}"
    if score["sd"] is not None:
        text += f" ± {100 * score['sd']:.2f}"
    if "interval" in score:
        low, high = score["interval"]
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return text


def size_cells(report: Report, name: str) -> list[str]:
    """The cells of one model's size, its latency at the first shape."""
    size = report["sizes"][name]
    latency = next(iter(size["latency"].values()))
    return [
        f"{size['params'] / 1e6:.2f} M",
        f"{size['flops'] / 1e9:.3f} G",
        f"{latency['median_ms']:.2f} ms",
        f"{latency['speedup']:.2f}x",
        f"{size['file_bytes'] / 1e6:.1f} MB",
    ]


def publish(report: Report, out: Path) -> None:
    """Writes results.json, table.md and figure.png, and prints what is in them."""
    write_json(out / "results.json", report)
    write_table(report, out)
    draw(report, out / "figure.png")
    show(report, out)


def write_table(report: Report, out: Path) -> None:
    """table.md."""
    header, rows = lines(report)
    marked = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    with atomic_file(out / "table.md") as path:
        path.write_text("\n".join(marked) + "\n")


def show(report: Report, out: Path) -> None:
    """Prints the table, the comparisons and where everything is."""
    header, rows = lines(report)
    table = Table(*header, title=f"{report['task']}, seeds {report['recipe']['seeds']}")
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(Console().width, 160))
    console.print(table)
    console.print(
        "scores: mean over seeds ± standard deviation [of an accuracy: 95% interval over examples]",
        highlight=False,
    )
    for student, pairs in report["comparisons"].items():
        for pair, sets in pairs.items():
            for name, found in sets.items():
                points = ", ".join(
                    f"{100 * found[key]:+.2f}" for key in ("difference", "low", "high")
                )
                console.print(
                    f"{student}, {name} accuracy, {pair}: difference, low, high = {points} points, "
                    f"p = {found['p']:.4f}"
                )
    console.print(
        f"results.json, table.md, figure.png, teacher/ and students/ are in {out}", highlight=False
    )
