"""Hugging Face in and out, without torch."""

from effjax.hf.convert import convert, layout_of, load_tokenizer
from effjax.hf.read import Report, from_pretrained, read
from effjax.hf.sentence_transformers import (
    SentenceEncoder,
    pool,
    read_sentence_encoder,
    save_sentence_encoder,
)
from effjax.hf.verify import VerifyReport, verify
from effjax.hf.write import save_pretrained

__all__ = [
    "Report",
    "SentenceEncoder",
    "VerifyReport",
    "convert",
    "from_pretrained",
    "layout_of",
    "load_tokenizer",
    "pool",
    "read",
    "read_sentence_encoder",
    "save_pretrained",
    "save_sentence_encoder",
    "verify",
]
