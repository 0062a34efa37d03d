"""`Model`: architecture, config and parameters as one value that `jax.jit` takes as an argument."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from effjax.models import registry
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Head, Outputs, Runtime
from effjax.models.gates import check_gates
from effjax.models.hf_config import config_from_hf
from effjax.models.hidden_gates import gated_variables
from effjax.table import Row, Table
from effjax.tree import flatten, unflatten
from effjax.types import Batch, Gates, Params

INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "segment_ids",
    "starts",
    "predicted",
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Model:
    """An encoder: what it is, its parameters, and how to run it. Every transform is a function
    Model -> Model.
    """

    architecture: Architecture = field(metadata={"static": True})
    config: EncoderConfig = field(metadata={"static": True})
    params: Params
    runtime: Runtime = field(metadata={"static": True})

    @property
    def module(self) -> nn.Module:
        """The Linen module; `model.module.apply({"params": model.params}, batch)` is plain Flax."""
        return self.architecture.build(self.config, self.runtime)

    @property
    def table(self) -> Table:
        return self.architecture.table(self.config)

    @property
    def num_params(self) -> int:
        """All parameters, embeddings included; an array that is used twice counts once."""
        return self.table.num_params

    @property
    def digest(self) -> str:
        """SHA-256 of what it computes: architecture, config and parameters, without the runtime."""
        found = hashlib.sha256(f"{self.architecture.name} {self.config}".encode())
        for path, array in sorted(flatten(self.params).items()):
            found.update(path.encode())
            found.update(np.asarray(array).tobytes())
        return found.hexdigest()

    def __call__(self, batch: Mapping[str, Any]) -> Outputs:
        """Runs the model, compiled once per shape; keeps last_hidden, pooled and logits.

        Raises:
            ValueError: a token id is outside the vocabulary, or the input is longer than the
                positions.
        """
        return forward(self, inputs(self.config, batch))

    def trace(self, batch: Mapping[str, Any], gates: Gates | None = None) -> Outputs:
        """Runs the model and keeps everything, layer by layer.

        Args:
            gates: of heads and units by axis instance, of "hidden" and "embedding", [size] each;
                and of whole layers, "layer_3", one number each.

        Raises:
            ValueError: as calling does; or a gate is of something that has none, or of another
                shape.
        """
        check_gates(self.table, gates or {}, layers=True)
        return forward_traced(self, inputs(self.config, batch), gates)

    def replace(self, **changes: Any) -> "Model":
        return dataclasses.replace(self, **changes)

    def for_inference(self) -> "Model":
        """The same model with its kernels in the dtype that products are computed in, as every call
        would have them anew. Its outputs are the same to the bit; it cannot be trained.
        """
        paths = {row.path for row in self.table if row.role == "kernel"}
        dtype, arrays = self.runtime.dtype, flatten(self.params)
        arrays = {path: x.astype(dtype) if path in paths else x for path, x in arrays.items()}
        return self.replace(params=unflatten(arrays))


def inputs(config: EncoderConfig, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The arrays of a batch that a model reads, checked, as int32.

    Raises:
        ValueError: `input_ids` are missing or outside the vocabulary, or longer than the positions.
    """
    if "input_ids" not in batch:
        raise ValueError(f"the batch has no input_ids; it has {', '.join(batch) or 'nothing'}")
    ids = np.asarray(batch["input_ids"])
    if (length := longest(batch)) > config.max_length:
        raise ValueError(
            f"input_ids has {length} tokens; this model has positions for {config.max_length}"
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < config.vocab_size:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(
            f"input_ids holds token {wrong}; this vocabulary has 0 to {config.vocab_size - 1}"
        )
    return {name: jnp.asarray(batch[name], jnp.int32) for name in INPUTS if name in batch}


def longest(batch: Mapping[str, Any]) -> int:
    """Tokens of the longest example: of a row, or of a segment where rows are packed."""
    if "segment_ids" not in batch:
        return np.shape(batch["input_ids"])[-1]
    return int(np.bincount(np.ravel(batch["segment_ids"]))[1:].max(initial=0))


def apply(module: nn.Module, params: Params, batch: Batch, **options: Any) -> Outputs:
    """`module.apply` for an encoder; options are those of the encoder, and `rngs`."""
    return cast(Outputs, module.apply({"params": params}, batch, **options))


def apply_gated(
    module: nn.Module,
    table: Table,
    params: Params,
    batch: Batch,
    gates: Gates | None,
    **options: Any,
) -> Outputs:
    """The same under gates, of layers and of hidden states."""
    if gates is None:
        return apply(module, params, batch, **options)
    variables = gated_variables(table, params, gates)
    return cast(Outputs, module.apply(variables, batch, gates=gates, **options))


@jax.jit
def forward(model: Model, batch: Batch) -> Outputs:
    """The light outputs, `Runtime.chunk_tokens` tokens at a time; of packed rows, all at once."""
    rows, length = batch["input_ids"].shape[0], batch["input_ids"].shape[-1]
    chunk = chunk_rows(rows, length, model.runtime.chunk_tokens)
    module = model.module
    if chunk == rows or "starts" in batch:
        return apply(module, model.params, batch).light()
    chunks = {
        name: value.reshape(rows // chunk, chunk, *value.shape[1:]) for name, value in batch.items()
    }
    # As plain fields: with an axis of chunks they would not have the shapes that `Outputs`
    # promises.
    fields = jax.lax.map(
        lambda piece: dict(vars(apply(module, model.params, piece).light())), chunks
    )
    return Outputs(**jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), fields))


