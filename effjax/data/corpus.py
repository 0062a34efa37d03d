"""Corpora: documents without labels, from text files, TFDS or a task's training texts.

They are never all in memory: a corpus is read once to know its documents, and again by whoever
wants their texts. What stays is 12 bytes per document, and 4 per token once they are tokenised.

A document that is longer than a row is cut into several examples, so that no token is lost; one
example never holds parts of two documents, since packed rows leave no room to save by that (the
DOC-SENTENCES of arXiv 1907.11692, section 4.2, but for sentences: a cut may come anywhere).
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.bad_rows import STOP, BadRow, BadRows, Place, check_text, parsed
from effjax.data.datasets import load, stored_texts
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.data.tasks import TASKS, get_task

TFDS_TEXTS = {"wiki40b/en": "text", "pg19": "book_text"}
"""Datasets of TFDS that are corpora, and the column that has the text: articles of Wikipedia, and
books of Project Gutenberg.
"""

MARKS = re.compile(r"\s*(_START_(ARTICLE|SECTION|PARAGRAPH)_|_NEWLINE_)\s*")
"""Where wiki40b says what a line is; its headings stay as text."""


CHARACTERS = 1 << 21
"""What is tokenised at once, but for a longer document: about 100 MB of lists of ids."""

CHECK = functools.partial(check_text, "the document")


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents of corpora, whose texts are read anew each time one goes through them.

    Attributes:
        names: As of `load_corpus`. Tokens do not depend on where texts are: the digest has them.
        digest: Of all that the corpora held when they were first read.
        place: Where each document is among all of these, int64 [n], ascending.
        idx: As in `Examples`.
    """

    names: tuple[str, ...] = field(compare=False)
    digest: str
    place: np.ndarray
    idx: np.ndarray

    def __len__(self) -> int:
        return len(self.idx)

    def __iter__(self) -> Iterator[str]:
        """Raises ValueError at the end if the corpora are no longer what they were."""
        found, at = sha256(), 0
        for place, text in enumerate(chain.from_iterable(map(documents_of, self.names))):
            found.update(digest(text))
            if at < len(self) and place == self.place[at]:
                at += 1
                yield text
        if found.hexdigest() != self.digest:
            raise ValueError(f"corpus {', '.join(self.names)}: changed while it was read")

    @property
    def texts(self) -> tuple[Iterable[str]]:
        """The one column, as `Examples` have theirs."""
        return (self,)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Documents":
        """The documents at `indices`, which ascend."""
        rows = np.asarray(indices, np.int64)
        return replace(self, place=self.place[rows], idx=self.idx[rows])


def load_corpus(names: Sequence[str], bad: BadRows = STOP) -> Documents:
    """The documents of one corpus or several, each once however often it occurs: what is set aside
    of them is then really unseen.

    Args:
        names: Tasks, whose training texts are meant, each column a document of its own; datasets of
            `TFDS_TEXTS`; or text files with one document per line, in UTF-8.
        bad: What becomes of bad lines.

    Raises:
        ValueError: If there is no such corpus, or at a bad line, unless they are skipped.
    """
    first, found = dict[bytes, int](), sha256()
    for place, one in enumerate(chain.from_iterable(digests_of(name, bad) for name in names)):
        found.update(one)
        first.setdefault(one, place)
    places = np.fromiter(first.values(), np.int64, count=len(first))
    idx = np.arange(len(first), dtype=np.int32)
    return Documents(tuple(names), found.hexdigest(), places, idx)


def digest(text: str) -> bytes:
    """16 bytes by which a document is known."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digests_of(name: str, bad: BadRows) -> Iterable[bytes]:
    """Those of the documents of one corpus. Raises as `load_corpus` does."""
    if name in TFDS_TEXTS or name in TASKS or not Path(name).is_file():
        return map(digest, documents_of(name))
    rows = parsed(rows_of(Path(name)), digest)
    return bad.sift(Path(name), rows, unit="documents")[1]


def documents_of(name: str) -> Iterable[str]:
    """The documents of one corpus, without bad lines.

    Raises:
        ValueError: If there is no such corpus.
    """
    if name in TFDS_TEXTS:
        return (MARKS.sub(" ", text).strip() for text in stored_texts(name, TFDS_TEXTS[name]))
    if name in TASKS:
        examples = load(get_task(name), "train")
        if not isinstance(examples, Examples):
            texts = ", ".join(task.name for task in TASKS.values() if task.kind == "text")
            raise ValueError(f"{name} is no corpus of texts; tasks that are: {texts}")
        return chain.from_iterable(examples.texts)
    if Path(name).is_file():
        return (text for _, text in rows_of(Path(name)) if not isinstance(text, BadRow))
    known = ", ".join([*TFDS_TEXTS, *TASKS])
    raise ValueError(f"corpus {name!r} is neither a text file nor one of: {known}")


def read_documents(path: Path, bad: BadRows = STOP) -> list[str]:
    """The documents of a text file, one per line; blank lines are none.

    Raises:
        ValueError: If no line is good, or at the first bad one, unless they are skipped.
    """
    return bad.sift(path, rows_of(path), unit="documents")[1]


def rows_of(path: Path) -> Iterator[tuple[Place, str | BadRow]]:
    """The documents of a text file with their lines' numbers, the bad ones as `BadRow`."""
    stripped = ((number, line.strip()) for number, line in lines(path))
    return parsed((row for row in stripped if row[1]), CHECK)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of every line; only a newline ends one, with a return before it or
    not.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removesuffix("\n").removesuffix("\r")


def encode_documents(tokenizer: Any, documents: Documents | Examples, max_length: int) -> Encoded:
    """Tokenises documents whole, in pieces of at most `max_length` tokens, special tokens included.

    Returns:
        Examples without labels, whose `idx` is that of their document.
    """
    ids, lengths, idx, done = [], [], [], 0
    for texts in chunks(documents.texts[0]):
        flat, sizes, of = pieces(tokenizer, texts, max_length)
        ids.append(flat)
        lengths.append(sizes)
        idx.append(documents.idx[done + of])
        done += len(texts)
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    flat = np.concatenate(ids)
    # Zeros take no memory until they are read; `zeros_like` would write them.
    return Encoded(flat, np.zeros(flat.shape, np.int32), offsets, None, np.concatenate(idx))


def pieces(
    tokenizer: Any, texts: list[str], max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ids of all pieces of some texts, how many each piece has, and which text it is of."""
    made = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    sizes = np.array([len(ids) for ids in made["input_ids"]], np.int64)
    flat = np.fromiter(chain.from_iterable(made["input_ids"]), np.int32, count=int(sizes.sum()))
    return flat, sizes, np.asarray(made["overflow_to_sample_mapping"], np.int64)


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists, each of `CHARACTERS` and the rest of its last text."""
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def unigram_loss(train: Encoded, held_out: Encoded, ordinary: np.ndarray) -> float:
    """The cross-entropy, in nats per token, of a model that knows frequencies and no context.

    Args:
        train: What tokens are counted in; one is added to each count.
        held_out: What is predicted.
        ordinary: The ids that count, ascending; others are left out.
    """
    counts = np.bincount(train.input_ids, minlength=int(ordinary[-1]) + 1)[ordinary] + 1.0
    where = np.searchsorted(ordinary, held_out.input_ids[np.isin(held_out.input_ids, ordinary)])
    return float(-np.log(counts / counts.sum())[where].mean())
