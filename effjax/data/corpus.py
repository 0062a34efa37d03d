"""Corpora: documents without labels, from text files, TFDS or a task's training texts.

A document that is longer than a row is cut into several examples, so that no token is lost; one
example never holds parts of two documents, since packed rows leave no room to save by that (the
DOC-SENTENCES of arXiv 1907.11692, section 4.2, but for sentences: a cut may come anywhere).
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from effjax.data.bad_rows import STOP, BadRows, check_text, parsed
from effjax.data.datasets import load, load_texts
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.data.tasks import TASKS, get_task

TFDS_TEXTS = {"wiki40b/en": "text", "pg19": "book_text"}
"""Datasets of TFDS that are corpora, and the column that has the text: articles of Wikipedia, and
books of Project Gutenberg.
"""

MARKS = re.compile(r"\s*(_START_(ARTICLE|SECTION|PARAGRAPH)_|_NEWLINE_)\s*")
"""Where wiki40b says what a line is; its headings stay as text."""


def load_corpus(names: Sequence[str], bad: BadRows = STOP) -> Examples:
    """The documents of one corpus or several, each once however often it occurs: what is set aside
    of them is then really unseen.

    Args:
        names: Tasks, whose training texts are meant, each column a document of its own; datasets of
            `TFDS_TEXTS`; or text files with one document per line, in UTF-8.
        bad: What becomes of bad lines.

    Raises:
        ValueError: If there is no such corpus, or at a bad line, unless they are skipped.
    """
    found = chain.from_iterable(documents_of(name, bad) for name in names)
    documents = list(dict.fromkeys(found))
    return Examples((documents,), None, np.arange(len(documents), dtype=np.int32))


def documents_of(name: str, bad: BadRows) -> Iterable[str]:
    """The documents of one corpus. Raises as `load_corpus` does."""
    if name in TFDS_TEXTS:
        texts = load_texts(name, TFDS_TEXTS[name])
        return (MARKS.sub(" ", text).strip() for text in texts)
    if name in TASKS:
        examples = load(get_task(name), "train")
        if not isinstance(examples, Examples):
            texts = ", ".join(task.name for task in TASKS.values() if task.kind == "text")
            raise ValueError(f"{name} is no corpus of texts; tasks that are: {texts}")
        return chain.from_iterable(examples.texts)
    if Path(name).is_file():
        return read_documents(Path(name), bad)
    known = ", ".join([*TFDS_TEXTS, *TASKS])
    raise ValueError(f"corpus {name!r} is neither a text file nor one of: {known}")


def read_documents(path: Path, bad: BadRows = STOP) -> list[str]:
    """The documents of a text file, one per line; blank lines are none.

    Raises:
        ValueError: If no line is good, or at the first bad one, unless they are skipped.
    """
    check = functools.partial(check_text, "the document")
    return bad.sift(path, parsed(lines(path), check), unit="documents")[1]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of every line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line := line.strip():
                yield number, line


def encode_documents(tokenizer: Any, documents: Examples, max_length: int) -> Encoded:
    """Tokenises documents whole, in pieces of at most `max_length` tokens, special tokens included.

    Returns:
        Examples without labels, whose `idx` is that of their document.
    """
    made = tokenizer(
        documents.texts[0],
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    offsets = np.zeros(len(made["input_ids"]) + 1, np.int64)
    np.cumsum([len(ids) for ids in made["input_ids"]], out=offsets[1:])
    ids = np.fromiter(chain.from_iterable(made["input_ids"]), np.int32, count=int(offsets[-1]))
    document = np.asarray(made["overflow_to_sample_mapping"], np.int64)
    return Encoded(ids, np.zeros_like(ids), offsets, None, documents.idx[document])


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
