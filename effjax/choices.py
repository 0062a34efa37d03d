"""Fields that have a few values to choose from: a misspelled one is refused where it is made."""

import functools
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_choices(record: Any, where: str = "") -> None:
    """Raises a ValueError for a field of a dataclass that is none of the values of its `Literal`.

    Args:
        where: what the line begins with, "training: ".
    """
    for name, choices in choices_of(type(record)).items():
        if (value := getattr(record, name)) not in choices:
            allowed = ", ".join(map(str, choices))
            raise ValueError(f"{where}{name} is {value!r}; allowed: {allowed}")


@functools.cache
def choices_of(kind: type) -> dict[str, tuple[Any, ...]]:
    """The values of every field of a dataclass that is a `Literal`, or one or None."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(one is NoneType or get_origin(one) is Literal for one in kinds):
            found[name] = tuple(x for one in kinds for x in get_args(one) or (None,))
    return found
