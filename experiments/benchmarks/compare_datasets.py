"""Whole datasets in effjax against Hugging Face transformers on torch, side by side on the CPU.

    python experiments/benchmarks/compare_datasets.py

effjax packs short examples into rows. torch pads every batch to its longest example, as it comes or
(`grouped`) with examples of like length together. All have the same weights and tokens; inference
is checked to give the same logits. Writes paper/results/benchmark_datasets.json and prints a table.
The examples are random ones of a task's training set, through TFDS; tokenisation is not timed.
"""

import dataclasses
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

os.environ["JAX_PLATFORMS"] = "cpu"  # before effjax imports JAX; the workers inherit it

import numpy as np
import tyro
from compare_torch import ROOT, commit
from compare_torch import load as load_earlier
from dataset_cells import DatasetCell, padded_tokens
from turns import Samples, Worker, in_rounds, ratios, started

from effjax import hf
from effjax.data.datasets import load
from effjax.data.kinds import KINDS, prepare
from effjax.data.tasks import get_task
from effjax.files import write_json
from effjax.recipe.prepare import label_names

SIDES = {"jax": "jax_datasets", "torch": "torch_datasets", "grouped": "grouped_datasets"}
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
"""Between logits of two sides; those of the new heads are below 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; every combination of tasks, modes and precisions is a row.

    Attributes:
        source: the encoder, to which a new head is put.
        examples: of each task.
        max_length: of each task, in tokens.
        rounds: samples of each side.
        patience: seconds to wait for a quiet machine before every sample.
        out: the result file.
    """

    source: str = "sentence-transformers/all-MiniLM-L6-v2"
    tasks: tuple[str, ...] = ("glue/sst2", "squad/v1.1")
    examples: tuple[int, ...] = (480, 200)
    max_length: tuple[int, ...] = (128, 384)
    modes: tuple[Literal["inference", "training"], ...] = ("inference", "training")
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    rounds: int = 3
    patience: float = 60.0
    out: Path = ROOT / "paper" / "results" / "benchmark_datasets.json"


def write_folder(settings: Settings, name: str, folder: Path) -> dict[str, Any]:
    """`model/` and `tokens.npz` of one task; what there is in them."""
    place, task = settings.tasks.index(name), get_task(name)
    tokenizer = hf.load_tokenizer(settings.source)
    examples = load(task, "train")
    chosen = np.random.default_rng(0).permutation(len(examples))[: settings.examples[place]]
    examples = examples.take(chosen)
    encoded = prepare(task, tokenizer, examples, settings.max_length[place]).encoded
    head, labels = KINDS[task.kind].head, label_names(task)
    model = hf.from_pretrained(settings.source, head=head, labels=labels)
    hf.save_pretrained(model, folder / "model", tokenizer=tokenizer)
    names = ("input_ids", "token_type_ids", "offsets", "labels")
    np.savez(folder / "tokens.npz", **{name: getattr(encoded, name) for name in names})
    lengths = encoded.lengths
    return {
        "examples": len(encoded),
        "tokens": int(lengths.sum()),
        "with_padding": padded_tokens(lengths, grouped=False),
        "with_padding_grouped": padded_tokens(lengths, grouped=True),
        "longest": int(lengths.max()),
        "max_length": settings.max_length[place],
    }


def measure(cell: DatasetCell, workers: dict[str, Worker], settings: Settings) -> dict[str, Any]:
    """One row: every side in turns."""
    taken = {}
    for name, worker in workers.items():
        reply = worker.ask("prepare", cell=dataclasses.asdict(cell), config=None)
        taken[name] = Samples(reply["first_call_seconds"], calls=1)
    apart = agreement(cell, workers) if cell.mode == "inference" else None
    in_rounds(workers, taken, settings.rounds, settings.patience)
    shown = {"task": cell.task, "mode": cell.mode, "dtype": cell.dtype}
    return {
        **shown,
        **{name: samples.summary() for name, samples in taken.items()},
        "speedup_over_padded": ratios(taken["torch"], taken["jax"])[1],
        "speedup_over_grouped": ratios(taken["grouped"], taken["jax"])[1],
        "largest_difference_of_logits": apart,
    }


def agreement(cell: DatasetCell, workers: dict[str, Worker]) -> float:
    """The largest difference between effjax's logits and torch's.

    Raises:
        ValueError: it is larger than rounding explains.
    """
    found = {}
    for name, worker in workers.items():
        path = Path(cell.folder) / f"{name}.npy"
        worker.ask("answers", path=str(path))
        found[name] = np.load(path)
    apart = max(float(np.abs(found["jax"] - found[x]).max()) for x in ("torch", "grouped"))
    if not apart < TOLERANCE[cell.dtype]:
        raise ValueError(f"{cell}: the logits are {apart:.3g} apart; the sides do other things")
    return apart


def table(results: dict[str, Any]) -> str:
    """The results in Markdown; speed-ups are of effjax, over torch."""
    lines = ["| task | mode | dtype | effjax s | over padded | over grouped |", "|---" * 6 + "|"]
    lines += [
        f"| {row['task']} | {row['mode']} | {row['dtype']} | {row['jax']['median']:.2f} "
        f"| {row['speedup_over_padded']:.2f}x | {row['speedup_over_grouped']:.2f}x |"
        for row in results["rows"]
    ]
    return "\n".join(lines)


def run(settings: Settings) -> dict[str, Any]:
    """Measures every row that the result file lacks; the file is written after each.

    A row has new processes, since none gives back the memory that it has had once.

    Raises:
        ValueError: the file's rows are of other examples.
    """
    with started(SIDES) as workers:
        machine = workers["jax"].ask("describe") | workers["torch"].ask("describe")
    results = load_results(settings, machine)
    done = {(row["task"], row["mode"], row["dtype"]) for row in results["rows"]}
    for task in settings.tasks:
        kinds = itertools.product(settings.modes, settings.dtypes)
        missing = [kind for kind in kinds if (task, *kind) not in done]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            sample = write_folder(settings, task, Path(folder))
            if results["data"].setdefault(task, sample) != sample:
                raise ValueError(
                    f"{settings.out}: rows of {task} are of {results['data'][task]}, asked for are "
                    f"{sample}; name another file"
                )
            for mode, dtype in missing:
                begun = time.perf_counter()
                cell = DatasetCell(task=task, mode=mode, dtype=dtype, folder=folder)
                with started(SIDES) as workers:
                    row = measure(cell, workers, settings)
                wall = round(time.perf_counter() - begun, 1)
                results["rows"].append(row | {"commit": commit(), "wall_seconds": wall})
                write_json(settings.out, results)
                print(table(results).splitlines()[-1], flush=True)
    return results


def load_results(settings: Settings, machine: dict[str, Any]) -> dict[str, Any]:
    """The results so far, from this very machine and these versions; `compare_torch.load` raises
    where they are not.
    """
    results = load_earlier(settings.out, machine)
    results.pop("cells", None)
    return {"source": settings.source, "data": {}, "rows": []} | results


if __name__ == "__main__":
    print(table(run(tyro.cli(Settings, description=__doc__))))
