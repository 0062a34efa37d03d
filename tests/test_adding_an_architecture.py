"""docs/adding_an_architecture.md, followed to the letter in a copy of effjax."""

from pathlib import Path

import pytest

from tests.pages import Copy, code_of


@pytest.mark.slow
def test_the_page_adds_an_architecture(tmp_path: Path) -> None:
    module, line, row = code_of("adding_an_architecture.md")
    copy = Copy(tmp_path)
    copy.write("effjax/models/ernie.py", module)
    copy.add("effjax/models/registry.py", "ARCHITECTURES", line)
    copy.add("tests/contracts/rows.py", "CONTRACTS", row)
    assert copy.passing("tests/contracts", "ernie") > 80
    assert "sizes: nano, micro, mini, medium, base" in copy.effjax("list", "architectures")
