"""What every architecture shares: its configuration, how to run it, what it returns."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax

from effjax.choices import check_choices
from effjax.types import Array, Bool, Float, Int

Activation = Literal["gelu", "gelu_new", "relu", "silu"]
Head = Literal[
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "next-sentence-prediction",
    "pretraining",
    "replaced-token-detection",
]


Remat = Literal["none", "layers", "products"]


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """The sizes of one layer; variation between layers is a tuple of these. An architecture whose
    layers have more to tell has a subclass.

    Attributes:
        heads: attention heads; with 0 there are no attention arrays but the output bias and the
            norm.
        ffn: width of the feed-forward network; with 0 its output bias and norm remain.
    """

    heads: int
    ffn: int

    tied: ClassVar[tuple[str, ...]] = ()
    """Sizes of what has a place in a table that all layers share."""

    @property
    def reach(self) -> int | None:
        """The most places between two tokens that attend to each other; None for all."""
        return None

    def shrunk(self, name: str, kept: Sequence[int]) -> "LayerSpec":
        """The layer with only these of what the table's axis instance "layer_3/<name>" counts."""
        return dataclasses.replace(self, **{name: len(kept)})

    def padded(self, heads: int, ffn: int) -> "LayerSpec":
        """The layer with more heads and units, which do nothing."""
        return dataclasses.replace(self, heads=heads, ffn=ffn)

    def places(self, name: str, count: int) -> Sequence[int]:
        """Where what there is comes to lie in the padded layer."""
        del name
        return range(count)

    def __str__(self) -> str:
        return f"{self.heads} heads, ffn {self.ffn}"


