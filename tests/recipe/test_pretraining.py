"""Pretraining at the smallest size, through the code that `effjax run` runs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer

from effjax import hf
from effjax.data.batches import eval_batches
from effjax.data.encode import IGNORED
from effjax.recipe import NewModel, Pretraining
from effjax.train import Training
from effjax.train.logs import read_history

TRAINING = Training(epochs=6, batch_size=50, learning_rate=1e-2, b2=0.98, max_length=16)
MASKED_LM = Pretraining(
    corpus=("texts.txt",),
    held_out=100,
    vocab_size=200,
    model=NewModel(hidden=32, layers=1, heads=2, ffn=64, dropout=0.0),
    training=replace(TRAINING, layout="padded"),
)
ELECTRA = replace(
    MASKED_LM,
    model=replace(MASKED_LM.model, layers=2),
    generator=NewModel(hidden=16, layers=1, heads=1, ffn=32, dropout=0.0),
    training=replace(MASKED_LM.training, epochs=20, learning_rate=5e-3),
)
TOPICS = [[first + last for last in "aeio"] for first in "bcdfghjklm"]


def texts(count: int) -> str:
    """Documents of 8 words about one of ten topics, each with 4 words of its own: who looks at
    the other words knows the topic, and a word then is 10 times as likely. All have one length, so
    that there is one shape to compile for.
    """
    random = np.random.default_rng(0)
    chosen = (random.choice(TOPICS[random.integers(10)], 8) for _ in range(count))
    return "".join(f"{' '.join(words)}\n" for words in chosen)


def ran(recipe: Pretraining, folder: Path) -> Path:
    """The recipe's folder after a run; a second one trains nothing."""
    (folder / "texts.txt").write_text(texts(1100))
    out, recipe = folder / "out", replace(recipe, corpus=(str(folder / "texts.txt"),))
    recipe.run(out)
    first = json.loads((out / "results.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("effjax.recipe.pretraining.fit", None)
        recipe.run(out)
    assert json.loads((out / "results.json").read_text())["held_out"] == first["held_out"]
    return out


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(MASKED_LM, tmp_path_factory.mktemp("masked-lm"))


@pytest.fixture(scope="module")
def electra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(ELECTRA, tmp_path_factory.mktemp("electra"))


EXAMPLES = ["ba [MASK] co bu", "di"]


def same_logits(folder: Path, auto: Any) -> None:
    """transformers loads the folder, with nothing missing, and gives the same logits."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    inputs = tokenizer(EXAMPLES, return_tensors="np", padding=True)
    with torch.no_grad():
        wanted = theirs.eval()(**tokenizer(EXAMPLES, return_tensors="pt", padding=True)).logits
    found = hf.from_pretrained(folder)(inputs).logits
    np.testing.assert_allclose(np.asarray(found), wanted.numpy(), atol=1e-4)


def test_a_masked_lm_learns_from_context(masked_lm: Path) -> None:
    """Frequencies alone give log(40) = 3.69, the topic gives log(4) = 1.39."""
    report = json.loads((masked_lm / "results.json").read_text())
    found = report["held_out"]
    assert report["unigram_loss"] == pytest.approx(math.log(40), abs=0.02)
    assert math.log(3) < found["loss"] < (math.log(40) + math.log(4)) / 2
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["accuracy"] > 4 / 40
    documents = len(set(texts(1100).splitlines()))  # twice the same one is one
    assert report["tokens"] == {"train": 10 * (documents - 100), "held_out": 10 * 100}
    assert report["steps"] == 120
    assert {"commit", "machine", "recipe", "wall_seconds"} <= set(report)
    looks = [r for r in read_history(masked_lm / "runs" / "seed-0") if "held_out/loss" in r]
    assert [look["step"] for look in looks] == [20, 40, 60, 80, 100, 120]
    assert looks[-1]["held_out/loss"] == found["loss"] < looks[0]["held_out/loss"]
    assert (masked_lm / "runs" / "seed-0" / "curves.png").stat().st_size > 1000
    assert not list(masked_lm.rglob("checkpoints"))


def test_a_published_encoder_goes_on(masked_lm: Path, tmp_path: Path) -> None:
    """With its own tokens; after a few steps it is as good as it was, and not as if it were new."""
    (tmp_path / "texts.txt").write_text(texts(1100))
    source = {"source": str(masked_lm / "model"), "corpus": (str(tmp_path / "texts.txt"),)}
    training = replace(MASKED_LM.training, learning_rate=1e-4)
    replace(MASKED_LM, **source, model=NewModel(), training=training, steps=3).run(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    before = json.loads((masked_lm / "results.json").read_text())["held_out"]["loss"]
    assert report["steps"] == 3
    assert report["held_out"]["loss"] == pytest.approx(before, abs=0.05)
    ours, theirs = (hf.load_tokenizer(x / "model") for x in (tmp_path / "out", masked_lm))
    assert ours.get_vocab() == theirs.get_vocab()


def test_a_published_encoder_brings_its_tokenizer() -> None:
    for field in ({"tokenizer": "x"}, {"generator": NewModel()}, {"model": NewModel(layers=3)}):
        with pytest.raises(ValueError, match=r"goes on with ours, .* leave tokenizer, model and"):
            replace(MASKED_LM, source="ours", **field)


def test_words_are_masked_whole_by_choice(masked_lm: Path) -> None:
    tokenizer = hf.load_tokenizer(masked_lm / "model")
    for whole in (False, True):
        masking = replace(MASKED_LM, whole_words=whole).method(tokenizer).masking
        assert bool(masking.continuing) == whole


def test_transformers_loads_the_masked_lm(masked_lm: Path) -> None:
    same_logits(masked_lm / "model", AutoModelForMaskedLM)
    config = json.loads((masked_lm / "model" / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 1)
    assert (config["max_position_embeddings"], config["hidden_dropout_prob"]) == (16, 0.0)
    assert "held_out perplexity" in (masked_lm / "model" / "README.md").read_text()


@pytest.mark.slow
def test_a_discriminator_learns_what_is_replaced(electra: Path) -> None:
    """Far below the loss of who knows only how often ordinary words, 8 tokens of 10, are replaced;
    and right more often than who calls all tokens original.
    """
    found = json.loads((electra / "results.json").read_text())["held_out"]
    share = (1 - found["majority"]) * 10 / 8
    assert 0.1 < share < share_hidden(electra)  # since some are guessed rightly
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert found["loss"] < 0.75 * entropy * 8 / 10
    assert found["accuracy"] > found["majority"] + 0.03
    assert found["generator/loss"] < (math.log(40) + math.log(4)) / 2


def share_hidden(out: Path) -> float:
    """Of the ordinary tokens held out, those that an evaluation hides: of so few, not just 15 %."""
    recipe = replace(ELECTRA, corpus=(str(out.parent / "texts.txt"),))
    corpus = recipe.prepare()
    masking = recipe.method(corpus.tokenizer).masking
    (batch,) = eval_batches(corpus.held_out, len(corpus.held_out), pad_id=0)
    ordinary = np.isin(batch["input_ids"], masking.ordinary)
    hidden = masking(batch, seed=0, epoch=0)["labels"] != IGNORED
    return hidden.sum() / ordinary.sum()


@pytest.mark.slow
def test_the_discriminator_is_an_ordinary_model(electra: Path) -> None:
    same_logits(electra / "model", AutoModelForTokenClassification)
    model = hf.from_pretrained(electra / "model")
    assert model.config.labels == ("original", "replaced")
    assert "generator" not in model.params


def test_another_corpus_is_another_recipe(masked_lm: Path) -> None:
    with pytest.raises(
        ValueError, match=r"other settings: corpus\.0: .*texts\.txt -> toy/sentiment"
    ):
        replace(MASKED_LM, corpus=("toy/sentiment",)).run(masked_lm)


def test_a_tokenizer_of_another_model(masked_lm: Path, tmp_path: Path) -> None:
    """For an architecture whose positions begin after the padding."""
    (tmp_path / "texts.txt").write_text(texts(50))
    new = NewModel(architecture="roberta", size="base", hidden=24, layers=1, heads=2, ffn=8)
    recipe = replace(
        MASKED_LM,
        corpus=(str(tmp_path / "texts.txt"),),
        held_out=10,
        tokenizer=str(masked_lm / "model"),
        model=new,
    )
    corpus = recipe.prepare()
    assert (len(corpus.train), len(corpus.held_out)) == (40, 10)
    assert not set(corpus.held_out.idx) & set(corpus.train.idx)
    method = recipe.method(corpus.tokenizer)
    config = method.model.config
    assert (config.vocab_size, config.max_length, config.positions) == (
        len(corpus.tokenizer),
        16,
        17,
    )
    assert (config.hidden, config.num_layers, config.dropout) == (24, 1, 0.1)
    assert method.masking.mask_id == corpus.tokenizer.mask_token_id


def test_a_corpus_that_is_too_small_says_how_small_it_is(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One line.\nOne line.\n")
    corpus = (str(tmp_path / "text.txt"),)
    recipe = Pretraining(corpus=corpus, held_out=1, training=Training())
    with pytest.raises(
        ValueError, match=r"text\.txt: it has 1 different documents, and held_out is"
    ):
        recipe.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mistyped_corpus_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus 'nowhere\.txt' is neither a text file"):
        replace(MASKED_LM, corpus=("nowhere.txt",)).run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
