"""NomicBERT: the fields of its first checkpoints, and what is not supported."""

import re
from typing import Any

import pytest

from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.models.nomicbert import NOMICBERT

FIRST: dict[str, Any] = {
    "activation_function": "swiglu",
    "attn_pdrop": 0.0,
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 24,
    "n_head": 2,
    "n_inner": 10,
    "n_layer": 3,
    "n_positions": 2048,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.1,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 30528,
}
"""As nomic-embed-text-v1 has them, but for the sizes."""


def test_the_fields_of_the_first_checkpoints_are_read() -> None:
    config: Any = config_from_hf(NOMICBERT, FIRST)
    assert (config.hidden, config.head_size, config.num_layers) == (24, 12, 3)
    assert (config.layers[0].heads, config.layers[0].ffn) == (2, 10)
    assert (config.dropout, config.attention_dropout, config.positions) == (0.1, 0.0, 2048)
    assert {spec.rope_base for spec in config.layers} == {1000.0}
    written = config_to_hf(NOMICBERT, config)
    assert written["rope_parameters"] == {"rope_theta": 1000.0, "rope_type": "default"}
    assert written["head_dim"] == 12
    assert not {"n_embd", "n_positions", "rotary_emb_base"} & set(written)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rotary_scaling_factor": 2.0}, "rotary_scaling_factor is 2.0"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5"),
        ({"qkv_proj_bias": True}, "qkv_proj_bias is True"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ({"n_head": 8}, "heads of 3; rotary positions turn pairs"),
        ({"n_head": 7}, "hidden size 24 is not a multiple of 7 attention heads"),
    ],
)
def test_what_is_not_supported_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        config_from_hf(NOMICBERT, {**FIRST, **fields})
    assert "\n" not in str(caught.value)
