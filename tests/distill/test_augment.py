"""Augmented texts: what is replaced, by what, and that labels stay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from effjax import hf
from effjax.data.examples import Examples
from effjax.data.wordpiece import train_wordpiece
from effjax.distill import Augmentation, augmented
from effjax.models import Model, create

WORDS = ["red", "green", "blue", "cyan", "white", "black", "brown", "grey", "pink", "gold"]
HOW = Augmentation(source="", copies=50, rate=0.4, candidates=3)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Ten words in one piece each; all others are in several."""
    return train_wordpiece([" ".join(WORDS)] * 5, 120, max_length=16)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Model:
    return create(
        "bert",
        size="tiny",
        head="masked-lm",
        key=jax.random.key(0),
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
        initializer_range=0.7,
    )


def examples(*columns: list[str], labels: list[int]) -> Examples:
    index = np.arange(len(labels), dtype=np.int32)
    return Examples(columns, np.array(labels, np.int32), index)


def test_a_word_is_replaced_by_what_the_model_finds_probable(
    model: Model, tokenizer: Any, tmp_path: Path
) -> None:
    """Held to transformers: the same masked LM, one mask at a time."""
    given = examples(["red green blue", "pink"], labels=[1, 0])
    found = augmented(given, model, tokenizer, HOW)
    assert len(found) == 2 * 51
    assert found.labels is not None and found.labels.tolist() == [1] * 51 + [0] * 51
    assert found.texts[0][0] == "red green blue" and found.texts[0][51] == "pink"
    hf.save_pretrained(model, tmp_path / "model", tokenizer=tokenizer)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    words = [i for i, name in enumerate(names) if name.isalpha()]
    for place, masked in enumerate(("[MASK] green blue", "red [MASK] blue", "red green [MASK]")):
        with torch.no_grad():
            logits = theirs(**tokenizer(masked, return_tensors="pt")).logits[0, 1 + place]
        best = sorted(words, key=lambda i: -float(logits[i]))[:3]
        want = {*tokenizer.convert_ids_to_tokens(best), given.texts[0][0].split()[place]}
        assert {text.split()[place] for text in found.texts[0][:51]} == want


def test_as_many_words_are_replaced_as_asked_for(model: Model, tokenizer: Any) -> None:
    """A replacement may be the word itself, as often as it is with a rate of 1."""

    def changed(how: Augmentation) -> float:
        found = augmented(examples([" ".join(WORDS)], labels=[0]), model, tokenizer, how)
        copies = [text.split() for text in found.texts[0][1:]]
        return float(np.mean(np.array(copies) != WORDS))

    share = changed(replace(HOW, copies=300)) / changed(replace(HOW, copies=300, rate=1.0))
    assert share == pytest.approx(0.4, abs=0.04)


def test_a_word_in_pieces_gets_its_neighbours(model: Model, tokenizer: Any) -> None:
    """Of the table of words; an equal vector is the nearest of all."""
    pieces = tokenizer.tokenize("gren")
    assert len(pieces) > 1
    table = np.array(model.params["embedding"]["word"]["embedding"])
    ids = tokenizer.convert_tokens_to_ids(pieces)
    table[tokenizer.convert_tokens_to_ids("cyan")] = 2 * table[ids].mean(axis=0)
    params = jax.tree.map(lambda x: x, model.params)
    params["embedding"]["word"]["embedding"] = jax.numpy.asarray(table)
    one = replace(HOW, candidates=1, rate=1.0, copies=2)
    given = examples(["gren"], ["red gren"], labels=[4])
    found = augmented(given, model.replace(params=params), tokenizer, one)
    assert found.texts[0] == ["gren", "cyan", "cyan"]
    assert [text.split()[1] for text in found.texts[1]] == ["gren", "cyan", "cyan"]


def test_the_same_seed_gives_the_same_texts_and_examples_do_not_depend_on_others(
    model: Model, tokenizer: Any
) -> None:
    two = examples(["red green blue", "pink gold"], labels=[1, 0])
    found = augmented(two, model, tokenizer, HOW).texts[0]
    assert augmented(two, model, tokenizer, HOW).texts[0] == found
    assert augmented(two.take([0]), model, tokenizer, HOW).texts[0] == found[:51]
    assert augmented(two, model, tokenizer, replace(HOW, seed=1)).texts[0] != found


def test_words_beyond_what_the_model_reads_stay(model: Model, tokenizer: Any) -> None:
    text = " ".join(WORDS * 3)
    how = replace(HOW, rate=1.0, copies=1)
    copy = augmented(examples([text], labels=[0]), model, tokenizer, how).texts[0][1]
    assert copy.split()[14:] == text.split()[14:] and copy != text


def test_what_cannot_fill_in_words_is_named(model: Model, tokenizer: Any) -> None:
    given = examples(["red"], labels=[0])
    bare = model.replace(config=model.config.replace(head=None))
    with pytest.raises(ValueError, match="masked-lm head, not by None"):
        augmented(given, bare, tokenizer, HOW)
    with pytest.raises(ValueError, match="pieces of WordPiece; this is a str"):
        augmented(given, model, "tokenizer", HOW)
    with pytest.raises(ValueError, match="augmentation: copies is 0"):
        replace(HOW, copies=0)
