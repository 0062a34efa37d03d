"""docs/adding_a_criterion.md, followed to the letter in a copy of effjax."""

from pathlib import Path

import pytest

from tests.pages import Copy, code_of

FILE, IMPORT, ROW = code_of("adding_a_criterion.md")


def test_the_file_is_short() -> None:
    assert len(FILE.splitlines()) <= 30


@pytest.mark.slow
def test_the_page_adds_a_criterion(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.write("effjax/prune/taylor.py", FILE)
    copy.add("tests/contracts/criteria.py", "CRITERIA", ROW)
    copy.add_import("tests/contracts/criteria.py", IMPORT)
    assert copy.passing("tests/contracts", "taylor") == 5
