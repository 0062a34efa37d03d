"""`verify` against transformers: what it passes, and every kind of difference that it must find."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax.hf import convert, read, save_pretrained, verify
from effjax.hf.verify import LENGTHS, VerifyReport
from effjax.tree import flatten, unflatten


@pytest.mark.parametrize(
    ("name", "head", "fields"),
    [
        ("bert", None, {}),
        ("bert", "pretraining", {"tie_word_embeddings": False}),
        ("distilbert", "question-answering", {}),
        ("roberta", "multiple-choice", {}),
        ("roberta", "sequence-classification", {"num_labels": 1, "problem_type": "regression"}),
    ],
)
def test_what_was_saved_is_the_same_in_transformers(
    tiny: Any, tmp_path: Path, name: str, head: Any, fields: Any
) -> None:
    model = tiny(name, head, **fields)
    save_pretrained(model, tmp_path / "out")
    report = verify(tmp_path / "out", reference=model)
    assert report.ok, str(report)
    assert report.largest < 1e-5
    lengths = set(next(iter(report.differences.values())))
    assert lengths == {LENGTHS[0], model.config.max_length}
    assert {"embedding", "layer 1", "layer 2"} < set(report.differences)
    answers = {
        None: {"last hidden", "pooled"},
        "pretraining": {"masked-lm logits", "next-sentence logits"},
        "question-answering": {"start logits", "end logits"},
    }
    assert answers.get(head, {"logits"}) <= set(report.differences)


def test_a_bare_model_without_a_pooler(checkpoint: Any) -> None:
    made = checkpoint()
    made.tensors(lambda t: {name: x for name, x in t.items() if "pooler" not in name})
    report = verify(made.folder)
    assert report.ok, str(report)
    assert "pooled" not in report.differences


@pytest.mark.parametrize(
    "path",
    ["layer_1/attention/value/kernel", "head/output/bias", "embedding/token_type/embedding"],
)
def test_one_weight_off_by_a_hundredth_is_found(tiny: Any, tmp_path: Path, path: str) -> None:
    model = tiny("bert", "sequence-classification")
    save_pretrained(model, tmp_path / "out")
    params = flatten(model.params)
    params[path] = params[path].copy()
    params[path].reshape(-1)[0] += 1e-2
    report = verify(tmp_path / "out", reference=model.replace(params=unflatten(params)))
    assert not report.ok
    assert "NOT the same" in str(report)
    first = {"layer_1": "layer 2", "head": "logits", "embedding": "embedding"}[path.split("/")[0]]
    assert max(report.differences[first].values()) > 1e-4


def test_missing_unexpected_and_mismatched_keys_are_found(tiny: Any, checkpoint: Any) -> None:
    made = checkpoint("bert", "sequence-classification")

    def damage(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rest = {name: x for name, x in tensors.items() if name != "bert.pooler.dense.bias"}
        return {**rest, "classifier.bias": np.zeros(5, np.float32), "x": np.zeros(1, np.float32)}

    made.tensors(damage)
    report = verify(made.folder, reference=tiny("bert", "sequence-classification"))
    assert report.missing == ("bert.pooler.dense.bias",)
    assert report.unexpected == ("x",)
    assert report.mismatched == ("classifier.bias",)
    assert not report.ok


def test_the_report_is_a_table_and_nan_is_a_difference() -> None:
    found = {"embedding": {9: 1e-7, 33: 2e-7}, "layer 1": {9: 3e-7, 33: 4e-7}}
    report = VerifyReport(Path("out"), "BertModel", (), (), (), found, 1234, 5_600_000)
    assert report.ok
    lines = str(report).splitlines()
    assert lines[0].startswith("out: BertModel")
    assert lines[2].split() == ["embedding", "1.00e-07", "2.00e-07"]
    assert lines[-2:] == [
        "1,234 parameters in torch, 5.6 MB of weights",
        "the same (tolerance 0.0001)",
    ]
    for value in (float("nan"), float("inf"), 2e-4):
        bad = {**found, "logits": {9: 0.0, 33: value}}
        assert not VerifyReport(Path("out"), "BertModel", (), (), (), bad, 0, 0).ok


def test_without_torch_the_error_says_how_to_get_it(
    checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint().folder
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"verify needs torch.*pip install torch"):
        verify(folder)


def test_the_real_model_agrees_in_every_hidden_state(assets: Path, tmp_path: Path) -> None:
    source = assets / "models" / "all-MiniLM-L6-v2"
    report = verify(source)
    assert report.ok, str(report)
    hidden = [name for name in report.differences if name.startswith(("embedding", "layer"))]
    assert len(hidden) == 7
    convert(source, tmp_path / "out")
    before, after = (flatten(read(folder)[0].params) for folder in (source, tmp_path / "out"))
    for path, array in before.items():
        np.testing.assert_array_equal(array, after[path])
