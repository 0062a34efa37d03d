"""Folders with small arrays and their own code; that each architecture has them is a contract."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax.hf import from_pretrained, save_pretrained, verify
from effjax.hf.compact import CODE
from effjax.models import Model
from effjax.prune import factorised, shrink


def smaller(model: Model) -> Model:
    """Layers of several sizes, one without heads, and fewer words."""
    words = np.arange(model.config.vocab_size - 3)
    keep = {"layer_0/heads": np.array([1]), "layer_1/heads": np.arange(0), "vocabulary": words}
    return shrink(model, keep)


@pytest.mark.parametrize("head", [None, "masked-lm", "question-answering", "multiple-choice"])
def test_every_head_is_the_same_in_transformers(tiny: Any, tmp_path: Path, head: Any) -> None:
    small = smaller(tiny("bert", head))
    save_pretrained(small, tmp_path / "out", layout="compact")
    report = verify(tmp_path / "out", reference=small)
    assert report.ok and report.hf_class.startswith("CompactBert"), str(report)
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert fields["compact"]["sizes"] == {"layer_0/heads": 1, "layer_1/heads": 0}
    assert (tmp_path / "out" / CODE.name).read_bytes() == CODE.read_bytes()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "model = AutoModel" in card and '("out", trust_remote_code=True)' in card


def test_a_bare_encoder_is_read_with_a_new_head(tiny: Any, tmp_path: Path) -> None:
    small = smaller(tiny())
    save_pretrained(small, tmp_path / "out", layout="compact")
    model = from_pretrained(tmp_path / "out", head="sequence-classification", num_labels=3)
    assert model.config.layers == small.config.layers
    assert "auto_map" not in model.config.extra_fields


def test_only_code_of_effjax_is_run(tiny: Any, tmp_path: Path) -> None:
    save_pretrained(smaller(tiny()), tmp_path / "out", layout="compact")
    with (tmp_path / "out" / CODE.name).open("a") as file:
        file.write("raise SystemExit\n")
    with pytest.raises(ValueError, match="is not the code that this version of effjax writes"):
        verify(tmp_path / "out")


def test_narrower_hidden_states_are_compact_and_never_dense(tiny: Any, tmp_path: Path) -> None:
    model = tiny()
    small = shrink(model, {"hidden": np.arange(model.config.hidden - 1)})
    with pytest.raises(ValueError, match=r"wants heads x head size = hidden .* layout 'compact'"):
        save_pretrained(small, tmp_path / "dense", layout="dense")
    assert not (tmp_path / "dense").exists()
    save_pretrained(small, tmp_path / "compact", layout="compact")
    assert from_pretrained(tmp_path / "compact").config.hidden == model.config.hidden - 1


def test_two_factors_of_smaller_layers_are_small_in_transformers(tiny: Any, tmp_path: Path) -> None:
    """Layers of several sizes and ranks, one with nothing that had a rank left."""
    up, value = "feedforward/up/kernel", "attention/value/kernel"
    ranks = {f"layer_0/{up}": 3, f"layer_1/{value}": 5, f"layer_0/{value}": 2}
    whole = tiny("bert", "sequence-classification")
    small = smaller(factorised(whole, {**ranks, "embedding/word/embedding": 4}))
    save_pretrained(small, tmp_path / "out", layout="compact")
    assert verify(tmp_path / "out", reference=small).ok
    again = from_pretrained(tmp_path / "out")
    assert again.config.ranks == small.config.ranks
    assert "layer_1/attention/value/left" not in again.table.by_path
    fields = json.loads((tmp_path / "out" / "config.json").read_text())["compact"]
    assert fields["factors"] == {
        "bert.embeddings.word_embeddings": 4,
        "bert.encoder.layer.0.attention.self.value": 2,
        "bert.encoder.layer.0.intermediate.dense": 3,
    }


def test_tied_words_of_two_factors_are_refused(tiny: Any, tmp_path: Path) -> None:
    small = factorised(tiny("bert", "masked-lm"), {"embedding/word/embedding": 4})
    with pytest.raises(ValueError, match=r'output projection in torch, too.*"dense"') as caught:
        save_pretrained(small, tmp_path / "out", layout="compact")
    assert "\n" not in str(caught.value)
    save_pretrained(small, tmp_path / "out", layout="dense")
    assert verify(tmp_path / "out", reference=small).ok


@pytest.mark.parametrize("found", [{"ranks": {"layer_0/feedforward/up/kernel": 0}}, {"ranks": 3}])
def test_ranks_that_are_none_are_one_line(tiny: Any, tmp_path: Path, found: Any) -> None:
    save_pretrained(smaller(tiny()), tmp_path / "out", layout="compact")
    file = tmp_path / "out" / "config.json"
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(fields | {"compact": fields["compact"] | found}))
    with pytest.raises(ValueError, match="expected ranks by path") as caught:
        from_pretrained(tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", [3, {}, {"sizes": {"layer_0/heads": -1}}, {"sizes": [1]}])
def test_sizes_that_are_none_are_one_line(tiny: Any, tmp_path: Path, found: Any) -> None:
    save_pretrained(smaller(tiny()), tmp_path / "out", layout="compact")
    file = tmp_path / "out" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "compact": found}))
    with pytest.raises(ValueError, match="expected sizes by axis instance") as caught:
        from_pretrained(tmp_path / "out")
    assert "\n" not in str(caught.value)