def chunk_rows(rows: int, length: int, tokens: int | None) -> int:
    """How many rows to take at a time: the largest divisor of `rows` that stays within `tokens`."""
    if tokens is None or rows * length <= tokens:
        return rows
    return max(n for n in range(1, rows + 1) if rows % n == 0 and (n == 1 or n * length <= tokens))


@jax.jit
def forward_traced(model: Model, batch: Batch, gates: Gates | None) -> Outputs:
    """The outputs with every trace, all tokens at once."""
    return apply_gated(model.module, model.table, model.params, batch, gates)


def create(
    name: str,
    *,
    size: str,
    key: jax.Array,
    head: Head | None = None,
    runtime: Runtime | None = None,
    **fields: Any,
) -> Model:
    """A new model with random weights.

    Args:
        name: the architecture, Hugging Face's model_type.
        size: one of its published sizes.
        fields: fields of config.json that differ from it, for example `num_hidden_layers=3`,
            `num_labels=5`.

    Raises:
        ValueError: no such architecture, size or head, or sizes that do not fit together.
    """
    architecture = registry.get(name)
    if size not in architecture.sizes:
        raise ValueError(f"{name} has no size {size!r}; sizes: {', '.join(architecture.sizes)}")
    config = config_from_hf(
        architecture, {**architecture.sizes[size], **fields}, head=head, where=f"{name} {size}"
    )
    table = architecture.table(config)
    return Model(architecture, config, init_params(table, config, key), runtime or Runtime.auto())


def init_params(table: Table, config: EncoderConfig, key: jax.Array) -> Params:
    """Fresh parameters: N(0, initializer_range^2), ones for scales, zeros for biases."""
    keys = jax.random.split(key, len(table))
    return unflatten(
        {row.path: init_row(row, config, k) for row, k in zip(table, keys, strict=True)}
    )


def init_row(row: Row, config: EncoderConfig, key: jax.Array) -> jax.Array:
    """Fresh values for one row."""
    if row.role == "bias":
        return jnp.zeros(row.shape)
    if row.role == "scale":
        return jnp.ones(row.shape)
    deviation = config.initializer_range
    if row.rank:  # so that the product of both factors has it
        deviation = (deviation**2 / row.rank) ** 0.25
    return deviation * jax.random.normal(key, row.shape)
