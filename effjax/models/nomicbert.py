"""NomicBERT: BERT with rotary positions in place of a table of them, SwiGLU, and products without
biases.

Source: arXiv 2402.01613, section 3.1; the shape of nomic-embed-text-v1. The Hub's first checkpoints
of it are made for code of their own. Their config.json is read; their weights, in which queries,
keys and values are one tensor, are not: transformers 5 writes them as it names them now.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from flax import linen as nn

from effjax.layers.attention import PROJECTIONS
from effjax.layers.embedding import TextEmbedding
from effjax.layers.feedforward import GatedFeedForward
from effjax.layers.rotary import RotaryAttention
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.encoder import initializer
from effjax.models.postnorm import PostNormBlock, PostNormEncoder, axes, embedding_rows
from effjax.models.rotary_fields import (
    RotaryConfig,
    RotaryLayer,
    rope_today,
    rotary_fields,
    rotary_layers,
    rotations,
)
from effjax.table import Axis, Row, linear, norm
from effjax.types import Array, Shared

LAYER = "nomic_bert.layers.{i}"

NAMES = {
    "word": "nomic_bert.embeddings.word_embeddings.weight",
    "token_type": "nomic_bert.embeddings.token_type_embeddings.weight",
    "embedding_norm": "nomic_bert.embeddings.LayerNorm",
    "query": f"{LAYER}.self_attn.q_proj",
    "key": f"{LAYER}.self_attn.k_proj",
    "value": f"{LAYER}.self_attn.v_proj",
    "attention_output": f"{LAYER}.self_attn.o_proj",
    "attention_norm": f"{LAYER}.post_attention_layernorm",
    "gate": f"{LAYER}.mlp.gate_proj",
    "up": f"{LAYER}.mlp.up_proj",
    "down": f"{LAYER}.mlp.down_proj",
    "feedforward_norm": f"{LAYER}.post_mlp_layernorm",
    "pooler": "nomic_bert.pooler.dense",
}

FIELDS = {**bert.FIELDS, "head_size": "head_dim", "rope": "rope_parameters"}

BASE = 1000.0
"""What Hugging Face takes for rotation."""

DEFAULTS = {
    **bert.DEFAULTS,
    "vocab_size": 30528,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "head_dim": None,
    "rope_parameters": None,
}

FIRST = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
    "rotary_emb_base": "rope_theta",
}
"""Names of fields before transformers had this architecture."""

REQUIRES = {
    **bert.REQUIRES,
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}

NOMIC_LM = {
    "dense": "cls.predictions.transform.dense",
    "norm_name": "cls.predictions.transform.layer_norm",
    "bias": "cls.predictions.bias",
    "decoder": "cls.predictions.decoder.weight",
}


class NomicBertBlock(PostNormBlock):
    """One layer."""

    config: RotaryConfig
    spec: RotaryLayer

    def make_attention(self) -> nn.Module:
        base = self.spec.rope_base
        return RotaryAttention(**self.attention_fields, rope_base=base, bias=False)

    def make_feedforward(self) -> nn.Module:
        config, dtype = self.config, self.runtime.dtype
        shape = config.hidden, self.spec.ffn, config.activation
        return GatedFeedForward(*shape, False, dtype, initializer(config))


class NomicBertEncoder(PostNormEncoder):
    """An encoder of such blocks over an embedding of words and token types."""

    config: RotaryConfig

    block = NomicBertBlock

    def make_embedding(self) -> nn.Module:
        config = self.config
        return TextEmbedding(
            config.vocab_size,
            0,
            config.token_types,
            config.hidden,
            None,
            config.norm_eps,
            config.dropout,
            self.runtime.dtype,
            initializer(config),
        )

    def share(self, fields: Mapping[str, Array]) -> Shared:
        return {**super().share(fields), **rotations(self.config, fields["position_ids"])}


def today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json of the first checkpoints, whose names of fields are GPT-2's."""
    rest = dict(fields)
    for old, new in FIRST.items():
        if old in rest:
            rest[new] = rest.pop(old)
    return rope_today(rest, BASE)


def rows(config: RotaryConfig, decoder: str | None) -> list[Row]:
    """The rows of embedding, layers and pooler."""
    D, Y = axes(config)
    made = embedding_rows(config, NAMES, decoder)
    for i, (layer, spec) in enumerate(config.distinct_layers.items()):
        names = {name: hf.format(i=i) for name, hf in NAMES.items()}
        H, K = Axis("H", spec.heads, f"{layer}/heads"), Axis("K", config.head_size)
        F = Axis("F", spec.ffn, f"{layer}/ffn")
        at, fed = f"{layer}/attention", f"{layer}/feedforward"
        for name in PROJECTIONS:
            made += linear(f"{at}/{name}", (D,), (H, K), hf=names[name], bias=False)
        made += linear(f"{at}/output", (H, K), (D,), hf=names["attention_output"], bias=False)
        made += norm(f"{layer}/attention_norm", D, hf=names["attention_norm"])
        made += linear(f"{fed}/gate", (D,), (F,), hf=names["gate"], bias=False)
        made += linear(f"{fed}/up", (D,), (F,), hf=names["up"], bias=False)
        made += linear(f"{fed}/down", (F,), (D,), hf=names["down"], bias=False)
        made += norm(f"{layer}/feedforward_norm", D, hf=names["feedforward_norm"])
    if config.pooler:
        made += linear("pooler/dense", (D,), (Y,), hf=names["pooler"], use="sequence")
    return made


HEADS = {
    None: HeadSpec(hf_class="NomicBertModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="NomicBertForMaskedLM",
        module=bert.masked_lm,
        rows=partial(bert.masked_lm_rows, **NOMIC_LM),
        pooler=False,
        decoder=NOMIC_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="NomicBertForSequenceClassification",
        module=bert.pooled,
        rows=partial(bert.output_rows, hf="classifier"),
        pooler=True,
    ),
    "token-classification": bert.family_heads("NomicBert")["token-classification"],
}

NOMICBERT = Architecture(
    name="nomic_bert",
    hf_prefix="nomic_bert.",
    heads=HEADS,
    sizes={"base": {}},
    config=RotaryConfig,
    fields=FIELDS,
    layers_from=rotary_layers,
    layers_to=rotary_fields,
    today=today,
    defaults=DEFAULTS,
    requires=REQUIRES,
    module=NomicBertEncoder,
    rows=rows,
)
