"""RoBERTa's siblings, for which contracts are not run again (tests/contracts/conftest.py)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import pytest

from effjax.models import registry
from tests.contracts.conftest import SIBLINGS

NAMES = ("name", "hf_class", "vocab_size")
"""What siblings may differ in: the sizes of released vocabularies too."""


def code(part: Any) -> Any:
    """Everything else of an architecture."""
    if isinstance(part, functools.partial):
        return part.func, part.args, code(part.keywords)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        part = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, Mapping):
        return {name: code(value) for name, value in part.items() if name not in NAMES}
    return part


@pytest.mark.parametrize("name", SIBLINGS)
def test_siblings_differ_in_names_alone(name: str) -> None:
    assert registry.get(name).name == name
    assert code(registry.get(name)) == code(registry.get("roberta"))
