"""Recipes are compiled with few optimizations, by the slow tests too."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _compiled_soon(few_optimizations: None) -> None:
    """For every file of this folder."""
