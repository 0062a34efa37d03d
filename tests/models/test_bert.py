"""Sentence encoders that are BERT by their config.json: BGE, E5 and GTE."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from effjax.hf import read, save_pretrained, verify
from effjax.models import create, registry
from effjax.models.hf_config import config_from_hf, config_to_hf

BERT = registry.get("bert")

COMMON: dict[str, Any] = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}
SMALL = {"hidden_size": 384, "intermediate_size": 1536}
BASE = {"hidden_size": 768, "intermediate_size": 3072}
ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}

ENCODERS = {
    "bge-small": ({**COMMON, **SMALL, **ONE_LABEL, "torch_dtype": "float32"}, 33_360_000),
    "bge-base": ({**COMMON, **BASE, **ONE_LABEL, "gradient_checkpointing": False}, 109_482_240),
    "e5-small": ({**COMMON, **SMALL, "tokenizer_class": "BertTokenizer"}, 33_360_000),
    "gte-small": ({**COMMON, **SMALL, "torch_dtype": "float16"}, 33_360_000),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_config_is_read_as_transformers_reads_it(name: str) -> None:
    fields, published = ENCODERS[name]
    config = config_from_hf(BERT, fields)
    assert config.pooler and BERT.table(config).num_params == published
    with torch.device("meta"):
        theirs = transformers.BertModel(transformers.BertConfig.from_dict(fields))
    assert sum(p.numel() for p in theirs.parameters()) == published
    written = config_to_hf(BERT, config)
    kept = {key: value for key, value in fields.items() if key != "torch_dtype"}
    assert {key: written.get(key) for key in kept} == kept


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("name", ["bge-small", "gte-small"])
def test_such_a_folder_loads_and_is_transformers(tmp_path: Path, name: str, prefix: str) -> None:
    """With a layer of a few units; weights with and without the base prefix."""
    tiny = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1, "vocab_size": 50}
    made = create("bert", size="tiny", key=jax.random.key(0), **{**COMMON, **tiny})
    save_pretrained(made, tmp_path / "out")
    fields = {**ENCODERS[name][0], **tiny}
    (tmp_path / "out" / "config.json").write_text(json.dumps(fields))
    if prefix:
        file = tmp_path / "out" / "model.safetensors"
        tensors = {prefix + key: value for key, value in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    model, report = read(tmp_path / "out")
    assert model.architecture is BERT and model.config.head is None
    assert not report.initialised and not report.ignored
    np.testing.assert_array_equal(
        model.params["embedding"]["word"]["embedding"],
        made.params["embedding"]["word"]["embedding"],
    )
    assert verify(tmp_path / "out").ok
