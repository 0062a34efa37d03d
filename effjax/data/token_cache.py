"""Tokens on disk: what was tokenised once is read back as memory maps; so is what else is made of
examples with a tokenizer.

An entry is a folder `<kind>/<key>` in effjax's cache folder (`effjax.cache`), for tokens
`tokens/<key>`: one `.npy` per array and a description of the rest. Its key is a hash of all that
decides the tokens: the tokenizer, the examples, the longest length and the code that tokenises, so
an entry is never out of date. It is written whole or not at all, and checksums find what was
damaged later. The cache only ever saves time: where it fails, examples are tokenised as if there
were none, and the log says so.
"""

import functools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from effjax import cache
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.data.spans import Windows
from effjax.files import atomic_folder, write_json

log = logging.getLogger("effjax")

FORMAT = 2
"""How an entry is laid out; a change makes all older entries unknown."""

MIN_EXAMPLES = 1000
"""Fewer are tokenised each time, which takes no longer than to look them up."""

DESCRIPTION = "tokens.json"
TYPES = {kind.__name__: kind for kind in (Encoded, Windows, Examples)}

Made = TypeVar("Made", Encoded, Examples)

# What reading a damaged entry may raise: a missing or short file, no JSON, JSON of something else.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def cached(
    encode: Callable[[Any, Any, int], Encoded], tokenizer: Any, examples: Any, max_length: int
) -> Encoded:
    """What `encode(tokenizer, examples, max_length)` gives, from disk where it was made before.

    Args:
        encode: A function of `effjax.data`; it is known by its name.
        tokenizer: A Hugging Face fast tokenizer; tokens of another kind are not kept.
        examples: A dataclass of texts, words, numbers and arrays.
        max_length: Longest example in tokens.

    Returns:
        Arrays read from disk are read-only.
    """
    if len(examples) < MIN_EXAMPLES or not getattr(tokenizer, "is_fast", False):
        return encode(tokenizer, examples, max_length)
    rule = _rule(encode, max_length)
    return kept(
        "tokens", rule, tokenizer, examples, lambda: encode(tokenizer, examples, max_length)
    )


def kept(
    kind: str, rule: list[Any], tokenizer: Any, examples: Any, make: Callable[[], Made]
) -> Made:
    """What `make` gives, from disk where it was made before.

    Args:
        kind: The sub-folder of the cache folder.
        rule: All that decides what is made beside tokenizer and examples, as JSON has it.
    """
    folder = cache.folder(kind)
    if folder is None:
        return make()
    try:
        entry = folder / _hashed(rule, tokenizer, examples)
    except Exception as error:  # a tokenizer with parts in Python raises nothing narrower
        log.warning("%s not kept: there is no key for them (%s)", kind, error)
        return make()
    found = _read(entry)
    if found is None:
        found = make()
        _write(entry, found)
    return found


def key(
    encode: Callable[[Any, Any, int], Encoded], tokenizer: Any, examples: Any, max_length: int
) -> str:
    """The SHA-256 of all that the tokens depend on, in hexadecimal digits."""
    return _hashed(_rule(encode, max_length), tokenizer, examples)


def _rule(encode: Callable[[Any, Any, int], Encoded], max_length: int) -> list[Any]:
    return [f"{encode.__module__}.{encode.__qualname__}", max_length, *_rules()]


def _hashed(rule: list[Any], tokenizer: Any, examples: Any) -> str:
    digest = sha256()
    for part in (
        [FORMAT, *rule],
        _behaviour(tokenizer),
        *_contents(examples),
    ):
        # JSON lists end where they say: no two sequences of parts are written the same way. Half a
        # surrogate pair stays what it is; as an escape it could make a pair with its neighbour.
        text = json.dumps(part, ensure_ascii=False, default=_plain)
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@functools.cache
def _rules() -> list[str]:
    """The code that tokenises: whoever edits it does not get the tokens of the code before."""
    names = ("encode", "spans", "tagging", "kinds", "corpus")
    return [Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in names]


def _behaviour(tokenizer: Any) -> list[Any]:
    """All by which a fast tokenizer decides, whatever it did before."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # The last call's, and set anew by every call.
    state |= {"truncation": None, "padding": None}
    return [
        state,
        type(tokenizer).__name__,
        tokenizer.model_input_names,
        tokenizer.special_tokens_map,
        tokenizer.truncation_side,
        tokenizer.split_special_tokens,
        *(f"{library} {version(library)}" for library in ("tokenizers", "transformers")),
    ]


def _contents(examples: Any) -> Iterator[list[Any]]:
    """Every column that is compared, one at a time: the contexts of SQuAD alone are 100 MB."""
    for field in (field for field in fields(examples) if field.compare):
        yield [type(examples).__name__, field.name, getattr(examples, field.name)]


def _plain(value: Any) -> list[Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} in examples; allowed: texts, numbers and arrays")
    return [value.dtype.str, value.shape, value.tolist()]


def _read(entry: Path) -> Any:
    """What an entry holds; None if there is none, or it is damaged and now gone."""
    if not os.path.isdir(entry):  # `Path.is_dir` raises where a folder above may not be read
        return None
    try:
        return _load(entry)
    except _DAMAGE as error:
        log.warning("%s: damaged, made again (%s: %s)", entry, type(error).__name__, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _load(entry: Path) -> Encoded | Examples:
    described = json.loads((entry / DESCRIPTION).read_bytes())
    values = dict(described["values"])
    if _checksum_of_values(values) != described["checksum"]:
        raise ValueError(f"{DESCRIPTION} is not what was written")
    if "texts" in values:
        values["texts"] = tuple(values["texts"])  # JSON has lists alone
    for name, checksum in described["arrays"].items():
        path = entry / f"{name}.npy"
        if _checksum(path) != checksum:
            raise ValueError(f"{path.name} is not what was written")
        # A plain array on top of the memory map: slices of a np.memmap are slower.
        values[name] = np.asarray(np.load(path, mmap_mode="r"))
    return TYPES[described["type"]](**values)


def _write(entry: Path, made: Encoded | Examples) -> None:
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    try:
        with atomic_folder(entry) as partial:
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", array, allow_pickle=False)
            rest = {name: value for name, value in values.items() if name not in arrays}
            description = {
                "type": type(made).__name__,
                "arrays": {name: _checksum(partial / f"{name}.npy") for name in arrays},
                "values": rest,
                "checksum": _checksum_of_values(rest),
            }
            write_json(partial / DESCRIPTION, description)
    except OSError as error:
        # An entry that is there by now was written by another process, and holds the same.
        if not os.path.isdir(entry):
            log.warning("%s: not kept (%s: %s)", entry, type(error).__name__, error)


def _checksum(path: Path) -> int:
    """CRC-32: it guards against accidents alone, and every run reads it."""
    return zlib.crc32(np.memmap(path, np.uint8, "r").data)


def _checksum_of_values(values: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(values).encode())
