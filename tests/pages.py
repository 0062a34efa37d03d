"""The pages of docs/ that add something to effjax, followed to the letter in a copy of it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


def code_of(page: str) -> list[str]:
    """The Python code of a page, block by block."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@dataclass(frozen=True)
class Copy:
    """A copy of effjax and its tests in an empty folder."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("effjax", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self.folder)

    def write(self, file: str, text: str) -> None:
        """A new file."""
        with (self.folder / file).open("x", encoding="utf-8") as stream:
            stream.write(text)

    def add(self, file: str, mapping: str, entry: str) -> None:
        """Puts an entry at the end of a mapping in a Python file."""
        text = (self.folder / file).read_text(encoding="utf-8")
        begin = text.index(f"\n{mapping} = {{\n")
        end = text.index("\n}\n", begin) + 1
        (self.folder / file).write_text(text[:end] + entry + text[end:], encoding="utf-8")

    def add_import(self, file: str, line: str) -> None:
        """Puts a line, with its end, before the first import from effjax."""
        text = (self.folder / file).read_text(encoding="utf-8")
        begin = text.index("\nfrom effjax") + 1
        (self.folder / file).write_text(text[:begin] + line + text[begin:], encoding="utf-8")

    def passing(self, tests: str, chosen: str) -> int:
        """How many tests pass, slow ones too, of those with a word in their names; all have to."""
        options = ["-q", "-n", "0", "-m", "", "-k", chosen]
        run = self.run("pytest", *options, tests)
        assert run.returncode == 0, run.stdout[-5000:]
        assert "skipped" not in run.stdout
        passed = re.search(r"(\d+) passed", run.stdout)
        assert passed is not None
        return int(passed[1])

    def effjax(self, *arguments: str) -> str:
        """What the command line prints."""
        run = self.run("effjax", *arguments)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        soon = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # most of the time is compilation
        environment = {**os.environ, **soon, "PYTHONPATH": str(self.folder)}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
