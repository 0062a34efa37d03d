"""Hugging Face folders out: what stock transformers loads with no missing and no unexpected key."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import einops
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from effjax.files import atomic_folder
from effjax.hf.card import model_card
from effjax.hf.compact import CODE, compact_fields, whole_config
from effjax.hf.source import TOKENIZER_FILES
from effjax.hf.tensors import INDEX, SINGLE
from effjax.models.factors import multiplied_out
from effjax.models.hf_config import config_to_hf
from effjax.models.model import Model
from effjax.models.padding import padded
from effjax.tree import differing_paths, flatten

Layout = Literal["stock", "dense", "compact"]
DType = Literal["float32", "float16", "bfloat16"]
SHARD_SIZE = 5_000_000_000


def save_pretrained(
    model: Model,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    metrics: Mapping[str, Any] | None = None,
    layout: Layout = "stock",
    dtype: DType = "float32",
    shard_size: int = SHARD_SIZE,
    overwrite: bool = False,
) -> None:
    """Writes a Hugging Face folder: config.json, weights, tokenizer and model card.

    Args:
        model: what is saved; its label names go into config.json.
        folder: appears when it is complete.
        tokenizer: one of transformers, or the folder whose tokenizer files are copied.
        metrics: measured values by name, for the model card.
        layout: "stock" is the model as it is; "dense" has zeros in place of heads and units that
            were removed, since transformers has one size for all layers: the same outputs, no
            smaller and no faster; "compact" has the small arrays, and code beside them that
            transformers runs with `trust_remote_code=True`. Weights of two factors are multiplied
            out in the first two, and remain two in "compact".
        dtype: what weights are stored in; float32 is read back bit by bit.
        shard_size: bytes; a larger model is written in several files with an index.
        overwrite: whether an existing folder is replaced as a whole.

    Raises:
        ValueError: Hugging Face cannot express the model, such as layers of several sizes in the
            layout "stock", or its parameters do not fit its table.
        FileExistsError: the folder exists and is not empty.
    """
    given: dict[str, Any] = {"tokenizer": tokenizer, "metrics": metrics, "layout": layout}
    with atomic_folder(folder, overwrite=overwrite) as partial:
        name = Path(folder).name
        write_model(model, partial, name=name, dtype=dtype, shard_size=shard_size, **given)


def write_model(
    model: Model,
    folder: Path,
    *,
    name: str,
    tokenizer: Any,
    metrics: Mapping[str, Any] | None,
    layout: Layout,
    dtype: DType,
    shard_size: int,
) -> None:
    """config.json, weights, tokenizer and model card, into a folder that exists.

    Args:
        name: the title of the card.
    """
    if layout == "compact":
        whole = whole_config(model.architecture, model.config)
        fields = config_to_hf(model.architecture, whole) | compact_fields(model)
        shutil.copyfile(CODE, folder / CODE.name)
    else:
        model = multiplied_out(model)
        model = padded(model) if layout == "dense" else model
        fields = config_to_hf(model.architecture, model.config)
    write_json(folder / "config.json", fields | {"dtype": dtype})
    write_tensors(hf_tensors(model, dtype), folder, shard_size)
    write_tokenizer(tokenizer, folder)
    card = model_card(model, name=name, metrics=metrics or {}, compact=layout == "compact")
    (folder / "README.md").write_text(card, encoding="utf-8")


def hf_tensors(model: Model, dtype: DType = "float32") -> dict[str, np.ndarray]:
    """The arrays of a model under the names and in the shapes of Hugging Face.

    Raises:
        ValueError: the parameters are not those of the model's table.
    """
    check_params(model)
    stored = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    prefix = model.architecture.hf_prefix if model.config.head is None else ""
    params, tensors = flatten(model.params), {}
    for row in model.table:
        array = np.asarray(params[row.path])
        array = einops.rearrange(array, f"{row.letters} -> {row.hf_axes}", **row.sizes)
        # safetensors writes a transposed view in the order of its memory, not of its axes.
        array = np.ascontiguousarray(array, stored)
        tensors |= {name.removeprefix(prefix): array for name in (row.hf[0], *row.copies)}
    return tensors


def check_params(model: Model) -> None:
    """Raises a ValueError that lists every parameter that does not fit the table."""
    params, rows = flatten(model.params), model.table.by_path
    missing, unknown = differing_paths(params, rows)
    problems = [f"{path} is missing" for path in missing]
    problems += [f"{path} is in no row of the table" for path in unknown]
    for path, row in rows.items():
        if path in params and np.shape(params[path]) != row.shape:
            problems.append(f"{path} has shape {np.shape(params[path])}, expected {row.shape}")
    if problems:
        raise ValueError(f"the parameters do not fit the config: {'; '.join(problems)}")


def write_tensors(tensors: Mapping[str, np.ndarray], folder: Path, shard_size: int) -> None:
    """One safetensors file, or several and an index where it would be larger than `shard_size`."""
    shards = split(tensors, shard_size)
    if len(shards) == 1:
        return write_file(tensors, folder / SINGLE)
    places: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_file(shard, folder / file)
        places |= dict.fromkeys(shard, file)
    total = sum(array.nbytes for array in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def split(tensors: Mapping[str, np.ndarray], shard_size: int) -> list[dict[str, np.ndarray]]:
    """The tensors in order, in shards of at most `shard_size` bytes; a larger one has its own."""
    shards: list[dict[str, np.ndarray]] = [{}]
    filled = 0
    for name, array in tensors.items():
        if shards[-1] and filled + array.nbytes > shard_size:
            shards.append({})
            filled = 0
        shards[-1][name] = array
        filled += array.nbytes
    return shards


def write_file(tensors: Mapping[str, np.ndarray], file: Path) -> None:
    """One safetensors file, readable by whom the folder is: the library makes it private."""
    save_file(dict(tensors), file, metadata={"format": "pt"})
    file.chmod(file.parent.stat().st_mode & 0o666)


def write_json(file: Path, value: Any) -> None:
    """JSON as transformers writes it."""
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """The files of a tokenizer of transformers, or a copy of those in another folder."""
    if isinstance(tokenizer, str | Path):
        for name in TOKENIZER_FILES:
            if (Path(tokenizer) / name).is_file():
                shutil.copyfile(Path(tokenizer) / name, folder / name)
    elif tokenizer is not None:
        tokenizer.save_pretrained(folder)