WIDTHS = ("hidden", "embedding")
"""Of hidden states and word vectors, as a table's axis instances and as fields of a config."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What a model is, never how it is run. An architecture that has more to tell has a subclass.

    Attributes:
        embedding: width of the word vectors; None means `hidden`.
        layers: one `LayerSpec` per layer; the depth is its length.
        positions: the longest input, as rows of a position table where there is one.
        first_position: "zero", or "after-padding" as in RoBERTa: positions begin at the padding
            index + 1 and count only tokens that are not padding.
        token_types: rows of the token-type table; 0 means that there is none.
        classifier_dropout: before the classifier; None means `dropout`.
        pooler: whether a pooled output, tanh(W h_[CLS] + b), is part of the model.
        head: the task head, None for the bare encoder.
        labels: label names; one name with problem_type "regression" is a regression.
        ranks: of the weights that are stored as two factors: "layer_3/feedforward/up/kernel" and
            its rank. It is of no meaning for one of which its layer has nothing left.
        extra: Hugging Face fields that effjax does not read, as (name, JSON) pairs, kept for the
            way back.
    """

    vocab_size: int
    hidden: int
    embedding: int | None = None
    head_size: int
    layers: tuple[LayerSpec, ...]
    positions: int
    first_position: Literal["zero", "after-padding"] = "zero"
    token_types: int = 2
    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    initializer_range: float = 0.02
    pad_token_id: int = 0
    tie_embeddings: bool = True
    pooler: bool = True
    head: Head | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem_type: str | None = None
    ranks: tuple[tuple[str, int], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Where the parameters of each layer are; layers of one name share them."""
        return tuple(f"layer_{i}" for i in range(self.num_layers))

    @property
    def distinct_layers(self) -> dict[str, LayerSpec]:
        """The layers by name, each that is shared once."""
        return dict(zip(self.layer_names, self.layers, strict=True))

    @property
    def embedding_size(self) -> int:
        """The width of the word vectors."""
        return self.embedding or self.hidden

    @property
    def factorised(self) -> bool:
        """Whether a projection leads from the word vectors to the hidden size."""
        return self.embedding_size != self.hidden

    def ranks_below(self, layer: str) -> dict[str, int]:
        """The ranks of one layer, by what follows its name."""
        return {
            path.removeprefix(f"{layer}/"): rank
            for path, rank in self.ranks
            if path.startswith(f"{layer}/")
        }

    @property
    def whole_heads(self) -> int:
        """The heads of a layer that has lost none."""
        return self.hidden // self.head_size

    def filled_by(self, heads: int) -> int:
        """The hidden size of a model whose layers have so many heads."""
        return heads * self.head_size

    @property
    def widest_ffn(self) -> int:
        """Of the widest layer."""
        return max(layer.ffn for layer in self.layers)

    def padded(self) -> "EncoderConfig":
        """The config whose layers are of one size, as Hugging Face wants it, and no smaller."""
        heads = max(self.whole_heads, *(layer.heads for layer in self.layers))
        sizes = heads, max(self.widest_ffn, 1)
        return self.replace(layers=tuple(layer.padded(*sizes) for layer in self.layers))

    @property
    def max_length(self) -> int:
        """The longest input, in tokens."""
        return self.positions - (
            self.pad_token_id + 1 if self.first_position == "after-padding" else 0
        )

    @property
    def extra_fields(self) -> dict[str, Any]:
        """The Hugging Face fields that effjax carries along unread."""
        return {name: json.loads(value) for name, value in self.extra}

    def shrunk(self, keep: Mapping[str, Sequence[int]]) -> "EncoderConfig":
        """The config with only these of what axis instances such as "layer_3/heads", "hidden" and
        "embedding" count; others are left alone.

        Raises:
            ValueError: no width is left, or a projection would lead to the width that it is from.
        """
        layers = list(self.layers)
        for instance, kept in keep.items():
            name, _, field = instance.partition("/")
            for i in (i for i, layer in enumerate(self.layer_names) if layer == name):
                layers[i] = layers[i].shrunk(field, kept)
        widths: dict[str, Any] = {name: len(keep[name]) for name in WIDTHS if name in keep}
        if 0 in widths.values():
            raise ValueError(f"nothing is kept of {' and '.join(widths)}; expected some")
        if widths and not self.factorised:
            widths["embedding"] = None
        small = self.replace(layers=tuple(layers), **widths)
        if small.factorised != self.factorised:
            raise ValueError(
                f"hidden states and word vectors would both be {small.hidden} wide, and between "
                "them there is a projection; expected different widths"
            )
        return small

    def replace(self, **changes: Any) -> "EncoderConfig":
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to run a model; every choice gives the same result, to rounding.

    Attributes:
        dtype: what products are computed in; sums, softmax and norms are float32, parameters stay
            float32.
        attention: "textbook" is softmax(QK^T / sqrt(K)) V as written; "late-division"
            divides by the softmax sum after the value product, K divisions per query, not M, and on
            a CPU takes no maximum off where it need not; "fused" is one kernel of a GPU, for
            bfloat16, where no weights are dropped out.
        chunk_tokens: inference takes this many tokens at a time, so that activations stay in cache;
            None for all.
        remat: what training computes again on the way back, to need less memory: nothing, whole
            "layers", or all but the "products" of a layer (arXiv 1604.06174).
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["textbook", "late-division", "fused"] = "late-division"
    chunk_tokens: int | None = None
    remat: Remat = "none"

    def __post_init__(self) -> None:
        check_choices(self, "runtime: ")
        if self.chunk_tokens is not None and self.chunk_tokens < 1:
            raise ValueError(
                f"runtime: chunk_tokens is {self.chunk_tokens}; it must be above 0, None for all"
            )
        if self.attention == "fused" and self.dtype != "bfloat16":
            raise ValueError(f"runtime: fused attention needs dtype bfloat16; it is {self.dtype}")

    @classmethod
    def plain(cls) -> "Runtime":
        """The reference for parity, cost and export."""
        return cls(dtype="float32", attention="textbook", chunk_tokens=None)

    @classmethod
    def auto(
        cls, dtype: Literal["float32", "bfloat16"] = "float32", *, remat: Remat = "none"
    ) -> "Runtime":
        """What is fast on the default device: a CPU works in chunks of 1536 tokens, an accelerator
        on all at once.
        """
        on_cpu = jax.default_backend() == "cpu"
        return cls(dtype=dtype, chunk_tokens=1536 if on_cpu else None, remat=remat)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """What one layer computed; a field is None where it was not kept or the layer has no heads.

    Attributes:
        q, k, v: queries, keys and values.
        scores: q k^T / sqrt(K) with its bias, if it has one, before mask and softmax.
        hidden: the layer's output.
        reach: that of its `LayerSpec`: of a local layer, scores of tokens further apart are no part
            of what it computes.
    """

    q: Float[Array, "B H L K"] | None = None
    k: Float[Array, "B H M K"] | None = None
    v: Float[Array, "B H M K"] | None = None
    scores: Float[Array, "B H L M"] | None = None
    hidden: Float[Array, "B L D"] | None = None
    reach: int | None = dataclasses.field(default=None, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Everything a model computed; what a jitted caller does not use costs nothing.

    Attributes:
        embedded: the output of the embedding, after its norm.
        layers: one trace per layer.
        last_hidden: the output of the last layer.
        pooled: tanh(W h_[CLS] + b) of each example, where the model has a pooler.
        sentence: the mean of `last_hidden` over the tokens of each example; of each choice in
            multiple choice.
        logits: of the head: [B, C], per token [B, L, C], question answering [B, L, 2] (start, end),
            masked-lm [B, L, V], replaced-token-detection [B, L], multiple choice [B, choices]. With
            `predicted` in the batch, what is per token is only of the P tokens of each row that it
            names: [B, P, V].
        next_sentence_logits: of the pretraining head, beside the masked-lm logits: which sentence
            is the next one (BERT), which of the two comes first (ALBERT).
        generator_logits: of a generator that the model is trained with (`effjax.models.generator`),
            as those of masked-lm.
        corrupted: the `input_ids` with that generator's guesses in place of the masks.
        mask: True where `attention_mask` is 1; losses over tokens honour it.

    In packed rows (`effjax.data.layouts`) an example is a segment: what there is one of per example
    has the order of the batch's `starts`.
    """

    embedded: Float[Array, "B L D"] | None = None
    layers: tuple[LayerTrace, ...] = ()
    last_hidden: Float[Array, "B L D"] | None = None
    pooled: Float[Array, "examples D"] | None = None
    sentence: Float[Array, "examples D"] | None = None
    logits: Float[Array, "..."] | None = None
    next_sentence_logits: Float[Array, "examples C"] | None = None
    generator_logits: Float[Array, "B P V"] | None = None
    corrupted: Int[Array, "B L"] | None = None
    mask: Bool[Array, "B L"] | None = None

    def hidden(self, layer: int) -> Float[Array, "B L D"]:
        """Hidden states after `layer` layers: 0 is the embedding, `len(layers)` the last hidden
        state, after the last norm where an encoder ends with one.

        Raises:
            ValueError: these outputs do not hold that layer.
        """
        if not 0 <= layer <= len(self.layers):
            raise ValueError(
                f"hidden state {layer} is out of range; these outputs hold 0 (the embedding) "
                f"to {len(self.layers)}"
            )
        found = self.embedded if layer == 0 else self.layers[layer - 1].hidden
        if 0 < layer == len(self.layers) and self.last_hidden is not None:
            found = self.last_hidden
        if found is None:
            raise ValueError(f"hidden state {layer} was not kept in these outputs")
        return found

    def of_layer(
        self, name: Literal["q", "k", "v", "scores"], layer: int
    ) -> Float[Array, "B heads L size"]:
        """What the attention of a layer computed; layer 1 is the first.

        Raises:
            ValueError: these outputs do not hold that layer, or the layer has no heads.
        """
        if not 1 <= layer <= len(self.layers):
            raise ValueError(
                f"layer {layer} is out of range; these outputs hold 1 to {len(self.layers)}"
            )
        found = getattr(self.layers[layer - 1], name)
        if found is None:
            raise ValueError(f"{name} of layer {layer} was not kept, or the layer has no heads")
        return found

    def light(self) -> "Outputs":
        """Without the traces and the mean: last_hidden, pooled and logits."""
        return dataclasses.replace(self, embedded=None, layers=(), sentence=None)


def json_fields(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Fields of a config.json in the hashable form of `EncoderConfig.extra`."""
    return tuple((name, json.dumps(value, sort_keys=True)) for name, value in fields.items())
