"""docs/adding_an_objective.md, followed to the letter in a copy of effjax."""

from pathlib import Path

import pytest

from tests.pages import Copy, code_of

FILE, IMPORT, ROW = code_of("adding_an_objective.md")


def test_the_file_is_short() -> None:
    assert len(FILE.splitlines()) <= 40


@pytest.mark.slow
def test_the_page_adds_an_objective(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.write("effjax/distill/correlation.py", FILE)
    copy.add("tests/contracts/objectives.py", "OBJECTIVES", ROW)
    copy.add_import("tests/contracts/objectives.py", IMPORT)
    assert copy.passing("tests/contracts", "correlation") == 7
    shown = copy.effjax("list", "objectives")
    assert "r being Pearson's" in shown and "2205.10536" in shown
