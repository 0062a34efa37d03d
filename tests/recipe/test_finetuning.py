"""Fine-tuning at the smallest size, through the code that `effjax run` runs."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.wordpiece import train_wordpiece
from effjax.models import create
from effjax.recipe import Finetuning
from effjax.train import Training
from effjax.train.logs import read_history
from tests.train.small_run import SIZES


def tiny_encoder(folder: Path) -> Path:
    """An untrained encoder with a vocabulary of the generated language, as a folder."""
    texts = toy.examples("train", size=600).texts[0]
    tokenizer = train_wordpiece(texts, 200, max_length=32)
    sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    model = create("bert", size="tiny", key=jax.random.key(0), **sizes)
    hf.save_pretrained(model, folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Finetuning:
    """Of a tiny encoder in a folder, on the generated language."""
    training = Training(epochs=2, batch_size=64, learning_rate=3e-3, max_length=32)
    return Finetuning(
        task="toy/sentiment",
        splits=("validation",),
        source=str(tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")),
        training=training,
        seeds=(0, 1),
        published=(("nobody", 0.5),),
    )


def test_every_seed_is_trained_once_and_reported(
    recipe: Finetuning,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, out = toy.examples, tmp_path / "out"
    monkeypatch.setattr(toy, "examples", lambda split: whole(split, size=600))
    recipe.run(out)
    report = json.loads((out / "results.json").read_text())
    found = [run["scores"]["validation"]["accuracy"] for run in report["runs"]]
    assert [run["seed"] for run in report["runs"]] == [0, 1]
    assert report["scores"]["validation"]["accuracy"]["mean"] == pytest.approx(np.mean(found))
    assert report["scores"]["validation"]["accuracy"]["sd"] == pytest.approx(np.std(found, ddof=1))
    assert report["published"] == {"nobody": 0.5}
    assert {"commit", "machine", "recipe", "wall_seconds"} <= set(report)
    looks = [r for r in read_history(out / "runs" / "seed-1") if "validation/accuracy" in r]
    assert [look["step"] for look in looks] == [10, 20]
    assert looks[-1]["validation/accuracy"] == found[1]
    assert (out / "runs" / "seed-1" / "curves.png").stat().st_size > 1000
    assert "validation/accuracy" in capsys.readouterr().err  # the final table of a seed
    assert hf.from_pretrained(out / "model").config.head == "sequence-classification"
    monkeypatch.setattr("effjax.recipe.finetuning.fit", None)  # a second call trains nothing
    recipe.run(out)
    assert json.loads((out / "results.json").read_text())["runs"] == report["runs"]
