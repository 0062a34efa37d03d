"""The README's tour runs as it is printed, and its commands are those that CI runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = {
    "bert-base": "BERT-base",
    "distilbert": "DistilBERT",
    "minilm-l6-h384": "MiniLM-L6-H384",
}
"""What the tables call the models of the benchmarks."""
SIDES = {
    "ratio": ("jax", "torch"),
    **{f"ratio_to_{name}": ("jax", name) for name in ("torch", "onnxruntime", "openvino")},
    "speedup_over_padded": ("torch", "jax"),
    "speedup_over_grouped": ("grouped", "jax"),
}
"""What the ratios of the benchmarks are of."""


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tour,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(tour, "README.md", "exec"), names)
    assert names["report"].ok
    assert names["small"].num_params < names["student"].num_params < names["model"].num_params
    assert set(names["loss"].terms) == {"soft", "cos"}


def test_the_table_of_ratios_is_that_of_the_results() -> None:
    cells = []
    noted = {"": ("without",), "_family26": ("family 26",)}
    for file in (*noted, "_allocator", "_training", "_bfloat16"):
        results = ROOT / "paper" / "results" / f"benchmark_torch{file}.json"
        how = noted.get(file, ())
        report = json.loads(results.read_text())
        if file == "_family26":
            assert "family 26" in report["machine"]["cpu"]
        cells += [(how, cell) for cell in report["cells"]]
    rows: dict[tuple[str, ...], list[str]] = {}
    for how, cell in sorted(cells, key=lambda x: (x[1]["length"], x[1]["batch"])):
        row = (cell["mode"], cell["dtype"], *how, MODELS[cell["model"]])
        rows.setdefault(row, []).append(f"{cell['ratio']:.2f}")
    table = README[README.index("| | | 1x128 |") :].split("\n\n")[0].splitlines()[2:]
    found, group = {}, tuple[str, ...]()
    for line in table:
        what, model, *ratios = (part.strip() for part in line.strip("|").split("|"))
        group = tuple(what.split(", ")) if what else group
        found[(*group, model)] = ratios
    assert found == rows


def test_a_ratio_in_the_results_is_the_median_of_its_rounds() -> None:
    for file in sorted((ROOT / "paper" / "results").glob("benchmark_*.json")):
        results = json.loads(file.read_text())
        for cell in results.get("cells", []) + results.get("rows", []):
            stated = {name: x for name, x in cell.items() if name in SIDES}
            assert stated
            for name, ratio in stated.items():
                over, under = (np.array(cell[side]["seconds"]) for side in SIDES[name])
                assert ratio == np.median(over / under), (file.name, name)


def test_the_table_of_local_attention_is_that_of_the_results() -> None:
    file = ROOT / "paper" / "results" / "local_attention.json"
    wanted: dict[str, list[str]] = {}
    for entry in json.loads(file.read_text())["entries"]:
        over, under = (np.array(entry[side]["seconds"]) for side in ("full", "band"))
        assert entry["speedup"] == np.median(over / under)
        row = wanted.setdefault(f"{entry['mode']}, {entry['dtype']}", [])
        row.append(f"{entry['speedup']:.2f}")
    table = README[README.index("| length of a row | 512 |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in table]
    assert {what: ratios for what, *ratios in rows} == wanted


def test_the_table_of_runtimes_is_that_of_the_results() -> None:
    wanted: dict[str, list[str]] = {}
    for file, machine in (("benchmark_runtimes", ""), ("benchmark_runtimes_family26", "family 26")):
        results = json.loads((ROOT / "paper" / "results" / f"{file}.json").read_text())
        assert "EPYC" in results["machine"]["cpu"]
        assert machine in results["machine"]["cpu"]
        for row in results["rows"]:
            over = (row[f"ratio_to_{name}"] for name in ("onnxruntime", "openvino"))
            name = ", ".join(filter(None, (MODELS[row["model"]], machine)))
            wanted.setdefault(name, []).append(" / ".join(f"{x:.2f}" for x in over))
    table = README[README.index("| | 32x128 | 8x512 |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in table]
    assert {model: ratios for model, *ratios in rows} == wanted


def test_the_table_of_datasets_is_that_of_the_results() -> None:
    names, wanted = {"glue/sst2": "SST-2", "squad/v1.1": "SQuAD v1.1"}, {}
    files = {"EPYC, family 26": "", "EPYC": "_epyc", "Xeon": "_xeon"}
    columns = [f"{name}, {dtype}" for name in files for dtype in ("float32", "bfloat16")]
    for machine, suffix in files.items():
        file = f"benchmark_datasets{suffix}"
        results = json.loads((ROOT / "paper" / "results" / f"{file}.json").read_text())
        assert machine in results["machine"]["cpu"]
        for row in results["rows"]:
            both = [f"{row[f'speedup_over_{side}']:.2f}" for side in ("padded", "grouped")]
            place = f"{names[row['task']]}, {row['mode']}", f"{machine}, {row['dtype']}"
            wanted[place] = " / ".join(both)
    table = README[README.index(f"| | {columns[0]} |") :].split("\n\n")[0].splitlines()
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in table]
    assert header[1:] == columns
    found = {
        (name, x): cell for name, *cells in rows for x, cell in zip(columns, cells, strict=True)
    }
    assert {place: cell for place, cell in found.items() if cell != "not yet run"} == wanted
    data = json.loads((ROOT / "paper" / "results" / "benchmark_datasets.json").read_text())["data"]
    padded, grouped = (
        " and ".join(f"{data[name][kind] / data[name]['tokens']:.2f}" for name in names)
        for kind in ("with_padding", "with_padding_grouped")
    )
    text = README.replace("\n", " ")
    assert f"torch's batches have {padded} times the tokens, grouped {grouped} times" in text


def test_the_table_of_students_together_is_that_of_the_results() -> None:
    names = {"half of the teacher's layers": "half of the layers", "2 layers of 128": None}
    for name in names:
        line = README[README.index(f"| {name} |") :].splitlines()[0]
        wanted = []
        for file in ("students_together_float32", "students_together"):
            results = json.loads((ROOT / "paper" / "results" / f"{file}.json").read_text())
            cell = results["cells"][names[name] or name]
            wanted.append(f"{cell['one_by_one_over_together']['median']:.2f}")
        assert [part.strip() for part in line.strip("|").split("|")][1:] == wanted


def test_the_table_of_tasks_is_that_of_the_results() -> None:
    lines = README[README.index("| task | metric |") :].split("\n\n")[0].lower().splitlines()[2:]
    found: dict[str, list[list[str]]] = {}
    for line in lines:
        task, *row = (part.strip() for part in line.strip("|").split("|"))
        found.setdefault(f"finetune_{re.sub(r'-2003|v1[.]1|[-. ]', '', task)}", []).append(row)
    wanted = {}
    for file in (ROOT / "paper" / "results").glob("finetune_*.json"):
        results = json.loads(file.read_text())
        (scores,) = results["scores"].values()
        published = [
            f"{100 * value:.1f} ({re.split(' F1| exact match|,', name)[0].lower()})"
            for name, value in results["published"].items()
        ]
        wanted[file.stem] = [
            [
                metric.replace("_", " "),
                f"{100 * score['mean']:.1f}"
                + ("" if score["sd"] is None else f" +- {100 * score['sd']:.1f}"),
                published.pop(0) if published else "",
            ]
            for metric, score in scores.items()
            if not metric.startswith("f1_")  # of one kind of entity
        ]
    assert found == wanted


def test_ci_calls_the_test_command() -> None:
    (command,) = re.findall(r"`*bash\n(.*pytest)\n", README)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in command.split(" && "):
        assert part in script


def test_every_recipe_that_is_named_exists() -> None:
    named = set(re.findall(r"configs/\w+\.py", README))
    assert {"configs/quickstart.py", "configs/distil_sst2.py"} <= named
    assert all((ROOT / name).exists() for name in named)


def test_what_latency_tables_foretell_is_that_of_the_results() -> None:
    found = json.loads((ROOT / "paper" / "results" / "smaller_models.json").read_text())
    off, torch = found["latency"]["off"], found["torch"]["share"]
    assert f"foretold every time to {100 * off['worst']:.1f}% or less" in README
    pages = (ROOT / "experiments" / "benchmarks" / "README.md").read_text().replace("\n", " ")
    assert (
        f"to {100 * off['worst']:.1f}% or less, half of them to {100 * off['median']:.1f}%" in pages
    )
    assert f"in torch {torch['worst']:.2f} of the ratio of FLOPs was speed at the least" in pages
