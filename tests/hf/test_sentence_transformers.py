"""Folders of sentence-transformers: pooling by hand, round trips, the score of the real model."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from effjax.data.metrics import spearman
from effjax.hf import (
    SentenceEncoder,
    convert,
    load_tokenizer,
    pool,
    read,
    read_sentence_encoder,
    save_pretrained,
    save_sentence_encoder,
)
from effjax.models.base import Outputs, Runtime
from effjax.prune import factorised, shrink
from effjax.tree import flatten

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "not"]
MODULES = "sentence_transformers.models."


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    target = tmp_path / "encoder"
    save_sentence_encoder(SentenceEncoder(tiny(), "max", True, 16), target)
    (target / "vocab.txt").write_text("\n".join(WORDS))
    return target


def test_pooling_leaves_padding_out() -> None:
    hidden = np.array([[[1.0, 2.0], [3.0, -6.0], [99.0, 99.0]]], np.float32)
    outputs = Outputs(last_hidden=hidden, mask=np.array([[True, True, False]]))
    np.testing.assert_allclose(pool(outputs, "mean"), [[2.0, -2.0]])
    np.testing.assert_allclose(pool(outputs, "max"), [[3.0, 2.0]])
    np.testing.assert_allclose(pool(outputs, "cls"), [[1.0, 2.0]])


def test_pooling_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs last_hidden and mask"):
        pool(Outputs(), "mean")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_modules_are_read_back(
    tiny: Any, tmp_path: Path, pooling: Any, normalize: bool
) -> None:
    encoder = SentenceEncoder(tiny("distilbert"), pooling, normalize, 16)
    save_sentence_encoder(encoder, tmp_path / "out")
    again = read_sentence_encoder(tmp_path / "out")
    assert (again.pooling, again.normalize, again.max_length) == (pooling, normalize, 16)
    for path, array in flatten(again.model.params).items():
        np.testing.assert_array_equal(array, flatten(encoder.model.params)[path])
    kinds = ["Transformer", "Pooling", "Normalize"][: 2 + normalize]
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [module["type"] for module in modules] == [MODULES + kind for kind in kinds]
    assert all((tmp_path / "out" / module["path"]).is_dir() for module in modules)


def test_weights_of_two_factors_are_written_as_one(tiny: Any, tmp_path: Path) -> None:
    model = tiny()
    small = factorised(model, {"layer_0/feedforward/up/kernel": 3, "embedding/word/embedding": 4})
    save_sentence_encoder(SentenceEncoder(small, "mean", True, 16), tmp_path / "out")
    again = read_sentence_encoder(tmp_path / "out").model
    assert again.config.ranks == () and again.num_params == model.num_params
    batch = {"input_ids": np.array([[3, 1, 4, 1, 5]])}
    ours, theirs = (np.asarray(x(batch).last_hidden) for x in (again, small))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("layout", ["dense", "compact"])
def test_a_pruned_encoder_in_both_layouts(tiny: Any, tmp_path: Path, layout: Any) -> None:
    """transformers gives the same hidden states, from small arrays where the layout has them."""
    small = shrink(tiny(), {"layer_0/heads": np.array([1]), "layer_1/ffn": np.arange(5)})
    out = tmp_path / "out"
    save_sentence_encoder(SentenceEncoder(small, "cls", False, 16), out, layout=layout)
    again = read_sentence_encoder(out)
    assert (again.pooling, again.normalize) == ("cls", False)
    assert (again.model.num_params == small.num_params) == (layout == "compact")
    stock = transformers.AutoModel.from_pretrained(out, trust_remote_code=layout == "compact")
    ids = np.array([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        theirs = stock(torch.from_numpy(ids)).last_hidden_state.numpy()
    for model in (small, again.model):
        ours = np.asarray(model({"input_ids": ids}).last_hidden)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_convert_keeps_the_modules(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out")
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "vocab.txt"):
        assert (tmp_path / "out" / name).read_text() == (folder / name).read_text()


def test_a_model_in_a_folder_of_its_own(folder: Path) -> None:
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        (folder / name).rename(inner / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
    assert read_sentence_encoder(folder).max_length == 16
    assert read(folder)[1].folder == inner


@pytest.mark.parametrize(
    ("fields", "pooling"),
    [
        ({"embedding_dimension": 12, "pooling_mode": "cls"}, "cls"),
        ({"embedding_dimension": 12, "pooling_mode": ["max"]}, "max"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
    ],
)
def test_old_and_new_ways_to_name_the_pooling(folder: Path, fields: Any, pooling: str) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(fields))
    assert read_sentence_encoder(folder).pooling == pooling


@pytest.mark.parametrize(
    "fields",
    [
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {},
    ],
)
def test_a_pooling_that_is_not_supported(folder: Path, fields: Any) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(fields))
    with pytest.raises(
        ValueError, match=r"1_Pooling.config\.json: the pooling is .* mean, cls, max"
    ):
        read_sentence_encoder(folder)


def test_without_the_poolings_folder_it_is_the_mean(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "1_Pooling" / "config.json").unlink()
    with caplog.at_level(logging.WARNING, "effjax"):
        assert read_sentence_encoder(folder).pooling == "mean"
    assert "taken to be the mean" in caplog.text


def test_another_folder_is_an_encoder_with_the_mean(
    tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_pretrained(tiny(head="sequence-classification"), tmp_path / "plain")
    with caplog.at_level(logging.WARNING, "effjax"):
        encoder = read_sentence_encoder(tmp_path / "plain")
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", False, None)
    assert encoder.model.config.head is None and encoder.longest == 24
    assert "names no pooling; it is taken to be the mean" in caplog.text


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "expected a list of modules"),
        ([{"type": "x.Transformer", "path": "../elsewhere"}], "a path inside the folder"),
        ([{"type": "x.Transformer"}], "a path inside the folder"),
        ([{"type": "x.Pooling", "path": ""}], "modules are Pooling; supported"),
        ([{"type": "x.Transformer", "path": ""}], "supported: Transformer, Pooling"),
        (
            [
                {"type": "x.Transformer", "path": ""},
                {"type": "x.Pooling", "path": "1_Pooling"},
                {"type": "x.Dense", "path": "2_Dense"},
            ],
            "modules are Transformer, Pooling, Dense; supported",
        ),
    ],
)
def test_modules_that_are_not_supported(folder: Path, modules: Any, message: str) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=message) as caught:
        read_sentence_encoder(folder)
    assert "modules.json" in str(caught.value)


def test_no_weights_without_a_transformer(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": ""}]))
    with pytest.raises(ValueError, match=r"modules\.json: the first module, .* a Transformer"):
        read(folder)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("sentence_bert_config.json", {"max_seq_length": "16"}, "max_seq_length is '16'"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "prompts are not"),
    ],
)
def test_settings_that_are_not_supported(
    folder: Path, file: str, fields: Any, message: str
) -> None:
    (folder / file).write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=message):
        read_sentence_encoder(folder)


def test_vectors_keep_the_order_of_the_texts(folder: Path) -> None:
    encoder = read_sentence_encoder(folder, runtime=Runtime.plain())
    texts = ["a good film", "not", "a film not bad not good a film", "bad film", "film " * 40]
    tokenizer = load_tokenizer(folder)
    vectors = encoder.encode(tokenizer, texts, batch_size=2)
    assert vectors.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    cut = {"truncation": True, "padding": "max_length", "max_length": 16}
    batch = tokenizer(texts, **cut, return_tensors="np")
    hidden = np.asarray(encoder.model(batch).last_hidden)
    for row, mask, vector in zip(hidden, batch["attention_mask"], vectors, strict=True):
        largest = row[mask == 1].max(axis=0)
        np.testing.assert_allclose(vector, largest / np.linalg.norm(largest), atol=1e-5)


@pytest.mark.slow
def test_sts_b_of_the_real_model(assets: Path) -> None:
    with (assets / "data/glue/STS-B/dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    folder = assets / "models" / "all-MiniLM-L6-v2"
    encoder, tokenizer = read_sentence_encoder(folder), load_tokenizer(folder)
    first, second = np.split(
        encoder.encode(tokenizer, [row[c] for c in ("sentence1", "sentence2") for row in rows]), 2
    )
    cosine = np.sum(first * second, axis=1)
    assert len(rows) == 1500
    assert spearman(cosine, np.array([float(row["score"]) for row in rows])) == pytest.approx(
        0.867, abs=5e-4
    )
