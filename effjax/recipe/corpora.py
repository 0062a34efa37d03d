"""The text that a recipe without labels trains on."""

from dataclasses import dataclass
from typing import Any

from effjax.data.bad_rows import BadRows, OnBad
from effjax.data.corpus import encode_documents, load_corpus
from effjax.data.encode import Encoded
from effjax.data.examples import split_off
from effjax.data.token_cache import cached
from effjax.data.wordpiece import train_wordpiece


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents, tokenised.

    Attributes:
        train: what is trained on.
        held_out: what is reported.
    """

    tokenizer: Any
    train: Encoded
    held_out: Encoded

    @property
    def tokens(self) -> dict[str, int]:
        """How many there are, special ones included."""
        return {"train": len(self.train.input_ids), "held_out": len(self.held_out.input_ids)}


def read_corpus(
    names: tuple[str, ...],
    *,
    held_out: int,
    tokenizer: Any = None,
    vocab_size: int = 0,
    max_length: int,
    seed: int,
    on_bad: OnBad,
) -> Corpus:
    """Loads and tokenises a corpus; nothing of what is held out is trained on, nor is a vocabulary.

    Args:
        names: as of `load_corpus`.
        held_out: documents set aside.
        tokenizer: None trains a WordPiece vocabulary of `vocab_size` on the rest.
        max_length: tokens of an example; longer documents are several.
        seed: of what is set aside.
        on_bad: whether a bad line of a file stops, or is left out and counted.

    Raises:
        ValueError: there is no such corpus, or it is too small for what is held out.
    """
    documents = load_corpus(names, BadRows(on_bad))
    if not 0 < held_out < len(documents):
        raise ValueError(
            f"corpus {', '.join(names)}: it has {len(documents)} different documents, and held_out "
            f"is {held_out}; expected 1 or more, and fewer than there are"
        )
    train, rest = split_off(documents, held_out, seed)
    if tokenizer is None:
        tokenizer = train_wordpiece(train, vocab_size, max_length=max_length)
    return Corpus(
        tokenizer,
        cached(encode_documents, tokenizer, train, max_length),
        cached(encode_documents, tokenizer, rest, max_length),
    )
