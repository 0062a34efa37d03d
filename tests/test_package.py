"""The package itself: its lazy names, and what the tests run under."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import effjax


def test_every_public_name_is_there() -> None:
    for name in effjax.__all__:
        assert getattr(effjax, name) is not None
    assert dir(effjax) == sorted(effjax.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        effjax.nothing  # noqa: B018


def test_importing_effjax_imports_no_jax() -> None:
    code = "import sys, effjax; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_training_is_imported_without_what_a_first_step_has_no_use_for() -> None:
    """As long as all of effjax together: orbax, and the part of scipy that one criterion asks."""
    code = (
        "import sys, effjax.distill, effjax.hf, effjax.measure, effjax.prune, effjax.train\n"
        "print(sorted({'orbax', 'scipy', 'sklearn', 'transformers', 'grain'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    citation = (Path(__file__).parent.parent / "CITATION.cff").read_text()
    assert project["project"]["version"] == effjax.__version__
    assert f"version: {effjax.__version__}\n" in citation


def test_tests_have_no_network() -> None:
    with socket.socket() as plug, pytest.raises(ConnectionRefusedError, match="no network"):
        plug.connect(("192.0.2.1", 80))


def test_shapes_are_checked_under_test() -> None:
    import numpy as np

    from effjax.models.base import Outputs

    with pytest.raises(Exception, match="last_hidden"):
        Outputs(last_hidden=np.zeros((2, 3), np.float32))
