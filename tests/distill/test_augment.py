"""Augmented texts: what is replaced, by what, and that labels stay."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from effjax import hf
from effjax.data.examples import Examples
from effjax.data.wordpiece import train_wordpiece
from effjax.distill import Augmentation, augment, augmented, augmented_once
from effjax.distill.augment import tokens_of, words_of
from effjax.models import Model, create

WORDS = ["red", "green", "blue", "cyan", "white", "black", "brown", "grey", "pink", "gold"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
HOW = Augmentation(source="", copies=50, rate=0.4, candidates=3)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Ten words in one piece each; all others are in several."""
    return train_wordpiece([" ".join(WORDS)] * 5, 120, max_length=16)


def byte_level() -> Any:
    """Words with their space, one that is inside of others too, and all single bytes."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    words = [*(f"Ġ{word}" for word in WORDS), "red"]
    pairs = ((word[:end], word[end]) for word in words for end in range(1, len(word)))
    merges = list(dict.fromkeys(pairs))
    vocabulary = [*SPECIAL, *sorted(letters), *map("".join, merges)]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return fast(core)


def sentence_pieces() -> Any:
    letters = sorted({letter for word in WORDS for letter in word} | {"▁", "."})
    vocabulary = [*SPECIAL, *letters, "red"]
    scores = [(piece, -9.0) for piece in vocabulary] + [(f"▁{word}", -1.0) for word in WORDS]
    core = Tokenizer(models.Unigram(scores, unk_id=3))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return fast(core)


def fast(core: Tokenizer) -> Any:
    names = {f"{x}_token": f"<{x}>" for x in ("pad", "unk", "mask")}
    ends = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=16, **names, **ends)


def masked_lm(architecture: str, tokenizer: Any, **fields: Any) -> Model:
    return create(
        architecture,
        size="tiny" if architecture == "bert" else "base",
        head="masked-lm",
        key=jax.random.key(0),
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        initializer_range=0.7,
        **fields,
    )


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Model:
    return masked_lm("bert", tokenizer, max_position_embeddings=16)


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


@pytest.mark.parametrize("made", [byte_level, sentence_pieces])
def test_words_are_replaced_as_the_tokenizer_marks_them(made: Any, tmp_path: Path) -> None:
    """By words with a mark, without it, and never by a piece from inside one; what is between words
    stays. Held to transformers, with a mask where the word was.
    """
    tokenizer = made()
    model = masked_lm("roberta", tokenizer, num_hidden_layers=2, max_position_embeddings=18)
    mark = "Ġ" if made is byte_level else "▁"
    marked = {name[1:]: i for name, i in tokenizer.get_vocab().items() if name[0] == mark}
    whole = {word: i for word, i in marked.items() if word}
    text = "x green  blue gren"
    (found,) = augmented(examples([text], labels=[1]), model, tokenizer, HOW).texts
    words = [text.replace("  ", " ").split(" ") for text in found]
    assert found[0] == text and len(set(found)) > 9 and all(text.count("  ") == 1 for text in found)
    assert all({*row} <= {*whole, "x", "gren"} and len(row) == 4 for row in words)
    assert all(len({*column}) > 1 for column in zip(*words, strict=True))
    hf.save_pretrained(model, tmp_path / "model", tokenizer=tokenizer)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    at = ids[0].tolist().index(whole["blue"])
    ids[0, at] = tokenizer.mask_token_id
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits[0, at]
    best = sorted(whole, key=lambda word: -float(logits[whole[word]]))[:3]
    assert {row[2] for row in words} == {"blue", *best}


def test_a_word_that_shares_a_token_with_another_stays() -> None:
    """The token of `'t` is of two words; spaces may be in tokens, and a character in two."""
    text, words = "don't  café", words_of("don't  café")
    assert words == [(0, 3), (3, 4), (4, 5), (7, 11)]
    offsets = [(0, 0), (0, 3), (3, 5), (5, 6), (6, 9), (9, 10), (10, 11), (10, 11), (0, 0)]
    assert tokens_of(text, words, offsets) == {0: [1], 3: [4, 5, 6, 7]}


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


def test_what_is_between_words_stays_and_words_are_kept_apart(model: Model, tokenizer: Any) -> None:
    """Signs are words too, and may give way to one."""
    found = augmented(examples([" red,green  (blue)"], labels=[0]), model, tokenizer, HOW).texts[0]
    assert all(re.fullmatch(r" \w+(,| \w+ )\w+  (\(|\w+ )\w+(\)| \w+)", text) for text in found)
    assert {",", "(", ")"} <= {sign for text in found[1:] for sign in text}


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
    letters = Tokenizer(models.BPE({"<mask>": 0, "a": 1}, []))
    unmarked = PreTrainedTokenizerFast(tokenizer_object=letters, mask_token="<mask>")
    with pytest.raises(ValueError, match="does not mark where words begin; expected WordPiece"):
        augmented(given, model, unmarked, HOW)
    with pytest.raises(ValueError, match="augmentation: copies is 0"):
        replace(HOW, copies=0)


def test_only_words_that_give_way_are_filled_in(
    model: Model, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A masked LM is run for these alone; of ten words, for many copies, for all."""
    filled, fill = list[int](), augment.fill

    def counted(model: Model, masked: list[list[int]], *rest: Any) -> np.ndarray:
        filled.append(len(masked))
        return fill(model, masked, *rest)

    monkeypatch.setattr(augment, "fill", counted)
    given = examples([" ".join(WORDS)], labels=[0])
    (copy,) = augmented(given, model, tokenizer, replace(HOW, copies=1)).texts[0][1:]
    changed = sum(a != b for a, b in zip(copy.split(), WORDS, strict=True))
    augmented(given, model, tokenizer, HOW)
    assert changed <= filled[0] < filled[1] == len(WORDS)


def test_what_was_made_before_is_read(
    model: Model, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the same texts, model, tokenizer and settings; its source is only a name."""
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path))
    given = examples(["red green", "pink"], ["blue", "gold"], labels=[1, 0])
    made = augmented_once(given, model, tokenizer, HOW)
    assert made.texts == augmented(given, model, tokenizer, HOW).texts
    others = [
        (given, model, tokenizer, replace(HOW, seed=1)),
        (given.take([0]), model, tokenizer, HOW),
        (given, masked_lm("bert", tokenizer, max_position_embeddings=17), tokenizer, HOW),
    ]
    for other in others:
        augmented_once(*other)
    assert len(list((tmp_path / "texts").iterdir())) == 1 + len(others)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(augment, "augmented", refuse)
    found = augmented_once(given, model, tokenizer, replace(HOW, source="elsewhere"))
    assert found.texts == made.texts and found.labels is not None and made.labels is not None
    assert found.labels.tolist() == made.labels.tolist()
    assert found.idx.tolist() == made.idx.tolist()


def test_a_damaged_text_is_made_anew(
    model: Model, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path))
    given = examples(["red green"], labels=[1])
    made = augmented_once(given, model, tokenizer, HOW)
    (file,) = tmp_path.glob("texts/*/tokens.json")
    file.write_text(file.read_text().replace("red green", "red grecn"))
    assert augmented_once(given, model, tokenizer, HOW).texts == made.texts
    assert "grecn" not in file.read_text()
