"""More texts to distil on: words replaced by what a masked LM has in their place."""

import dataclasses
import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers.pre_tokenizers import BertPreTokenizer

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.data.masking import continuing
from effjax.data.token_cache import kept
from effjax.models.model import Model, forward, inputs
from effjax.tree import flatten
from effjax.types import Array, Batch, Int

Place = tuple[int, int]
"""A text and one of its words."""

Span = tuple[int, int]
"""The first character of a word, and the one after its last."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Copies of every text in which some words are others.

    Source: arXiv 1909.10351, algorithm 1. Deviations: the neighbours of a word in several pieces,
    which a masked LM cannot fill in, are sought among the masked LM's own word vectors, where the
    paper has GloVe's; each word is masked alone in the text as it was, where the algorithm goes on
    with what it has replaced; and frequent words are replaced as others are, which the authors'
    code spares.

    Words are those of BERT's first step, letters and digits together or one other sign, whatever
    the tokenizer; what replaces them is a token of letters that begins a word, as the tokenizer
    marks it. A word whose end is not the end of a token, as may be beside an apostrophe, stays.

    Attributes:
        source: the masked LM, a Hugging Face hub id or folder; its tokenizer is a fast one of
            WordPiece, or marks where words begin, as byte-level BPE and SentencePiece do.
        copies: of each text, besides itself; N_a of the paper.
        rate: share of the words that are replaced; p_t.
        candidates: how many words there are to choose from; K.
        seed: of what is replaced.
    """

    source: str
    copies: int = 20
    rate: float = 0.4
    candidates: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or self.candidates < 1 or not 0 < self.rate <= 1:
            raise ValueError(
                f"augmentation: copies is {self.copies}, candidates {self.candidates}, rate "
                f"{self.rate}; expected 1 or more, 1 or more, and a share above 0"
            )


def augmented(
    examples: Examples,
    model: Model,
    tokenizer: Any,
    how: Augmentation,
    *,
    batch_size: int = 64,
) -> Examples:
    """Every example and its copies, which have its labels.

    Args:
        model: a masked LM.
        tokenizer: its own.

    Raises:
        ValueError: the model has no masked-lm head, or nothing marks the tokenizer's words.
    """
    if model.config.head != "masked-lm":
        raise ValueError(f"words are replaced by a masked-lm head, not by {model.config.head!r}")
    whole = whole_words(tokenizer)
    texts = list(dict.fromkeys(text for column in examples.texts for text in column))
    number = {text: i for i, text in enumerate(texts)}
    words = [words_of(text) for text in texts]
    made = tokenizer(
        texts, truncation=True, max_length=model.config.max_length, return_offsets_mapping=True
    )
    tokens = {
        (i, word): at
        for i, (text, offsets) in enumerate(zip(texts, made["offset_mapping"], strict=True))
        for word, at in tokens_of(text, words[i], offsets).items()
    }
    count = min(how.candidates, len(whole))

    def draw(text: str, random: np.random.Generator) -> dict[int, int]:
        """Which words give way, and to which of their candidates."""
        at = number[text]
        changed = np.flatnonzero(random.random(len(words[at])) < how.rate).tolist()
        return {word: int(random.integers(count)) for word in changed if (at, word) in tokens}

    rows, drawn = list(zip(*examples.texts, strict=True)), []
    for i, row in enumerate(rows):
        random = np.random.default_rng((how.seed, i))
        drawn.append([[draw(text, random) for text in row] for _ in range(how.copies)])
    needed = {
        (number[text], word): tokens[number[text], word]
        for row, copies in zip(rows, drawn, strict=True)
        for copy in copies
        for text, changed in zip(row, copy, strict=True)
        for word in changed
    }
    found = candidates(made["input_ids"], needed, model, tokenizer, whole, count, batch_size)
    columns = tuple([] for _ in examples.texts)
    for row, copies in zip(rows, drawn, strict=True):
        for column, text, *changes in zip(columns, row, *copies, strict=True):
            at = number[text]
            column.append(text)
            for changed in changes:
                others = {word: whole[int(found[at, word][i])] for word, i in changed.items()}
                column.append(with_words(text, words[at], others))
    times = how.copies + 1
    labels = None if examples.labels is None else np.repeat(examples.labels, times, axis=0)
    return Examples(columns, labels, np.arange(times * len(examples), dtype=np.int32))


def augmented_once(examples: Examples, model: Model, tokenizer: Any, how: Augmentation) -> Examples:
    """As `augmented`, from the cache folder where the same was made before: a masked LM that fills
    in some hundred thousand words takes its time, and a run that was interrupted goes on.
    """
    settings = {**dataclasses.asdict(how), "source": model.digest}
    rule = ["augmented", settings, Path(__file__).read_text("utf-8")]
    make = functools.partial(augmented, examples, model, tokenizer, how)
    return kept("texts", rule, tokenizer, examples, make)


