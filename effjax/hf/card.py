"""The model card: what the model is, how to load it, what was measured."""

from collections.abc import Mapping
from typing import Any

from effjax.hf.compact import AUTO
from effjax.models.model import Model

PIPELINES = {
    "masked-lm": "fill-mask",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
}
"""The hub's task of each head; any other is "feature-extraction"."""


def model_card(
    model: Model, *, name: str, metrics: Mapping[str, Any], compact: bool = False
) -> str:
    """The README.md of a model folder.

    Args:
        name: the title.
        metrics: measured values by name; numbers are shown to four digits.
        compact: whether the folder has code of its own, which transformers is to run.
    """
    config, head = model.config, model.config.head
    hf_class = model.architecture.head_spec(head).hf_class
    sizes = ", ".join(f"{n} x {spec}" for spec, n in layer_kinds(model).items())
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {PIPELINES.get(head or '', 'feature-extraction')}",
        "tags:",
        "- effjax",
        f"- {model.architecture.name}",
        "---",
        "",
        f"# {name}",
        "",
        f"A {model.architecture.name} encoder ({head or 'no head'}) written by effjax.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {model.num_params:,} |",
        f"| hidden size | {config.hidden} |",
        f"| layers | {sizes} |",
        f"| longest input | {config.max_length} tokens |",
    ]
    if head in ("sequence-classification", "token-classification"):
        lines.append(f"| labels | {', '.join(config.labels)} |")
    lines += ["", *metric_lines(metrics)]
    loader, options = (AUTO[head], ", trust_remote_code=True") if compact else (hf_class, "")
    lines += ["```python", f"from transformers import {loader}", ""]
    lines += [f'model = {loader}.from_pretrained("{name}"{options})', "```", ""]
    return "\n".join(lines)


def layer_kinds(model: Model) -> dict[str, int]:
    """How many layers there are of each size."""
    kinds: dict[str, int] = {}
    for spec in model.config.layers:
        kind = f"({spec})"
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A table of measured values; nothing if there are none."""
    if not metrics:
        return []
    rows = [f"| {name} | {shown(value)} |" for name, value in metrics.items()]
    return ["## Measured", "", "| metric | value |", "|---|---|", *rows, ""]


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
