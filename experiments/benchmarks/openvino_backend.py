"""A cell in OpenVINO: torch's model, converted, in float32 (it takes bfloat16 if not told)."""

from collections.abc import Callable
from typing import Any

import openvino
from cells import Cell
from torch_backend import CORES, build

CELL = Cell


def prepare(cell: Cell, config: dict[str, Any]) -> tuple[Callable[[], Any], None]:
    """A call that runs the cell once on a model with this config.json; inference in float32."""
    model, batch = build(cell, config)
    converted = openvino.convert_model(model.eval(), example_input=batch)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": CORES}
    compiled = openvino.compile_model(converted, "CPU", options)
    given = {name: x.numpy() for name, x in batch.items()}
    return lambda: compiled(given)[0], None


def describe() -> dict[str, Any]:
    return {"openvino": openvino.__version__}
