"""Typed overrides of any field of a recipe: `--train.learning-rate 3e-5`.

A recipe is a tree of frozen dataclasses. `flatten` gives every leaf a dotted name, `override`
parses values by the leaf's annotated type and rebuilds the tree with `dataclasses.replace`, so that
each record's own checks run again.

Names are the path of field names, written with `-` or `_`. In a tuple of records each is reached by
its field `name`, or by its position where it has none. What a named record contains is then one
level up, unless both have a field of the same name, and a tuple that is all of its record is not
named. So `objective.terms[0].weight` and `objective.terms[0].objective.temperature` of a `Weighted`
objective are `objective.soft.weight` and `objective.soft.temperature`.

tyro, which parses the other commands, is not used here: it names the terms of an objective by
position and reports an unknown field without the recipe's nearest names.
"""

import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import docstring_parser

from effjax import values

Recipe = TypeVar("Recipe")
Step = str | int


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One field that can be overridden.

    Args:
        name: The dotted name on the command line.
        path: Field names and tuple positions from the recipe to the value.
        type: The annotated type, resolved.
        value: What the recipe has now.
        doc: The field's line of documentation, or an empty string.
    """

    name: str
    path: tuple[Step, ...]
    type: Any
    value: Any
    doc: str


def flatten(recipe: Any) -> dict[str, Leaf]:
    """Every field of the recipe by its dotted name, in the order of the dataclasses.

    Raises:
        ValueError: If two fields get the same name.
    """
    leaves: dict[str, Leaf] = {}
    for leaf in _leaves(recipe, (), ()):
        if leaf.name in leaves:
            raise ValueError(f"two fields of the recipe are both called {leaf.name!r}; rename one")
        leaves[leaf.name] = leaf
    return leaves


def override(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """The recipe with the fields that the arguments name replaced.

    Args:
        recipe: A frozen dataclass, fields of which may be dataclasses or tuples of them.
        arguments: `--name value ...` or `--name=value`, as they come from the command line.

    Raises:
        ValueError: For an unknown field (with the closest names), a value that does not fit the
            field's type, a field given twice, or whatever the record's own checks refuse.
    """
    leaves = flatten(recipe)
    changes: dict[tuple[Step, ...], Any] = {}
    for given, tokens in _options(arguments):
        leaf = leaves.get(given.replace("_", "-"))
        if leaf is None:
            raise ValueError(_unknown(given, leaves))
        if leaf.path in changes:
            raise ValueError(f"recipe field {leaf.name!r} is given twice")
        try:
            changes[leaf.path] = values.parse(leaf.type, tokens)
        except ValueError as error:
            raise ValueError(
                f"recipe field {leaf.name!r}: {error}, not {' '.join(tokens)!r}"
            ) from None
    return _rebuild(recipe, changes)


def describe(recipe: Any) -> str:
    """A help text: every field with its type, its value in this recipe and its documentation."""
    lines = []
    for leaf in flatten(recipe).values():
        lines.append(
            f"  --{leaf.name} {values.spell(leaf.type)}  (default: {values.show(leaf.value)})"
        )
        if leaf.doc:
            lines.append(f"        {leaf.doc}")
    return "\n".join(lines)


# The tree of fields


def _leaves(record: Any, path: tuple[Step, ...], names: tuple[str, ...]) -> Iterator[Leaf]:
    annotations, docs = _annotations(type(record)), _docs(type(record))
    named = bool(path) and isinstance(path[-1], int) and _label(record) is not None
    for field in dataclasses.fields(record):
        if not field.init or (named and field.name == "name"):
            continue
        value, here = getattr(record, field.name), (*path, field.name)
        shown = (*names, field.name)
        if _is_record(value):
            yield from _leaves(value, here, names if named and _apart(record, value) else shown)
        elif isinstance(value, tuple) and value and all(map(_is_record, value)):
            for i, item in enumerate(value):
                label = _label(item)
                outer = names if label and len(dataclasses.fields(record)) == 1 else shown
                yield from _leaves(item, (*here, i), (*outer, label or str(i)))
        else:
            name = re.sub(r"[\s_]+", "-", ".".join(shown))
            kind = annotations.get(field.name, type(value))
            yield Leaf(name, here, kind, value, docs.get(field.name, ""))


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _apart(record: Any, inner: Any) -> bool:
    ours, theirs = ({field.name for field in dataclasses.fields(x)} for x in (record, inner))
    return not ours & theirs


def _label(record: Any) -> str | None:
    label = getattr(record, "name", None)
    return label if isinstance(label, str) else None


def _rebuild(record: Any, changes: dict[tuple[Step, ...], Any]) -> Any:
    if not changes:
        return record
    if () in changes:
        return changes[()]
    below: dict[Step, dict[tuple[Step, ...], Any]] = {}
    for (first, *rest), value in changes.items():
        below.setdefault(first, {})[tuple(rest)] = value
    if isinstance(record, tuple):
        return tuple(_rebuild(item, below.get(i, {})) for i, item in enumerate(record))
    replaced = {str(k): _rebuild(getattr(record, str(k)), v) for k, v in below.items()}
    return dataclasses.replace(record, **replaced)


def _annotations(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (
        NameError
    ):  # an annotation imported for type checkers only: the value's own type has to do
        return {}


def _docs(kind: type) -> dict[str, str]:
    # Those of the records that it is made from, and its own.
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        found |= _own_docs(one) if dataclasses.is_dataclass(one) else {}
    return found


def _own_docs(kind: type) -> dict[str, str]:
    # The "Args:" of the class docstring, or a string under the field, or the comment after it.
    try:
        comments = dict(re.findall(r"^\s+(\w+): .*?\S\s+# (.+)$", inspect.getsource(kind), re.M))
        described = docstring_parser.parse_from_object(kind).params
    except (OSError, TypeError):  # no source, such as a class typed at the prompt
        return {}
    docs = {p.arg_name: " ".join((p.description or "").split()) for p in described}
    return comments | {name: doc for name, doc in docs.items() if doc}


# Arguments


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    given: list[tuple[str, list[str]]] = []
    for token in arguments:
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            given.append((name, [value] if equals else []))
        elif given:
            given[-1][1].append(token)
        else:
            raise ValueError(f"expected --FIELD before {token!r}")
    yield from given


def _unknown(given: str, leaves: dict[str, Leaf]) -> str:
    wanted = given.replace("_", "-")
    if whole := leaves.get(wanted.rpartition(".")[0]):
        shown = values.show(whole.value)
        return f"unknown recipe field {given!r}; {whole.name!r} is one value here: {shown}"
    parts = [name for name in leaves if name.startswith(f"{wanted}.")]
    close = parts[:3] or difflib.get_close_matches(wanted, leaves, n=3, cutoff=0.6)
    last = wanted.rpartition(".")[2]
    close += [n for n in leaves if n.rpartition(".")[2] == last and n not in close][:3]
    hint = f"closest: {', '.join(close)}" if close else f"there are: {', '.join(leaves)}"
    return f"unknown recipe field {given!r}; {hint}"
