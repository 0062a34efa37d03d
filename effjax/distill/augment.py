"""More texts to distil on: words replaced by what a masked LM has in their place."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.models.model import Model, forward, inputs
from effjax.tree import flatten
from effjax.types import Array, Batch, Int

Place = tuple[int, int]
"""A text and one of its words."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Copies of every text in which some words are others.

    Source: arXiv 1909.10351, algorithm 1. Deviation: the neighbours of a word in several pieces,
    which a masked LM cannot fill in, are sought among the masked LM's own word vectors, where the
    paper has GloVe's.

    Attributes:
        source: the masked LM, a Hugging Face hub id or folder.
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
        tokenizer: its own, of WordPiece.

    Raises:
        ValueError: the model has no masked-lm head, or the tokenizer is of another kind.
    """
    if model.config.head != "masked-lm":
        raise ValueError(f"words are replaced by a masked-lm head, not by {model.config.head!r}")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if type(getattr(backend, "model", None)).__name__ != "WordPiece":
        raise ValueError(
            f"words are replaced in the pieces of WordPiece; this is a {type(tokenizer).__name__}"
        )
    texts = list(dict.fromkeys(text for column in examples.texts for text in column))
    words = [words_of(tokenizer, text) for text in texts]
    found = candidates(words, model, tokenizer, how.candidates, batch_size)
    names = np.array(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    number = {text: i for i, text in enumerate(texts)}

    def copy(text: str, random: np.random.Generator) -> str:
        at, kept = number[text], []
        changed = random.random(len(words[at])) < how.rate
        for i, (word, change) in enumerate(zip(words[at], changed, strict=True)):
            choice = found.get((at, i)) if change else None
            kept.append(word if choice is None else str(names[random.choice(choice)]))
        return " ".join(kept)

    columns = tuple([] for _ in examples.texts)
    for row, original in enumerate(zip(*examples.texts, strict=True)):
        random = np.random.default_rng((how.seed, row))
        copies = ([copy(text, random) for text in original] for _ in range(how.copies))
        for texts_of_row in (original, *copies):
            for column, text in zip(columns, texts_of_row, strict=True):
                column.append(text)
    times = how.copies + 1
    labels = None if examples.labels is None else np.repeat(examples.labels, times, axis=0)
    return Examples(columns, labels, np.arange(times * len(examples), dtype=np.int32))


def words_of(tokenizer: Any, text: str) -> list[str]:
    """The words that the tokenizer cuts into pieces."""
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [word for word, _ in cut]


def candidates(
    words: Sequence[list[str]],
    model: Model,
    tokenizer: Any,
    count: int,
    batch_size: int,
) -> dict[Place, np.ndarray]:
    """The ids of the words that may stand in each place; a place beyond what the model reads has
    none.
    """
    made = tokenizer(
        list(words), is_split_into_words=True, truncation=True, max_length=model.config.max_length
    )
    masked, masks, places, found = [], [], [], dict[Place, np.ndarray]()
    pieces: dict[Place, tuple[int, ...]] = {}
    for text, ids in enumerate(made["input_ids"]):
        of_word: dict[int, list[int]] = {}
        for at, word in enumerate(made.word_ids(text)):
            if word is not None:
                of_word.setdefault(word, []).append(at)
        for word, at in of_word.items():
            if len(at) == 1:
                masked.append([*ids[: at[0]], tokenizer.mask_token_id, *ids[at[0] + 1 :]])
                masks.append(at[0])
                places.append((text, word))
            else:
                pieces[text, word] = tuple(ids[i] for i in at)
    whole = whole_words(tokenizer)
    count = min(count, len(whole))
    if masked:
        filled = fill(model, masked, np.array(masks, np.int32), whole, count, batch_size)
        found |= dict(zip(places, filled, strict=True))
    near = neighbours(model, sorted(set(pieces.values())), whole, count)
    return found | {place: near[of] for place, of in pieces.items()}


def whole_words(tokenizer: Any) -> np.ndarray:
    """The ids of words in one piece, ascending; of letters alone."""
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return np.array([i for i, name in enumerate(names) if name.isalpha()], np.int32)


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
