"""Post-norm transformers with learned positions: the module and the table that BERT, DistilBERT and
RoBERTa share.

x_0 = LayerNorm(word + position + token type)
a_i = LayerNorm(x_i + Attention(x_i)),  x_{i+1} = LayerNorm(a_i + FFN(a_i))

Source: arXiv 1706.03762, section 3, with GELU; arXiv 1810.04805. Each architecture adds its Hugging
Face names and its heads."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from effjax.layers.attention import SelfAttention
from effjax.layers.dropout import Dropout
from effjax.layers.embedding import (
    TextEmbedding,
    positions_after_padding,
    positions_from_start,
    positions_in_segments,
)
from effjax.layers.feedforward import FeedForward
from effjax.layers.heads import Pooler
from effjax.layers.norm import LayerNorm
from effjax.models.base import EncoderConfig, LayerSpec, LayerTrace, Outputs, Remat, Runtime
from effjax.table import Axis, Row, Use, embedding, linear, norm
from effjax.types import Array, Batch, Bool, Float, Gates, Int


class Block(nn.Module):
    """One layer: attention and feed-forward, each with a residual connection and a norm."""

    config: EncoderConfig
    spec: LayerSpec
    runtime: Runtime

    def setup(self) -> None:
        config, dtype, init = (
            self.config,
            self.runtime.dtype,
            nn.initializers.normal(self.config.initializer_range),
        )
        self.attention = SelfAttention(
            config.hidden,
            self.spec.heads,
            config.head_size,
            config.attention_dropout,
            self.runtime.attention,
            dtype,
            init,
        )
        self.attention_norm = LayerNorm(config.norm_eps)
        self.feedforward = FeedForward(config.hidden, self.spec.ffn, config.activation, dtype, init)
        self.feedforward_norm = LayerNorm(config.norm_eps)
        self.drop = Dropout(config.dropout)

    def __call__(
        self,
        x_BLD: Float[Array, "B L D"],
        mask_B1LM: Bool[Array, "B 1 #L M"],
        gates: tuple[Float[Array, "H"] | None, Float[Array, "F"] | None],
        deterministic: bool,
    ) -> tuple[Float[Array, "B L D"], LayerTrace]:
        gate_H, gate_F = gates
        attended_BLD, trace = self.attention(x_BLD, mask_B1LM, gate_H, deterministic)
        x_BLD = self.attention_norm(x_BLD + self.drop(attended_BLD, deterministic))
        x_BLD = self.feedforward_norm(
            x_BLD + self.drop(self.feedforward(x_BLD, gate_F), deterministic)
        )
        return x_BLD, LayerTrace(hidden=x_BLD, **trace)


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


class PostNormEncoder(nn.Module):
    """Embedding, blocks, pooler and head of one model."""

    config: EncoderConfig
    head: nn.Module | None
    runtime: Runtime

    def setup(self) -> None:
        config, dtype = self.config, self.runtime.dtype
        init = nn.initializers.normal(config.initializer_range)
        self.embedding = TextEmbedding(
            config.vocab_size,
            config.positions,
            config.token_types,
            config.hidden,
            config.norm_eps,
            config.dropout,
            dtype,
            init,
        )
        block = repeated(Block, self.runtime.remat)
        self.blocks = [
            block(config, spec, self.runtime, name=f"layer_{i}")
            for i, spec in enumerate(config.layers)
        ]
        if config.pooler:
            self.pooler = Pooler(config.hidden, dtype, init)

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
            gates: multipliers for heads and feed-forward units.
            deterministic: False drops out, with the stream "dropout".
        """
        shape = batch["input_ids"].shape
        fields = {
            name: value.reshape(-1, shape[-1])
            for name, value in batch.items()
            if value.shape == shape
        }
        mask_BL, mask_B1LM = attention_masks(fields)
        positions_BL = (
            fields["position_ids"] if "position_ids" in fields else self.positions(fields)
        )
        x_BLD = self.embedding(
            fields["input_ids"], positions_BL, fields.get("token_type_ids"), deterministic
        )
        embedded, traces, gates = x_BLD, [], gates or {}
        for i, block in enumerate(self.blocks):
            gate = (gates.get(f"layer_{i}/heads"), gates.get(f"layer_{i}/ffn"))
            x_BLD, trace = block(x_BLD, mask_B1LM, gate, deterministic)
            traces.append(trace)
        starts = batch.get("starts")
        cls_BD = (
            x_BLD[:, 0] if starts is None else x_BLD.reshape(-1, x_BLD.shape[-1])[starts.ravel()]
        )
        pooled = self.pooler(cls_BD) if self.config.pooler else None
        kept = {
            "embedded": embedded,
            "layers": tuple(traces),
            "last_hidden": x_BLD,
            "pooled": pooled,
            "mask": mask_BL,
        }
        if self.head is None:
            return Outputs(**kept)
        vector_BD = cls_BD if pooled is None else pooled
        asked_BPD = at_places(x_BLD, batch.get("predicted"))
        answers = self.head(asked_BPD, vector_BD, self.embedding.word.embedding, deterministic)
        if self.config.head == "multiple-choice":
            choices = shape[:2] if starts is None else starts.shape
            answers = {"logits": answers["logits"].reshape(choices)}
        return Outputs(**kept, **answers)

    def positions(self, fields: Mapping[str, Array]) -> Int[Array, "B L"]:
        """What each token's position is, by the config's rule and within its segment."""
        first = self.config.pad_token_id + 1 if self.config.first_position == "after-padding" else 0
        if "segment_ids" in fields:
            return positions_in_segments(fields["segment_ids"]) + first
        if first:
            return positions_after_padding(fields["input_ids"], self.config.pad_token_id)
        return positions_from_start(fields["input_ids"])


