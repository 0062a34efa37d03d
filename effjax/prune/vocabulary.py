"""A smaller vocabulary, of the model and of its tokenizer.

    small, tokenizer = vocabulary(model, tokenizer, texts)
    save_pretrained(small, folder, tokenizer=tokenizer)

Whatever its kind, a tokenizer is read and written as the JSON that the library tokenizers saves.
"""

import copy
import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from effjax.models.base import EncoderConfig
from effjax.models.model import Model
from effjax.prune.shrink import named_tokens, shrink
from effjax.types import Int

KINDS = ("WordPiece", "BPE", "Unigram")

AT_ONCE = 1000
"""Texts that are tokenised together."""


def vocabulary(
    model: Model, tokenizer: Any, texts: Iterable[str], *, at_least: int = 1
) -> tuple[Model, Any]:
    """The model and its tokenizer with only those tokens that the texts need.

    Kept are the tokens that occur often enough; those that are special, were added, or have a name
    in the config; all single characters, within a word too, so that a word of such characters can
    still be spelled; and what the kept ones are merged from. With `at_least` 1 the texts become the
    same tokens as before; with more, rare words are spelled by those of their pieces that are kept.

    Source: arXiv 2010.05609. Deviations: occurrences are counted, not the texts that a token is in;
    the tokens above are kept whether they occur or not.

    Args:
        tokenizer: a fast one of transformers: WordPiece, BPE or Unigram.
        at_least: how often a token has to occur, over all texts.

    Returns:
        The smaller model, and a new tokenizer of the same class and settings.

    Raises:
        ValueError: the tokenizer is of another kind or has tokens that the model lacks, there are
            no texts, or transformers does not read back what the smaller tokenizer is.
    """
    state = state_of(tokenizer, model.config)
    if at_least < 1:
        raise ValueError(f"vocabulary: at_least is {at_least}; expected 1 or more")
    named = named_in(state, tokenizer) | named_in_config(model.config)
    numbers = tokenizer.get_vocab()
    unknown_token = numbers.get(state["model"].get("unk_token"))
    counts, unknown = count(tokenizer, texts, model.config.vocab_size, unknown_token)
    tokens = {token for token, i in numbers.items() if i in named or counts[i] >= at_least}
    tokens |= needed(state["model"], tokens, unknown)
    kept = sorted(named | {numbers[token] for token in tokens})
    small = shrink(model, {"vocabulary": np.array(kept)})
    new = {old: number for number, old in enumerate(kept)}
    return small, rebuilt(tokenizer, renumbered(state, new))


def state_of(tokenizer: Any, config: EncoderConfig) -> dict[str, Any]:
    """What the library tokenizers would save of it.

    Raises:
        ValueError: it is of no kind that can become smaller, or has tokens that the model lacks.
    """
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"vocabulary: {name} is no fast tokenizer of transformers")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = state["model"]["type"]
    if kind not in KINDS:
        raise ValueError(f"vocabulary: the tokenizer is a {kind}; supported: {', '.join(KINDS)}")
    last = max(tokenizer.get_vocab().values())
    if last >= config.vocab_size:
        raise ValueError(
            f"vocabulary: the tokenizer has token {last}; the model has 0 to "
            f"{config.vocab_size - 1}"
        )
    return state


