"""A pass over a dataset in transformers on torch: every batch padded to its longest example."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_backend
from dataset_cells import BATCH, DatasetCell, order
from torch_backend import CORES, adamw
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

Batch = dict[str, torch.Tensor]

CELL, describe = DatasetCell, torch_backend.describe


def prepare(cell: DatasetCell, *, grouped: bool = False) -> tuple[Callable[[], Any], None]:
    """A call that goes once over all examples."""
    torch.set_num_threads(CORES)
    torch.manual_seed(0)
    answers = cell.task.startswith("squad")
    auto = AutoModelForQuestionAnswering if answers else AutoModelForSequenceClassification
    model = auto.from_pretrained(Path(cell.folder) / "model", attn_implementation="sdpa")
    arrays = cell.tokens()
    make = inference if cell.mode == "inference" else training
    return make(model, arrays, cell.dtype, grouped), None


def batches(arrays: dict[str, np.ndarray], rows: np.ndarray) -> list[Batch]:
    """All batches, padded ahead of time, which torch's side does not pay for."""
    offsets, made = arrays["offsets"], []
    for i in range(0, len(rows), BATCH):
        chosen = rows[i : i + BATCH]
        width = int((offsets[chosen + 1] - offsets[chosen]).max())
        shape = (len(chosen), width)
        batch = {n: torch.zeros(shape, dtype=torch.long) for n in ("input_ids", "token_type_ids")}
        batch["attention_mask"] = torch.zeros(shape, dtype=torch.long)
        for row, example in enumerate(chosen):
            part = slice(offsets[example], offsets[example + 1])
            length = part.stop - part.start
            for name in ("input_ids", "token_type_ids"):
                batch[name][row, :length] = torch.from_numpy(arrays[name][part].astype(np.int64))
            batch["attention_mask"][row, :length] = 1
        made.append(batch | labels(arrays["labels"][chosen]))
    return made


def labels(found: np.ndarray) -> Batch:
    """Class labels, or the first and last token of an answer."""
    wide = torch.from_numpy(found.astype(np.int64))
    if wide.ndim == 1:
        return {"labels": wide}
    return {"start_positions": wide[:, 0], "end_positions": wide[:, 1]}


def inference(
    model: torch.nn.Module, arrays: dict[str, np.ndarray], dtype: str, grouped: bool
) -> Callable[[], np.ndarray]:
    """The logits of all examples, in their order: [n, C], or of every token [T, 2]."""
    model.eval()
    if dtype == "bfloat16":
        model.to(torch.bfloat16)
    lengths = np.diff(arrays["offsets"])
    rows = order(lengths, shuffled=False, grouped=grouped)
    made = [
        {name: x for name, x in batch.items() if not name.startswith(("labels", "start", "end"))}
        for batch in batches(arrays, rows)
    ]

    def call() -> np.ndarray:
        found: list[np.ndarray] = [np.zeros(0)] * len(rows)
        with torch.inference_mode():
            for i, batch in enumerate(made):
                out = model(**batch)
                logits = (
                    torch.stack([out.start_logits, out.end_logits], -1)
                    if "start_logits" in out
                    else out.logits[:, None]
                )
                for row, example in enumerate(rows[i * BATCH : (i + 1) * BATCH]):
                    found[example] = logits[row, : lengths[example]].float().numpy()
        return np.concatenate(found)

    return call


def training(
    model: torch.nn.Module, arrays: dict[str, np.ndarray], dtype: str, grouped: bool
) -> Callable[[], None]:
    """One epoch, in the same order each time."""
    model.train()
    made = batches(arrays, order(np.diff(arrays["offsets"]), shuffled=True, grouped=grouped))
    optimizer = adamw(model)

    def call() -> None:
        for batch in made:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return call
