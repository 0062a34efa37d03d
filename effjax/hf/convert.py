"""A checkpoint in, a folder that stock transformers loads out."""

from pathlib import Path
from typing import Any, Literal

from effjax.hf.read import from_pretrained
from effjax.hf.sentence_transformers import read_sentence_encoder, save_sentence_encoder
from effjax.hf.source import VOCABULARIES, local_folder, model_folder, modules_of, read_object
from effjax.hf.write import SHARD_SIZE, DType, Layout, save_pretrained
from effjax.models.base import Head
from effjax.models.model import Model


def convert(
    source: str | Path,
    out: str | Path,
    *,
    head: Head | Literal["auto"] | None = "auto",
    layout: Layout | Literal["same"] = "same",
    dtype: DType = "float32",
    shard_size: int = SHARD_SIZE,
    overwrite: bool = False,
) -> Model:
    """Reads `source` and writes it to `out` with its tokenizer.

    A sentence-transformers folder stays one, unless a head is asked for. Takes and raises what
    `read` and `save_pretrained` do; the layout "same" is that of `source`.

    Returns:
        The model that was written.
    """
    folder = local_folder(source)
    options: dict[str, Any] = {"dtype": dtype, "shard_size": shard_size, "overwrite": overwrite}
    options["layout"] = layout_of(folder) if layout == "same" else layout
    tokenizer = model_folder(folder)
    if modules_of(folder) and head == "auto":
        encoder = read_sentence_encoder(folder)
        save_sentence_encoder(encoder, out, tokenizer=tokenizer, **options)
        return encoder.model
    model = from_pretrained(folder, head=head)
    save_pretrained(model, out, tokenizer=tokenizer, **options)
    return model


def layout_of(folder: str | Path) -> Layout:
    """ "compact" of a folder or hub id with small arrays of its own, "stock" of any other."""
    fields = read_object(model_folder(local_folder(folder)) / "config.json")
    return "compact" if "compact" in fields else "stock"


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer of a folder or hub id, as `transformers.AutoTokenizer` reads it.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoTokenizer

    folder = model_folder(local_folder(source))
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ValueError(f"{folder}: has no tokenizer; expected one of {', '.join(VOCABULARIES)}")
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{folder}: transformers does not read its tokenizer: {reason}") from error