def count(
    tokenizer: Any, texts: Iterable[str], size: int, unknown_token: int | None
) -> tuple[Int[np.ndarray, "V"], set[str]]:
    """How often the tokenizer reads each token, and the words of the texts that have the unknown
    one.

    Raises:
        ValueError: there are no texts.
    """
    if isinstance(texts, str):
        raise ValueError("vocabulary: texts is one string; expected several")
    counts, unknown = np.zeros(size, np.int64), set()
    for batch in batches(texts):
        made = tokenizer(
            batch,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        ids = np.fromiter(itertools.chain.from_iterable(made), np.int64)
        counts += np.bincount(ids, minlength=size)
        for text, ids in zip(batch, made, strict=True):
            if unknown_token in ids:
                unknown.update(words(tokenizer, text))
    return counts, unknown


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Some of them at a time; raises a ValueError where there are none."""
    rest = iter(texts)
    first = list(itertools.islice(rest, AT_ONCE))
    if not first:
        raise ValueError("vocabulary: there are no texts")
    while first:
        yield first
        first = list(itertools.islice(rest, AT_ONCE))


def words(tokenizer: Any, text: str) -> Iterator[str]:
    """What the tokenizer's model is given of a text, one word at a time."""
    backend = tokenizer.backend_tokenizer
    added = "|".join(map(re.escape, tokenizer.added_tokens_encoder))
    for part in re.split(added, text) if added else [text]:
        part = backend.normalizer.normalize_str(part) if backend.normalizer else part
        if backend.pre_tokenizer:
            yield from (word for word, _ in backend.pre_tokenizer.pre_tokenize_str(part))
        else:
            yield part


def named_in(state: dict[str, Any], tokenizer: Any) -> set[int]:
    """The ids of special and added tokens, and of those that templates and padding name."""
    found = set(tokenizer.all_special_ids) | {token["id"] for token in state["added_tokens"]}
    for part in with_ids(state["post_processor"]):
        found |= {x for x in part if isinstance(x, int)}
    return found | ({state["padding"]["pad_id"]} if state["padding"] else set())


def with_ids(processor: dict[str, Any] | None) -> list[list[Any]]:
    """The lists of a post-processor that hold ids; other entries are strings."""
    match processor:
        case {"type": "TemplateProcessing", "special_tokens": special}:
            return [token["ids"] for token in special.values()]
        case {"type": "RobertaProcessing" | "BertProcessing", "sep": sep, "cls": cls}:
            return [sep, cls]
        case {"type": "Sequence", "processors": parts}:
            return [found for part in parts for found in with_ids(part)]
    return []


def named_in_config(config: EncoderConfig) -> set[int]:
    """The ids that a model's config names, and those before the padding where positions count from
    it.
    """
    before = range(config.pad_token_id if config.first_position == "after-padding" else 0)
    return {*named_tokens(config).values(), *before}


def needed(model: dict[str, Any], tokens: set[str], unknown: set[str]) -> set[str]:
    """What a tokenizer's model needs beside the tokens that are kept for themselves: its token for
    what it does not know, characters, and what makes it read a text as before.
    """
    vocab = model["vocab"]
    pieces = [piece for piece, _ in vocab] if model["type"] == "Unigram" else list(vocab)
    found = {piece for piece in pieces if is_character(piece, model)}
    if model["type"] == "Unigram":
        # The score of an unknown character is the least one of the vocabulary less a constant.
        found.add(min(vocab, key=lambda entry: entry[1])[0])
        return found | ({pieces[model["unk_id"]]} if model["unk_id"] is not None else set())
    found |= {model["unk_token"]} & vocab.keys()
    if model["type"] == "WordPiece":
        return found.union(*(dead_end(word, model) for word in unknown))
    return found | merged_from(tokens | found, model)


def is_character(piece: str, model: dict[str, Any]) -> bool:
    """Whether it is one character, at any place in a word, or a byte that stands for a part of
    one.
    """
    inside = piece.removeprefix(model.get("continuing_subword_prefix") or "")
    last = inside.removesuffix(model.get("end_of_word_suffix") or "")
    byte = model.get("byte_fallback") and re.fullmatch("<0x[0-9A-F]{2}>", piece)
    return 1 in (len(piece), len(inside), len(last)) or bool(byte)


def dead_end(word: str, model: dict[str, Any]) -> set[str]:
    """The pieces that WordPiece finds in a word that it cannot read to its end. Without them it
    would try shorter ones, and might get there.
    """
    vocab, prefix = model["vocab"], model["continuing_subword_prefix"]
    found, start = set(), 0
    while start < len(word) <= model["max_input_chars_per_word"]:
        ends = range(len(word), start, -1)
        fitting = (end for end in ends if (prefix if start else "") + word[start:end] in vocab)
        end = next(fitting, None)
        if end is None:
            return found
        found.add((prefix if start else "") + word[start:end])
        start = end
    return set()


def merged_from(tokens: set[str], model: dict[str, Any]) -> set[str]:
    """All tokens that BPE goes through on its way to some."""
    parts: dict[str, set[str]] = {}
    for pair in model["merges"]:
        parts.setdefault(merged(pair, model), set()).update(pair)
    found, open_ = set(), list(tokens)
    while open_:
        new = parts.get(open_.pop(), set()) - found
        found |= new
        open_ += new
    return found


def merged(pair: list[str], model: dict[str, Any]) -> str:
    """The token that two become."""
    left, right = pair
    return left + right.removeprefix(model["continuing_subword_prefix"] or "")


def renumbered(state: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    """The state with only the tokens that have new numbers."""
    state = copy.deepcopy(state)
    model = state["model"]
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
    else:
        model["vocab"] = {token: new[i] for token, i in model["vocab"].items() if i in new}
    if model["type"] == "BPE":
        pairs = model["merges"]
        model["merges"] = [pair for pair in pairs if merged(pair, model) in model["vocab"]]
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    for part in with_ids(state["post_processor"]):
        part[:] = [new[x] if isinstance(x, int) else x for x in part]
    if state["padding"]:
        state["padding"]["pad_id"] = new[state["padding"]["pad_id"]]
    return state


def rebuilt(tokenizer: Any, state: dict[str, Any]) -> Any:
    """A tokenizer of the same class and settings with another state, as transformers reads it.

    Raises:
        ValueError: what it reads is another tokenizer.
    """
    sides = {name: getattr(tokenizer, name) for name in ("padding_side", "truncation_side")}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Path(folder, "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        found = type(tokenizer).from_pretrained(folder, **sides)
    found.name_or_path = tokenizer.name_or_path
    read = json.loads(found.backend_tokenizer.to_str())
    if other := [name for name in state if read[name] != state[name]]:
        raise ValueError(
            f"vocabulary: as a {type(tokenizer).__name__}, transformers reads the smaller "
            f"tokenizer with another {' and '.join(other)}"
        )
    return found
