"""Folders of sentence-transformers: an encoder, a pooling over its tokens, maybe a normalisation.

modules.json lists them in order; the pooling has a config.json of its own. Both the booleans of
older releases and the `pooling_mode` of newer ones are read; the booleans are written, which every
release reads.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded, encode
from effjax.data.examples import Examples
from effjax.data.layouts import Batch
from effjax.files import atomic_folder
from effjax.hf.read import from_pretrained
from effjax.hf.source import local_folder, model_folder, modules_of, read_object
from effjax.hf.write import SHARD_SIZE, DType, Layout, write_json, write_model
from effjax.layers.pooling import first_of_tokens, mean_of_tokens
from effjax.models.base import Outputs, Runtime
from effjax.models.model import Model
from effjax.types import Array, Float

Pooling = Literal["mean", "cls", "max"]

SWITCHES: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

log = logging.getLogger("effjax")


@dataclass(frozen=True)
class SentenceEncoder:
    """One vector per text.

    Attributes:
        model: a bare encoder.
        pooling: how the hidden states of a text become one vector.
        normalize: whether vectors have length 1.
        max_length: longer texts are cut, in tokens; None is what the model can take.
    """

    model: Model
    pooling: Pooling = "mean"
    normalize: bool = True
    max_length: int | None = None

    def encode(self, tokenizer: Any, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """The vectors of texts, [n, D] in float32, whose order they keep.

        Args:
            tokenizer: one of transformers.
            batch_size: texts at a time; those of similar length go together.
        """
        examples = Examples((list(texts),), None, np.arange(len(texts), dtype=np.int32))
        return self.embed(encode(tokenizer, examples, self.longest), batch_size)

    def embed(self, encoded: Encoded, batch_size: int = 32) -> np.ndarray:
        """The vectors of texts that are tokens already."""
        vectors = np.zeros((len(encoded), self.model.config.hidden), np.float32)
        model, pad_id = self.model.for_inference(), self.model.config.pad_token_id
        batches = eval_batches(encoded, batch_size, pad_id=pad_id, layout="padded")

        def compute(batch: Batch) -> Float[Array, "B D"]:
            pooled = pool(model(batch), self.pooling)
            return normalized(pooled) if self.normalize else pooled

        for batch, found in batches.through(compute):
            vectors[batch["example"]] = found
        return vectors

    @property
    def longest(self) -> int:
        """Where texts are cut, in tokens."""
        positions = self.model.config.max_length
        return min(self.max_length or positions, positions)


def pool(outputs: Outputs, pooling: Pooling) -> Float[Array, "B D"]:
    """One vector per row: mean or maximum over its tokens, padding apart, or the first token.

    Raises:
        ValueError: the outputs do not hold last_hidden and mask.
    """
    hidden, mask = outputs.last_hidden, outputs.mask
    if hidden is None or mask is None:
        raise ValueError("pooling needs last_hidden and mask, which these outputs do not hold")
    hidden = hidden.astype(jnp.float32)
    if pooling == "cls":
        return first_of_tokens(hidden, None)
    if pooling == "max":
        return jnp.where(mask[..., None], hidden, -jnp.inf).max(axis=1)
    return mean_of_tokens(hidden, mask, None, None)


def normalized(vectors: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Every row divided by its length."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def read_sentence_encoder(source: str | Path, *, runtime: Runtime | None = None) -> SentenceEncoder:
    """The encoder of a folder or hub id, of sentence-transformers or any other.

    Where no pooling is named, or its folder is not there, it is the mean, which is what
    sentence-transformers takes when it is asked for none; the log says so.

    Raises:
        ValueError: it has modules or settings that are not supported, or no encoder.
    """
    folder = local_folder(source)
    modules = modules_of(folder)
    kinds = [module["kind"] for module in modules]
    if kinds not in ([], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"{folder / 'modules.json'}: modules are {', '.join(kinds)}; supported: "
            "Transformer, Pooling and, after them, Normalize"
        )
    if not modules:
        log.warning("%s: names no pooling; it is taken to be the mean", folder)
    return SentenceEncoder(
        model=from_pretrained(folder, head=None, runtime=runtime),
        pooling=read_pooling(folder / modules[1]["path"] / "config.json") if modules else "mean",
        normalize="Normalize" in kinds,
        max_length=read_max_length(folder),
    )


def read_pooling(file: Path) -> Pooling:
    """The pooling that a config.json describes; the mean where there is none."""
    if not file.exists():
        log.warning("%s: is not there; pooling is taken to be the mean", file)
        return "mean"
    fields = read_object(file)
    modes = fields.get("pooling_mode")
    if modes is None:
        on = [name for name, value in fields.items() if name.startswith("pooling_mode_") and value]
        modes = [SWITCHES.get(name, name) for name in on]
    for pooling in POOLINGS:
        if modes in (pooling, [pooling]):
            return pooling
    raise ValueError(f"{file}: the pooling is {modes!r}; supported: one of {', '.join(POOLINGS)}")


def read_max_length(folder: Path) -> int | None:
    """Where texts are cut, from sentence_bert_config.json.

    Raises:
        ValueError: settings ask for what changes a vector and is not supported.
    """
    prompts = folder / "config_sentence_transformers.json"
    if prompts.exists() and read_object(prompts).get("default_prompt_name") is not None:
        raise ValueError(f"{prompts}: default_prompt_name is set; prompts are not supported")
    file = model_folder(folder) / "sentence_bert_config.json"
    fields = read_object(file) if file.exists() else {}
    if fields.get("do_lower_case"):
        raise ValueError(f"{file}: do_lower_case is true; only the tokenizer's own is supported")
    length = fields.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise ValueError(
            f"{file}: max_seq_length is {length!r}; expected a positive number or null"
        )
    return length


def save_sentence_encoder(
    encoder: SentenceEncoder,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    metrics: Mapping[str, Any] | None = None,
    layout: Layout = "stock",
    dtype: DType = "float32",
    shard_size: int = SHARD_SIZE,
    overwrite: bool = False,
) -> None:
    """Writes a folder that sentence-transformers and transformers both load; in the layout
    "compact" both do with `trust_remote_code=True`.

    Takes and raises what `save_pretrained` does.
    """
    modules = ["Transformer", "Pooling", *(["Normalize"] if encoder.normalize else [])]
    given: dict[str, Any] = {"tokenizer": tokenizer, "metrics": metrics, "layout": layout}
    with atomic_folder(folder, overwrite=overwrite) as partial:
        name = Path(folder).name
        write_model(encoder.model, partial, name=name, dtype=dtype, shard_size=shard_size, **given)
        write_json(
            partial / "modules.json", [module_entry(i, kind) for i, kind in enumerate(modules)]
        )
        for i, kind in enumerate(modules[1:], start=1):
            (partial / f"{i}_{kind}").mkdir()
        switches = {name: mode == encoder.pooling for name, mode in SWITCHES.items()}
        width = {"word_embedding_dimension": encoder.model.config.hidden}
        write_json(partial / "1_Pooling" / "config.json", {**width, **switches})
        length = {"max_seq_length": encoder.max_length, "do_lower_case": False}
        write_json(partial / "sentence_bert_config.json", length)


def module_entry(index: int, kind: str) -> dict[str, Any]:
    """One line of modules.json; the encoder lies in the folder itself."""
    path = f"{index}_{kind}" if index else ""
    kind = f"sentence_transformers.models.{kind}"
    return {"idx": index, "name": str(index), "path": path, "type": kind}
