"""docs/adding_an_architecture.md, followed to the letter in a copy of effjax."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adding_an_architecture.md").read_text(encoding="utf-8")


def add(file: Path, mapping: str, entry: str) -> None:
    """Puts an entry at the end of a mapping in a Python file."""
    text = file.read_text(encoding="utf-8")
    begin = text.index(f"\n{mapping} = {{\n")
    end = text.index("\n}\n", begin) + 1
    file.write_text(text[:end] + entry + text[end:], encoding="utf-8")


@pytest.mark.slow
def test_the_page_adds_an_architecture(tmp_path: Path) -> None:
    for name in ("effjax", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module, line, row = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "effjax" / "models" / "ernie.py").write_text(module, encoding="utf-8")
    add(tmp_path / "effjax" / "models" / "registry.py", "ARCHITECTURES", line)
    add(tmp_path / "tests" / "contracts" / "rows.py", "CONTRACTS", row)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/contracts", "-k", "ernie"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed[1]) > 80
    assert "skipped" not in run.stdout
    listing = [sys.executable, "-m", "effjax", "list", "architectures"]
    shown = subprocess.run(
        listing, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "sizes: nano, micro, mini, medium, base" in shown
