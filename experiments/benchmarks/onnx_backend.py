"""A cell in ONNX Runtime: torch's model, exported, with all of the runtime's own optimisations."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from cells import Cell
from torch_backend import CORES, build

CELL = Cell


def prepare(cell: Cell, config: dict[str, Any]) -> tuple[Callable[[], Any], None]:
    """A call that runs the cell once on a model with this config.json; inference in float32."""
    model, batch = build(cell, config)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with torch.inference_mode():
            torch.onnx.export(
                model.eval(), kwargs=batch, f=file, input_names=list(batch), dynamo=True
            )
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = {name: x.numpy() for name, x in batch.items()}
    return lambda: session.run(None, given)[0], None


def describe() -> dict[str, Any]:
    return {"onnxruntime": onnxruntime.__version__}
