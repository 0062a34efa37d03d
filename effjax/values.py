"""Values on the command line: text to a value of an annotated type, and back.

Known are bool, int, float, str, Path, `Literal`, enums (by member name), unions of these with None,
and tuples of them. A field of any other type is set in the config file. Records in a union are no
values: where a recipe has one, its fields have names of their own.
"""

import dataclasses
import enum
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def parse(kind: Any, tokens: list[str]) -> Any:
    """The value of type `kind` that the tokens spell.

    Raises:
        ValueError: With what was expected.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _parse_union(arguments, tokens)
    if kind is tuple or origin is tuple:
        return _parse_tuple(arguments, tokens)
    if len(tokens) != 1:
        raise ValueError(f"expected one value ({spell(kind)})")
    return _parse_one(kind, tokens[0])


def _parse_union(members: tuple[Any, ...], tokens: list[str]) -> Any:
    if types.NoneType in members and [t.lower() for t in tokens] == ["none"]:
        return None
    for member in members:
        if member is not types.NoneType:
            try:
                return parse(member, tokens)
            except ValueError:
                continue
    raise ValueError(f"expected {' or '.join(map(spell, _plain(members)))}")


def _plain(members: tuple[Any, ...]) -> list[Any]:
    return [member for member in members if not dataclasses.is_dataclass(member)]


def _parse_tuple(members: tuple[Any, ...], tokens: list[str]) -> tuple[Any, ...]:
    if not members:
        raise ValueError("can only be changed in the config file")
    if len(members) == 2 and members[1] is Ellipsis:
        size = len(get_args(members[0])) if get_origin(members[0]) is tuple else 1
        if len(tokens) % size:
            raise ValueError(f"expected {size} values ({spell(members[0])}) each time")
        groups = (tokens[i : i + size] for i in range(0, len(tokens), size))
        return tuple(parse(members[0], group) for group in groups)
    if len(members) != len(tokens):
        raise ValueError(f"expected {len(members)} values ({spell(tuple[members])})")
    return tuple(parse(member, [token]) for member, token in zip(members, tokens, strict=True))


def _parse_one(kind: Any, token: str) -> Any:
    if get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in get_args(kind)}
    elif kind is bool:
        choices = {"true": True, "false": False}
        token = token.lower()
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = {member.name: member for member in kind}
    elif kind in (int, float, str, Path):
        try:
            return kind(token)
        except ValueError:
            raise ValueError(f"expected {spell(kind)}") from None
    else:
        raise ValueError("can only be changed in the config file")
    if token not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}")
    return choices[token]


def spell(kind: Any) -> str:
    """How a type is written in help and errors."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return "|".join(map(spell, _plain(arguments)))
    if origin is tuple and arguments:
        repeated = arguments[-1] is Ellipsis
        return f"[{spell(arguments[0])} ...]" if repeated else " ".join(map(spell, arguments))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(member.name for member in kind)
    known = {
        bool: "true|false",
        int: "INT",
        float: "FLOAT",
        str: "TEXT",
        Path: "PATH",
        types.NoneType: "none",
    }
    return known.get(kind, "(config file only)") if isinstance(kind, type) else "(config file only)"


def show(value: Any) -> str:
    """How a value is written, so that `parse` would read it."""
    if isinstance(value, tuple):
        return " ".join(map(show, value)) or "empty"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value.name if isinstance(value, enum.Enum) else str(value)