def at_places(
    x_BLD: Float[Array, "B L D"], places_BP: Int[Array, "B P"] | None
) -> Float[Array, "B P D"]:
    """The vectors at these places of each row; all of them for None."""
    if places_BP is None:
        return x_BLD
    return jnp.take_along_axis(x_BLD, places_BP[..., None], axis=1, mode="clip")


def attention_masks(
    fields: Mapping[str, Array],
) -> tuple[Bool[Array, "B L"], Bool[Array, "B 1 #L M"]]:
    """Which tokens are real, and which each of them may attend to: those of its own segment."""
    if "segment_ids" not in fields:
        mask_BL = fields.get("attention_mask", jnp.ones_like(fields["input_ids"])).astype(bool)
        return mask_BL, mask_BL[:, None, None, :]
    segment_BL = fields["segment_ids"]
    mask_BL = segment_BL > 0
    same_B1LM = segment_BL[:, None, :, None] == segment_BL[:, None, None, :]
    return mask_BL, same_B1LM & mask_BL[:, None, None, :]


def axes(config: EncoderConfig) -> tuple[Axis, Axis]:
    """The hidden axis, and the same as the output of a square product."""
    return Axis("D", config.hidden, "hidden"), Axis("Y", config.hidden, "hidden")


def encoder_rows(config: EncoderConfig, names: Mapping[str, str], decoder: str | None) -> list[Row]:
    """The rows of embedding, layers and pooler.

    Args:
        names: Hugging Face's name of each module by ours, "{i}" standing for the layer.
        decoder: Hugging Face's name of the output projection tied to the word embedding, None if
            there is none.
    """
    D, Y = axes(config)
    words, positions = Axis("V", config.vocab_size, "vocabulary"), Axis("P", config.positions)
    aliases = (decoder,) if decoder else ()
    uses: tuple[Use, ...] = ("lookup", "token") if decoder else ("lookup",)
    rows = [
        *embedding(
            "embedding/word/embedding", words, D, hf=names["word"], aliases=aliases, uses=uses
        ),
        *embedding("embedding/position/embedding", positions, D, hf=names["position"]),
        *norm("embedding/norm", D, hf=names["embedding_norm"]),
    ]
    if config.token_types:
        types = Axis("T", config.token_types)
        rows += embedding("embedding/token_type/embedding", types, D, hf=names["token_type"])
    for i, spec in enumerate(config.layers):
        rows += layer_rows(
            i, spec, D, config.head_size, {name: hf.format(i=i) for name, hf in names.items()}
        )
    if config.pooler:
        rows += linear("pooler/dense", (D,), (Y,), hf=names["pooler"], use="sequence")
    return rows


def layer_rows(
    i: int, spec: LayerSpec, D: Axis, head_size: int, names: Mapping[str, str]
) -> list[Row]:
    """The rows of layer i."""
    H, K = Axis("H", spec.heads, f"layer_{i}/heads"), Axis("K", head_size)
    F = Axis("F", spec.ffn, f"layer_{i}/ffn")
    projections = [
        linear(f"layer_{i}/attention/{n}", (D,), (H, K), hf=names[n])
        for n in ("query", "key", "value")
    ]
    return [
        *(row for rows in projections for row in rows),
        *linear(f"layer_{i}/attention/output", (H, K), (D,), hf=names["attention_output"]),
        *norm(f"layer_{i}/attention_norm", D, hf=names["attention_norm"]),
        *linear(f"layer_{i}/feedforward/up", (D,), (F,), hf=names["up"]),
        *linear(f"layer_{i}/feedforward/down", (F,), (D,), hf=names["down"]),
        *norm(f"layer_{i}/feedforward_norm", D, hf=names["feedforward_norm"]),
    ]
