"""The note, the table and the picture say what the history says."""

import io
import math
import struct
from pathlib import Path

import pytest
from rich.console import Console

from effjax.train.curves import (
    Course,
    Summary,
    draw_curves,
    figure_of,
    final_table,
    panels_of,
    progress_note,
    summarise,
)
from effjax.train.logs import History, Record

HISTORY: list[Record] = [
    {"step": 10, "loss": 2.0, "soft": 1.5, "grad_norm": 3.0, "speed/tokens_per_second": 100.0},
    {"step": 10, "validation/accuracy": 0.7, "validation/loss": 0.9},
    {"step": 20, "loss": 1.0, "soft": 0.6, "grad_norm": 2.0, "speed/tokens_per_second": 41_000.0},
    {"step": 20, "validation/accuracy": 0.9, "validation/loss": 0.5},
    {"step": 30, "loss": 0.125, "soft": 0.1, "grad_norm": 1.0, "speed/tokens_per_second": 42_000.0},
    {"step": 30, "validation/accuracy": 0.8, "validation/loss": 0.6},
]


@pytest.mark.parametrize(
    ("values", "speed", "note"),
    [
        (
            {"loss": 0.231, "validation/accuracy": 0.912},
            41_234.0,
            "loss 0.2310  accuracy 0.912  41 k tok/s",
        ),
        ({"loss": 0.5, "dev/loss": 0.25}, 640.0, "loss 0.5000  dev/loss 0.2500  640 tok/s"),
        ({"m/f1": 0.5, "mm/f1": 0.25}, 1_240.0, "m/f1 0.500  mm/f1 0.250  1.2 k tok/s"),
        ({"loss": math.nan}, 2_500_000.0, "loss nan  2.5 M tok/s"),
    ],
)
def test_the_note_is_short(values: dict[str, float], speed: float, note: str) -> None:
    assert progress_note(values, speed) == note


def test_the_summary_finds_best_and_last() -> None:
    metrics = {
        "validation/accuracy": Course(best=0.9, best_step=20, last=0.8, last_step=30),
        "validation/loss": Course(best=0.5, best_step=20, last=0.6, last_step=30),
    }
    assert summarise(HISTORY) == Summary(30, 0.125, 41_000.0, metrics)


def test_of_equal_scores_the_first_is_best_and_nan_never_is() -> None:
    scores = (math.nan, 0.5, 0.8, 0.8, math.inf)
    history: list[Record] = [{"step": i, "dev/f1": score} for i, score in enumerate(scores)]
    course = summarise(history).metrics["dev/f1"]
    assert (course.best, course.best_step, course.last_step) == (0.8, 2, 4)


def test_a_run_without_records_has_a_summary() -> None:
    summary = summarise([])
    assert summary.steps == 0 and math.isnan(summary.loss) and summary.metrics == {}


def test_the_table_shows_the_summary() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(final_table(HISTORY))
    assert isinstance(console.file, io.StringIO)
    printed = [line.replace("│", " ").split() for line in console.file.getvalue().splitlines()]
    assert ["validation/accuracy", "0.8000", "30", "0.9000", "20"] in printed
    assert ["loss", "0.1250", "30"] in printed
    assert ["tokens", "per", "second,", "median", "41", "k"] in printed
    assert ["30", "steps"] in printed


def test_curves_are_one_panel_per_group() -> None:
    history: list[Record] = [*HISTORY, {"step": 30, "learning_rate": 0.0, "other/f1": 0.5}]
    panels = panels_of(history)
    assert {title: list(series) for title, series in panels.items()} == {
        "loss": ["loss", "soft", "validation/loss"],
        "gradient norm": ["grad_norm"],
        "validation": ["validation/accuracy"],
        "learning rate": ["learning_rate"],
        "other": ["other/f1"],
    }
    axes = figure_of(panels).axes
    assert [axis.get_title() for axis in axes] == list(panels)
    lines = {line.get_label(): line for line in axes[0].lines}
    assert list(lines) == ["loss", "soft", "validation/loss"]
    assert list(lines["soft"].get_xdata()) == [10, 20, 30]
    assert list(lines["soft"].get_ydata()) == [1.5, 0.6, 0.1]
    assert axes[2].lines[0].get_label() == "accuracy"


@pytest.mark.parametrize(
    ("losses", "scale"),
    [((2.0, 0.1), "log"), ((2.0, 0.3), "linear"), ((2.0, 0.0), "linear"), ((2.0, -0.1), "linear")],
)
def test_a_loss_over_more_than_a_decade_is_on_a_log_scale(
    losses: tuple[float, ...], scale: str
) -> None:
    history: list[Record] = [{"step": i, "loss": loss} for i, loss in enumerate(losses)]
    (axis,) = figure_of(panels_of(history)).axes
    assert axis.get_yscale() == scale


def test_the_picture_is_a_png_of_its_size(tmp_path: Path) -> None:
    history = History(tmp_path)
    for record in HISTORY:
        history.write(int(record["step"]), {k: v for k, v in record.items() if k != "step"})
    history.write(40, {"loss": math.inf, "grad_norm": math.nan})
    history.close()
    path = draw_curves(tmp_path)
    assert path == tmp_path / "curves.png"
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (1000, 700)  # three panels, two in a row
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    History(tmp_path).close()
    with pytest.raises(ValueError, match="no metrics to draw"):
        draw_curves(tmp_path)


def test_many_lines_are_drawn_without_their_names() -> None:
    """As those of an objective for each of 24 layers."""
    history: list[Record] = [{"step": 1, **{f"layer_{i}": 1.0 + i for i in range(50)}}]
    (panel,) = figure_of(panels_of(history)).axes
    assert len(panel.lines) == 50 and panel.get_legend() is None
    few: list[Record] = [{"step": 1, "loss": 1.0, "task": 2.0}]
    (panel,) = figure_of(panels_of(few)).axes
    assert panel.get_legend() is not None
