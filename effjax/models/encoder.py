"""The frame of every encoder: embedding, layers, pooler, head.

    batch -> embedding -> layer 0 -> ... -> layer N-1 -> last_hidden -> a vector per example -> head
                             ^---- shared: masks and what else all layers read ----^

An architecture is a subclass that says what its parts are: `make_embedding`, `block`, and where it
has them `share`, `finish`, `example_vectors` and `answer`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.embedding import (
    positions_after_padding,
    positions_from_start,
    positions_in_segments,
)
from effjax.layers.heads import Pooler
from effjax.layers.pooling import first_of_tokens, mean_of_tokens
from effjax.models.base import EncoderConfig, LayerSpec, LayerTrace, Outputs, Remat, Runtime
from effjax.types import Array, Batch, Bool, Float, Gates, Int, Shared


def initializer(config: EncoderConfig) -> nn.initializers.Initializer:
    """What new kernels are drawn from."""
    return nn.initializers.normal(config.initializer_range)


class Block(nn.Module):
    """One layer of an encoder. Its parameters lie below the layer's name."""

    config: EncoderConfig
    spec: LayerSpec
    runtime: Runtime

    @property
    def attention_fields(self) -> dict[str, Any]:
        """What a `SelfAttention` of this layer is made with; one of another kind has more."""
        return {
            "hidden": self.config.hidden,
            "heads": self.spec.heads,
            "head_size": self.config.head_size,
            "dropout": self.config.attention_dropout,
            "kernel": self.runtime.attention,
            "dtype": self.runtime.dtype,
            "kernel_init": initializer(self.config),
        }

    def __call__(
        self, x_BLD: Float[Array, "B L D"], shared: Shared, gates: Gates, deterministic: bool
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        """The layer's output, and what it computed.

        Args:
            gates: those of this layer, by what follows its name: `heads` [H], `ffn` [F].
        """
        raise NotImplementedError


DETERMINISTIC = 4
"""The place of `deterministic` among the block's arguments, itself being 0."""


def repeated(block: type[Block], remat: Remat) -> type[Block]:
    """The block as an encoder repeats it: traced once for all layers of one shape, and forgetting
    on the way forward what it computes again on the way back.
    """
    policies, static = jax.checkpoint_policies, (DETERMINISTIC,)
    kept = {"layers": policies.nothing_saveable, "products": policies.dots_saveable}
    if remat != "none":
        block = nn.remat(block, policy=kept[remat], static_argnums=static)
    return nn.jit(block, static_argnums=static)


class Encoder(nn.Module):
    """Embedding, layers, pooler and head of one model."""

    config: EncoderConfig
    head: nn.Module | None
    runtime: Runtime

    block = Block

    def setup(self) -> None:
        config = self.config
        self.embedding = self.make_embedding()
        block = repeated(self.block, self.runtime.remat)
        made = {
            name: block(config, spec, self.runtime, name=name)
            for name, spec in config.distinct_layers.items()
        }
        self.blocks = [made[name] for name in config.layer_names]
        if config.pooler:
            self.pooler = self.make_pooler()

    def make_embedding(self) -> nn.Module:
        """The module from token ids to vectors; its `word.embedding` is the table of words."""
        raise NotImplementedError

    def make_pooler(self) -> nn.Module:
        """The module from the vector of each example to the pooled output."""
        return Pooler(self.config.hidden, self.runtime.dtype, initializer(self.config))

    def __call__(
        self, batch: Batch, *, gates: Gates | None = None, deterministic: bool = True
    ) -> Outputs:
        """Runs the model.

        Args:
            batch: `input_ids` [B, L], or [B, choices, L] for multiple choice, which runs as [B *
                choices, L]; optionally `attention_mask`, `token_type_ids`, `position_ids` of the
                same shape. In packed rows also `segment_ids` of that shape, above 0 where there is
                a token, and `starts` [N], or [N, choices]: where in all rows laid end to end each
                example begins. `predicted` [B, P]: the places in each row that a head which
                answers per token is asked for, all without it; what it says at a place L or
                above is of no meaning.
            gates: multipliers for heads and feed-forward units, by the table's axis instance, and
                for whole layers, by their name (`through`).
            deterministic: False drops out, with the stream "dropout".
        """
        shape = batch["input_ids"].shape
        fields = {
            name: value.reshape(-1, shape[-1])
            for name, value in batch.items()
            if value.shape == shape
        }
        fields.setdefault("position_ids", self.positions(fields))
        x_BLD = self.embed(fields, deterministic)
        shared, embedded, traces, gates = self.share(fields), x_BLD, [], gates or {}
        layers = zip(self.config.layer_names, self.config.layers, self.blocks, strict=True)
        for name, spec, block in layers:
            y_BLD, trace = block(x_BLD, shared, gates_below(name, gates), deterministic)
            if name in gates:
                y_BLD = through(gates[name], x_BLD, y_BLD)
                trace = dataclasses.replace(trace, hidden=y_BLD)
            x_BLD = y_BLD
            traces.append(dataclasses.replace(trace, reach=spec.reach))
        x_BLD = self.finish(x_BLD)
        starts = batch.get("starts")
        vector_BD = self.example_vectors(x_BLD, fields, starts)
        pooled = self.pooler(vector_BD) if self.config.pooler else None
        kept = Outputs(
            embedded=embedded,
            layers=tuple(traces),
            last_hidden=x_BLD,
            pooled=pooled,
            sentence=mean_of_tokens(x_BLD, is_token(fields), fields.get("segment_ids"), starts),
            mask=is_token(fields),
        )
        if self.head is None:
            return kept
        vector_BD = vector_BD if pooled is None else pooled
        asked_BPD = at_places(x_BLD, batch.get("predicted"))
        answers = self.answer(asked_BPD, vector_BD, x_BLD, fields, starts, deterministic)
        if self.config.head == "multiple-choice":
            choices = shape[:2] if starts is None else starts.shape
            answers = {"logits": answers["logits"].reshape(choices)}
        return dataclasses.replace(kept, **answers)

    def positions(self, fields: Mapping[str, Array]) -> Int[Array, "B L"]:
        """What each token's position is, by the config's rule and within its segment."""
        first = self.config.pad_token_id + 1 if self.config.first_position == "after-padding" else 0
        if "segment_ids" in fields:
            return positions_in_segments(fields["segment_ids"]) + first
        if first:
            return positions_after_padding(fields["input_ids"], self.config.pad_token_id)
        return positions_from_start(fields["input_ids"])

    def embed(self, fields: Mapping[str, Array], deterministic: bool) -> Float[Array, "B L D"]:
        """What the first layer reads."""
        ids_BL, types_BL = fields["input_ids"], fields.get("token_type_ids")
        return self.embedding(ids_BL, fields["position_ids"], types_BL, deterministic)

    def share(self, fields: Mapping[str, Array]) -> Shared:
        """What all layers read."""
        return {"mask": attention_mask(fields)}

    def finish(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """The last hidden states, given the output of the last layer."""
        return x_BLD

    def example_vectors(
        self,
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
    ) -> Float[Array, "examples D"]:
        """The vector of each example: that of its first token."""
        return first_of_tokens(x_BLD, starts)

    def answer(
        self,
        x_BPD: Float[Array, "B P D"],
        vector_BD: Float[Array, "..."],
        x_BLD: Float[Array, "B L D"],
        fields: Mapping[str, Array],
        starts: Int[Array, "..."] | None,
        deterministic: bool,
    ) -> dict[str, Float[Array, "..."]]:
        """What the head says of the tokens that it is asked for, and of each example's vector; an
        encoder that combines what is said of all of an example's tokens overrides it.
        """
        del x_BLD, fields, starts
        assert self.head is not None
        return self.head(x_BPD, vector_BD, self.embedding.word.embedding, deterministic)


def gates_below(name: str, gates: Gates) -> Gates:
    """The gates of one layer: `heads` for "layer_3/heads"."""
    return {
        instance.removeprefix(f"{name}/"): gate
        for instance, gate in gates.items()
        if instance.startswith(f"{name}/")
    }


def through(
    gate: Float[Array, ""], x_BLD: Float[Array, "B L D"], y_BLD: Float[Array, "B L D"]
) -> Float[Array, "B L D"]:
    """x + gate (y - x), for a layer that makes y of x: 0 is exactly x, 1 exactly y. Layers that
    share their weights share the gate.
    """
    gate = jnp.asarray(gate, y_BLD.dtype)
    return (1 - gate) * x_BLD.astype(y_BLD.dtype) + gate * y_BLD


def at_places(
    x_BLD: Float[Array, "B L D"], places_BP: Int[Array, "B P"] | None
) -> Float[Array, "B P D"]:
    """The vectors at these places of each row; all of them for None."""
    if places_BP is None:
        return x_BLD
    return jnp.take_along_axis(x_BLD, places_BP[..., None], axis=1, mode="clip")


def is_token(fields: Mapping[str, Array]) -> Bool[Array, "B L"]:
    """Where there is a token, and not padding."""
    if "segment_ids" in fields:
        return fields["segment_ids"] > 0
    if "attention_mask" in fields:
        return fields["attention_mask"].astype(bool)
    return jnp.ones(fields["input_ids"].shape, bool)


def attention_mask(fields: Mapping[str, Array]) -> Bool[Array, "B 1 #L M"]:
    """Which token may attend to which: to all those of its own segment."""
    mask_B11M = is_token(fields)[:, None, None, :]
    if "segment_ids" not in fields:
        return mask_B11M
    segment_BL = fields["segment_ids"]
    return (segment_BL[:, None, :, None] == segment_BL[:, None, None, :]) & mask_B11M