def with_words(text: str, words: Sequence[Span], others: dict[int, str]) -> str:
    """The text with others in the place of some of its words."""
    made, done = "", 0
    for i, (start, end) in enumerate(words):
        word = others.get(i, text[start:end])
        # Where a word took the place of a sign, it is kept apart from the words beside it.
        apart = start == done and made[-1:].isalnum() and word[0].isalnum()
        made += (" " if apart else text[done:start]) + word
        done = end
    return made + text[done:]


def words_of(text: str) -> list[Span]:
    """Where the words of a text are: letters and digits together, or one other sign."""
    return [span for _, span in BertPreTokenizer().pre_tokenize_str(text)]


def tokens_of(text: str, words: Sequence[Span], offsets: Sequence[Span]) -> dict[int, list[int]]:
    """The tokens of those words that are made of whole tokens.

    Args:
        offsets: of every token; the space before a word may be in it.
    """
    firsts, found = [start for start, _ in words], dict[int, list[int]]()
    starts = [end - len(text[start:end].lstrip()) for start, end in offsets]
    for at, (start, (_, end)) in enumerate(zip(starts, offsets, strict=True)):
        word = bisect_right(firsts, start) - 1
        if start < end and word >= 0 and end <= words[word][1]:
            found.setdefault(word, []).append(at)
    return {
        word: at for word, at in found.items() if words[word] == (starts[at[0]], offsets[at[-1]][1])
    }


def candidates(
    ids: Sequence[list[int]],
    places: dict[Place, list[int]],
    model: Model,
    tokenizer: Any,
    names: dict[int, str],
    count: int,
    batch_size: int,
) -> dict[Place, np.ndarray]:
    """The ids, among those of `names`, of the words that may stand in each place.

    Args:
        ids: the tokens of each text.
        places: the tokens of each word that may give way.
    """
    whole = np.array(list(names), np.int32)
    single = {place: at[0] for place, at in places.items() if len(at) == 1}
    masked = []
    for (text, _), at in single.items():
        masked.append([*ids[text][:at], tokenizer.mask_token_id, *ids[text][at + 1 :]])
    found = dict[Place, np.ndarray]()
    if masked:
        masks = np.fromiter(single.values(), np.int32)
        filled = fill(model, masked, masks, whole, count, batch_size)
        found |= dict(zip(single, filled, strict=True))
    pieces = {
        place: tuple(ids[place[0]][i] for i in at) for place, at in places.items() if len(at) > 1
    }
    near = neighbours(model, sorted(set(pieces.values())), whole, count)
    return found | {place: near[of] for place, of in pieces.items()}


def whole_words(tokenizer: Any) -> dict[int, str]:
    """The words in one piece, of letters alone, by their ids, which ascend."""
    inside, found = set(continuing(tokenizer)), {}
    for i, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        word = "" if i in inside else tokenizer.convert_tokens_to_string([token]).strip()
        if word.isalpha():
            found[i] = word
    return found


def fill(
    model: Model,
    masked: list[list[int]],
    at: np.ndarray,
    whole: np.ndarray,
    count: int,
    batch_size: int,
) -> np.ndarray:
    """The `count` words that the model finds most probable in each sequence, where its mask is."""
    model, offsets = model.for_inference(), np.cumsum([0, *map(len, masked)])
    ids = np.fromiter((i for row in masked for i in row), np.int32, count=int(offsets[-1]))
    number = np.arange(len(masked), dtype=np.int32)
    encoded = Encoded(ids, np.zeros_like(ids), offsets, None, number)
    found = np.zeros((len(masked), count), np.int32)
    pad_id = model.config.pad_token_id
    for batch in eval_batches(encoded, batch_size, pad_id=pad_id, layout="padded"):
        place = at[batch["example"]][:, None]
        read = inputs(model.config, {**batch, "predicted": place})
        real = batch["example"] >= 0
        best = np.asarray(most_probable(model, read, jnp.asarray(whole), count))
        found[batch["example"][real]] = best[real]
    return found


@functools.partial(jax.jit, static_argnums=3)
def most_probable(
    model: Model, batch: Batch, whole: Int[Array, "words"], count: int
) -> Int[Array, "B count"]:
    logits: Any = forward(model, batch).logits
    return whole[jax.lax.top_k(logits[:, 0, whole], count)[1]]


def neighbours(
    model: Model, words: list[tuple[int, ...]], whole: np.ndarray, count: int
) -> dict[tuple[int, ...], np.ndarray]:
    """The words whose vectors have the largest cosine with the mean of some pieces'."""
    table = np.asarray(flatten(model.params)["embedding/word/embedding"], np.float32)
    others = table[whole] / np.linalg.norm(table[whole], axis=-1, keepdims=True)
    found = {}
    for pieces in words:
        cosines = others @ table[list(pieces)].mean(axis=0)
        found[pieces] = whole[np.argsort(-cosines, kind="stable")[:count]]
    return found
