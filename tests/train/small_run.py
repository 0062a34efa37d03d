"""A small training as a process of its own, to be killed, interrupted, or run over several devices.

    python small_run.py FOLDER DEVICES '{"mesh": {"data": 4, "fsdp": 2}, "training": {"ema": 0.9}}'

Prints a line `step loss` per step and, at the end, writes the parameters to FOLDER/params.npz.
"""

import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    folder, devices, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_NUM_CPU_DEVICES"] = devices
    # Programs of several CPU devices wait for each other for ever if they start in another order.
    os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"

import jax
import numpy as np

from effjax.data.encode import Encoded
from effjax.data.masking import Masking
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model, create
from effjax.models.base import Runtime
from effjax.recipe import NewModel
from effjax.recipe.methods import Beginning, Method, masked_lm, replaced_tokens
from effjax.train import Mesh, Training, fit, loop, predict
from effjax.train.mesh import gathered
from effjax.tree import flatten
from effjax.types import Aux

SIZES: Any = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}


def small_model() -> Model:
    """A tiny classifier, with dropout."""
    return create(
        "bert", size="tiny", head="sequence-classification", key=jax.random.key(3), **SIZES
    )


def small_data(rows: int = 80) -> Encoded:
    """Rows of 3 to 8 tokens; the label says whether token 7 or token 8 is in them. Of 80 all
    batches of 16 have one shape, so that a training compiles one step.
    """
    random = np.random.default_rng(0)
    lengths = random.integers(3, 9, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    labels = random.integers(0, 2, rows).astype(np.int32)
    ids = random.integers(10, 31, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[:-1] + 1] = 1, 7 + labels
    return Encoded(ids, np.zeros_like(ids), offsets, labels, np.arange(rows, dtype=np.int32))


def small_method(name: str) -> Method:
    """A tiny masked LM, or ELECTRA's pair, with dropout."""
    masking = Masking(mask_id=4, special=(0, 1, 2, 3, 4), vocab_size=32, rate=0.3)
    begin = Beginning(masking=masking, pad_id=0, max_length=16, runtime=Runtime(), seed=3)
    new = NewModel(hidden=16, layers=2, heads=2, ffn=24)
    if name == "masked-lm":
        return masked_lm(begin, new)
    return replaced_tokens(begin, new, replace(new, hidden=8, layers=1), weight=50.0)


def main() -> None:
    if "process" in options:
        jax.distributed.initialize(options["address"], 2, options["process"])
        mixed = sorted(jax.devices(), key=lambda device: device.id % 2)  # as on a TPU
        Mesh.build = partialmethod(Mesh.build, devices=mixed)  # pyright: ignore[reportAttributeAccessIssue]
    loop.LOG_EVERY = 1
    limit_at, limit = options.get("file_limit", (None, 0))
    slow_from, seconds = options.get("slow", (math.inf, 0))

    def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        print(step, metrics["loss"], flush=True)
        if step == limit_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if step == options.get("stop_at"):
            os.kill(os.getpid(), signal.SIGTERM)
        if step >= slow_from:
            time.sleep(seconds)

    def evaluation(model: Model, aux: Aux) -> dict[str, float]:
        del aux
        if masking is not None:
            found = method.evaluate(model, encoded, masking)
            del found["perplexity" if "perplexity" in found else "majority"]
            return {f"train/{name}": value for name, value in found.items()}
        logits, rows = predict(model, encoded), np.arange(len(encoded))
        right = np.exp(logits)[rows, encoded.labels] / np.exp(logits).sum(-1)
        return {"train/likelihood": float(right.mean())}

    encoded = small_data(70)  # the last batch of an epoch has 6
    model, objective, masking = small_model(), Weighted(task=(1.0, TaskLoss())), None
    if "pretraining" in options:
        method = small_method(options["pretraining"])
        model, objective, masking = method.model, method.objective, method.masking
    settings = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "save_every": 2}
    fitted = fit(
        model,
        encoded,
        objective,
        Training(**settings | options.get("training", {})),
        seed=options.get("seed", 0),
        folder=folder,
        masking=masking,
        mesh=Mesh(**options.get("mesh", {})),
        evaluation=evaluation,
        progress=progress,
    )
    params = gathered(fitted.model.params)
    if jax.process_index() == 0:
        np.savez(folder / "params.npz", **flatten(jax.tree.map(np.asarray, params)))


if __name__ == "__main__":
    main()
