"""Every contract runs for every architecture, and where it asks for a head, for every head."""

from collections.abc import Callable

import pytest

from effjax.models import registry
from effjax.models.base import Head
from tests.contracts.pairs import Pair, build

PAIRS = [
    pytest.param(name, head, id=f"{name}-{head or 'bare'}")
    for name in registry.ARCHITECTURES
    for head in registry.get(name).heads
]


@pytest.fixture(scope="session")
def pair() -> Callable[[str, Head | None], Pair]:
    """`pair(name, head)`, shared by all contracts."""
    return build


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `name` and `head` runs for every architecture and head there is."""
    names = set(metafunc.fixturenames)
    if {"name", "head"} <= names:
        metafunc.parametrize(("name", "head"), PAIRS)
    elif "name" in names:
        metafunc.parametrize("name", list(registry.ARCHITECTURES))
