"""A cell in Hugging Face transformers on torch, with scaled_dot_product_attention.

bfloat16 is each side's faster way: inference has the weights cast once, training keeps them in
float32 under autocast. AdamW is torch's fused one, which is transformers' default.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
import transformers
from cells import Cell
from transformers import AutoConfig, AutoModelForSequenceClassification

Call = Callable[[], Any]
CELL = Cell
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(cell: Cell, config: dict[str, Any]) -> tuple[Call, None]:
    """A call that runs the cell once on a model with this config.json."""
    model, batch = build(cell, config)
    make = inference if cell.mode == "inference" else training
    return make(model, batch, cell.dtype), None


def build(cell: Cell, config: dict[str, Any]) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A model with this config.json and the cell's batch."""
    torch.set_num_threads(CORES)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(**config), attn_implementation="sdpa"
    )
    shape = (cell.batch, cell.length)
    batch = {
        "input_ids": torch.randint(1, config["vocab_size"], shape),
        "attention_mask": torch.ones(shape, dtype=torch.long),
    }
    if config.get("type_vocab_size"):
        batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
    return model, batch


def inference(model: torch.nn.Module, batch: dict[str, torch.Tensor], dtype: str) -> Call:
    """Calls the model in inference mode."""
    model.eval()
    if dtype == "bfloat16":
        model.to(torch.bfloat16)

    def call() -> None:
        with torch.inference_mode():
            model(**batch)

    return call


def training(model: torch.nn.Module, batch: dict[str, torch.Tensor], dtype: str) -> Call:
    """One AdamW step with dropout and clipping, on the loss of the labels."""
    model.train()
    batch = batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}
    optimizer = adamw(model)

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    """The fused AdamW, with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=5e-5, fused=True)


def describe() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": CORES,
    }
