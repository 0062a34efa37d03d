"""WordPiece vocabularies trained on the spot, as Hugging Face tokenizers.

This module owns the step from raw texts to a BERT tokenizer that `AutoTokenizer` loads offline.
The texts are gone through twice and never all in memory; what stays is a count of every word. The
same texts always give the same vocabulary, so that a run from scratch can be repeated.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # BERT's order: padding is id 0


def _alphabet(texts: Iterable[str]) -> list[str]:
    """Every character as a piece, first in a word and, with "##", inside one; sorted."""
    normalizer, found = normalizers.BertNormalizer(lowercase=True), set[str]()
    for text in texts:
        found.update(normalizer.normalize_str(text))
    characters = sorted(found - {" "})
    return characters + [f"##{character}" for character in characters]


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    folder: str | Path | None = None,
    *,
    max_length: int = 512,
) -> BertTokenizer:
    """Trains a lower-case WordPiece vocabulary and returns it as BERT's tokenizer.

    The trainer of `tokenizers` numbers the single characters in hash order, which breaks ties
    between merges at random; here they are given to it first and sorted.

    Args:
        texts: The training texts, which can be gone through anew; their order does not matter.
        vocab_size: Upper bound on the number of pieces, special tokens included.
        folder: Where to save the tokenizer for `AutoTokenizer.from_pretrained`; not saved if None.
        max_length: The tokenizer's `model_max_length`.

    Raises:
        ValueError: If `vocab_size` does not even hold the special tokens and the alphabet, or the
            texts are an iterator, which is through after the first time.
    """
    if isinstance(texts, Iterator):
        raise ValueError(
            f"train_wordpiece: texts are a {type(texts).__name__}, which is gone through once; "
            "needs a list, or another iterable that begins anew"
        )
    first = [*SPECIAL, *_alphabet(texts)]
    if vocab_size < len(first):
        raise ValueError(
            f"train_wordpiece: vocab_size {vocab_size} is below the {len(first)} pieces every "
            "vocabulary has: special tokens and single characters"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=first, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = BertTokenizer(
        vocab=tokenizer.get_vocab(with_added_tokens=False), model_max_length=max_length
    )
    if folder is not None:
        trained.save_pretrained(folder)
    return trained
