"""What every test runs under: shapes and types checked, JAX on the CPU, no network."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

# Before JAX, transformers and tfds are imported: they read these once.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"
# Compiled with few optimizations, programs are ready in two thirds of the time. CI runs the slow
# tests with all of them, but for those that take `few_optimizations`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

# Every annotation of effjax is checked at run time from here on, shapes included.
install_import_hook("effjax", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

from effjax import cache  # noqa: E402

cache.enable()
# Compiled programs are kept from here on; tokens are not, unless a test says where.
os.environ[cache.VARIABLE] = "off"


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real data and models; who asks for it is skipped where there is none."""
    folder = os.environ.get("EFFJAX_ASSETS")
    if not folder:
        pytest.skip("EFFJAX_ASSETS is not set: it names the folder with the real data and model")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """A connection to anything but this machine is an error at once, not a wait for a time-out."""
    connect = socket.socket.connect

    def connect_nearby(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise ConnectionRefusedError(f"tests have no network: {host}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_nearby)
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs() -> Iterator[None]:
    """What a file compiled is let go after it. A program takes several of the 65,530 memory maps
    that Linux gives a process, and XLA dies without them: all tests of a worker have more.
    """
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def few_optimizations() -> Iterator[None]:
    """For whole experiments of a few steps, which compile for longer than they train."""
    whole = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", whole)
