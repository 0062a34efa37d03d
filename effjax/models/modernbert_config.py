"""What a ModernBERT is: its layers, and the fields of its config.json.

transformers 5 names the type of every layer, and for each type what rotation is of; transformers 4
had a number of layers from one global one to the next, and two numbers for rotation. Both are read,
the first is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from effjax.models.base import Activation
from effjax.models.layer_fields import uniform_fields, uniform_layers
from effjax.models.prenorm import PreNormConfig
from effjax.models.rotary_fields import (
    RotaryLayer,
    check_pairs,
    rope_base,
    rope_parameters,
)

GLOBAL, LOCAL = "full_attention", "sliding_attention"
BASES = {GLOBAL: 160_000.0, LOCAL: 10_000.0}
"""What Hugging Face takes for rotation, by type of layer."""
WINDOW = 128
"""What it takes for `local_attention`."""

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "layer_types": "layer_types",
    "window": "local_attention",
    "rope": "rope_parameters",
    "positions": "max_position_embeddings",
    "activation": "hidden_activation",
    "norm_eps": "norm_eps",
    "norm_bias": "norm_bias",
    "attention_bias": "attention_bias",
    "ffn_bias": "mlp_bias",
    "dropout": "embedding_dropout",
    "attention_dropout": "attention_dropout",
    "ffn_dropout": "mlp_dropout",
    "head_bias": "classifier_bias",
    "head_activation": "classifier_activation",
    "decoder_bias": "decoder_bias",
    "pooling": "classifier_pooling",
    "classifier_dropout": "classifier_dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
    "tie_embeddings": "tie_word_embeddings",
}

DEFAULTS = {
    "vocab_size": 50368,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "layer_types": None,
    "local_attention": WINDOW,
    "rope_parameters": None,
    "max_position_embeddings": 8192,
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "embedding_dropout": 0.0,
    "attention_dropout": 0.0,
    "mlp_dropout": 0.0,
    "classifier_bias": False,
    "classifier_activation": "gelu",
    "decoder_bias": True,
    "classifier_pooling": "cls",
    "classifier_dropout": 0.0,
    "initializer_range": 0.02,
    "pad_token_id": 50283,
    "tie_word_embeddings": True,
}


def size(hidden: int, layers: int, heads: int, ffn: int) -> dict[str, int]:
    """A published shape."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
    }


SIZES = {
    "base": size(768, 22, 12, 1152),
    "large": size(1024, 28, 16, 2624),
    "ettin-17m": size(256, 7, 4, 384),
    "ettin-32m": size(384, 10, 6, 576),
    "ettin-68m": size(512, 19, 8, 768),
    "ettin-150m": size(768, 22, 12, 1152),
}


@dataclass(frozen=True, kw_only=True)
class ModernBertLayer(RotaryLayer):
    """One layer.

    Attributes:
        window: a token attends to those at most half of it away; None for all.
        normed: whether there is a norm before attention.
    """

    window: int | None = None
    normed: bool = True

    @property
    def reach(self) -> int | None:
        """Half of the window; None for all."""
        return None if self.window is None else self.window // 2


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(PreNormConfig):
    """A config of such layers.

    Attributes:
        ffn_dropout: of what the second product of the feed-forward network reads.
        head_bias: of the dense layer that every head begins with.
        pooling: the vector of an example: that of its first token, or the mean of all.
    """

    layers: tuple[ModernBertLayer, ...]
    norm_bias: bool
    ffn_dropout: float
    head_bias: bool
    head_activation: Activation
    decoder_bias: bool
    pooling: Literal["cls", "mean"]


def layers_from(sizes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The config fields of layers that are global or local, as `layer_types` says.

    Raises:
        ValueError: sizes, types or rotations do not fit.
    """
    rest = dict(sizes)
    types, window, rope = rest.pop("layer_types"), rest.pop("window"), rest.pop("rope")
    made = uniform_layers(rest, where)
    check_pairs(made["head_size"], where)
    depth = len(made["layers"])
    if not isinstance(types, list) or len(types) != depth or not set(types) <= set(BASES):
        allowed = f"{depth} of {GLOBAL}, {LOCAL}"
        raise ValueError(f"{where}: layer_types is {types!r}; expected a list of {allowed}")
    if LOCAL in types and window is None:
        raise ValueError(f"{where}: local_attention is null; layers of {LOCAL} need a window")
    if not isinstance(rope, Mapping) or set(rope) != set(BASES):
        allowed = f"an object with {GLOBAL} and {LOCAL}"
        raise ValueError(f"{where}: rope_parameters is {rope!r}; expected {allowed}")
    bases = {kind: rope_base(rope[kind], f"{where}: rope_parameters.{kind}") for kind in BASES}
    layers = tuple(
        ModernBertLayer(
            **vars(spec),
            rope_base=bases[kind],
            window=window if kind == LOCAL else None,
            normed=i > 0,
        )
        for i, (kind, spec) in enumerate(zip(types, made["layers"], strict=True))
    )
    return {**made, "layers": layers}


def layers_to(name: str, config: ModernBertConfig) -> dict[str, Any]:
    """The way back.

    Raises:
        ValueError: Hugging Face has no words for this model.
    """
    sizes = (
        ModernBertLayer(heads=spec.heads, ffn=spec.ffn, rope_base=0.0) for spec in config.layers
    )
    fields = uniform_fields(name, config.replace(layers=tuple(sizes)))
    if [spec.normed for spec in config.layers] != [i > 0 for i in range(config.num_layers)]:
        unnormed = [i for i, spec in enumerate(config.layers) if not spec.normed]
        raise ValueError(
            f"{name} in Hugging Face has a norm before attention in every layer but the first; "
            f"this model has none in layers {unnormed}"
        )
    types = [LOCAL if spec.window else GLOBAL for spec in config.layers]
    bases = {kind: one(name, "rope_base", kind, config, BASES[kind]) for kind in BASES}
    return {
        **fields,
        "layer_types": types,
        "window": one(name, "window", LOCAL, config, WINDOW),
        "rope": {kind: rope_parameters(base) for kind, base in bases.items()},
    }


def one(name: str, field: str, kind: str, config: ModernBertConfig, default: Any) -> Any:
    """The one value of a field in all layers of a type, the default where there is none of it.

    Raises:
        ValueError: they differ, for which Hugging Face has no words.
    """
    layers = [spec for spec in config.layers if (LOCAL if spec.window else GLOBAL) == kind]
    values = sorted({getattr(spec, field) for spec in layers}) or [default]
    if len(values) > 1:
        raise ValueError(
            f"{name} in Hugging Face has one {field} for all layers of {kind}; "
            f"this model has {', '.join(map(str, values))}"
        )
    return values[0]


def today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json of transformers 4 in the layout of transformers 5."""
    rest = dict(fields)
    every, depth = rest.pop("global_attn_every_n_layers", 3), rest["num_hidden_layers"]
    if rest["layer_types"] is None and isinstance(every, int) and isinstance(depth, int) and every:
        rest["layer_types"] = [LOCAL if i % every else GLOBAL for i in range(depth)]
    scaling = rest.pop("rope_scaling", None) or {}
    old = {GLOBAL: rest.pop("global_rope_theta", None), LOCAL: rest.pop("local_rope_theta", None)}
    given = rest["rope_parameters"] or {}
    if isinstance(given, Mapping):
        rope = {kind: dict(given.get(kind) or {}) | scaling for kind in BASES}
        for kind, base in BASES.items():
            rope[kind].setdefault("rope_theta", base if old[kind] is None else old[kind])
        rest["rope_parameters"] = {**given, **rope}
    return rest
