"""Huge pages: when a process begins anew, and that it then does what it was asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import effjax
from effjax import pages
from effjax.pages import use_huge_pages

Begun = list[tuple[str, list[str]]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Begun:
    """The processes begun anew, on a system that leaves it to programs, with nothing said yet."""
    processes: Begun = []
    monkeypatch.setattr(pages, "ENABLED", tmp_path / "enabled")
    pages.ENABLED.write_text("always [madvise] never\n")
    monkeypatch.setattr(os, "execv", lambda program, argv: processes.append((program, argv)))
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # so that the end of the test takes it back
    del os.environ["GLIBC_TUNABLES"]
    return processes


def test_a_process_begins_anew_once(begun: Begun) -> None:
    use_huge_pages()
    use_huge_pages()
    assert begun == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_what_the_user_has_set_stays(begun: Begun) -> None:
    os.environ["GLIBC_TUNABLES"] = ""
    use_huge_pages()
    assert not begun


@pytest.mark.parametrize("enabled", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_where_the_system_decides_nothing_happens(begun: Begun, enabled: str | None) -> None:
    if enabled is None:
        pages.ENABLED.unlink()
    else:
        pages.ENABLED.write_text(enabled)
    use_huge_pages()
    assert not begun


def test_the_command_does_what_it_was_asked() -> None:
    without = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-m", "effjax", "--version"]
    run = subprocess.run(command, env=without, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == effjax.__version__
