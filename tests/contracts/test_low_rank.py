"""Contract: weights that are stored as two factors, on every architecture, in both libraries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import transformers

from effjax.hf import from_pretrained, save_pretrained, verify
from effjax.models.base import Head
from effjax.models.products import reading
from effjax.prune import factorable, factorised, multiplied_out
from effjax.prune.low_rank import sides
from effjax.tree import flatten, unflatten
from tests.contracts.rows import UNSUPPORTED

Build = Callable[[str, Head | None], Any]

TOLERANCE = 1e-5


def test_two_factors_compute_what_the_weight_does(pair: Build, name: str) -> None:
    """All that can be are two factors: kernels, words, and the output projection tied to them."""
    both = pair(name, "masked-lm")
    model, rows, arrays = both.model, both.model.table.by_path, flatten(both.model.params)
    full = {path: min(sides(rows[path])) for path in factorable(model)}
    refused = {row.path for row in model.table if row.role == "kernel"} - set(full)
    assert "embedding/word/embedding" in full
    assert bool(refused) == ((name, "two factors") in UNSUPPORTED)
    for path in refused:
        with pytest.raises(ValueError, match=UNSUPPORTED[name, "two factors"]) as caught:
            factorised(model, {path: 1})
        assert "\n" not in str(caught.value)
    same = factorised(model, full)
    assert not set(full) & set(flatten(same.params))
    assert_close(both.apply(same, both.batch), both.ours, both.mask)
    half = factorised(model, {path: max(1, rank // 2) for path, rank in full.items()})
    parts = flatten(half.params)
    for path in full:
        stem = path.rpartition("/")[0]
        product = np.tensordot(parts[f"{stem}/left"], parts[f"{stem}/right"], 1)
        assert product.shape == arrays[path].shape
        arrays[path] = product
    want = both.apply(model.replace(params=unflatten(arrays)), both.batch)
    assert_close(both.apply(half, both.batch), want, both.mask)
    assert_close(both.apply(multiplied_out(half), both.batch), want, both.mask)
    with jax.disable_jit():
        kernels = [row.path for row in half.table if row.rank and row.role == "kernel"]
        _, read = reading(half, both.batch, kernels, None)
    for path, found in read.items():
        row = half.table.by_path[path]
        inputs = row.shape[: row.contracts]
        assert all(x.shape[-len(inputs) :] == inputs for x in found)


def assert_close(found: Any, want: Any, mask: np.ndarray) -> None:
    for ours, theirs in ((found.last_hidden, want.last_hidden), (found.logits, want.logits)):
        ours, theirs = np.asarray(ours)[mask], np.asarray(theirs)[mask]
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_compact_folder_has_both_factors(pair: Build, name: str, tmp_path: Path) -> None:
    """In transformers as in effjax, and read back bit by bit; convolutions are refused."""
    model, out = pair(name, "sequence-classification").model, tmp_path / "out"
    rows = model.table.by_path
    half = {path: max(1, min(sides(rows[path])) // 2) for path in factorable(model)}
    convolutions = [path for path in half if len(rows[path].hf_shape) > 2]
    assert bool(convolutions) == ((name, "compact factors") in UNSUPPORTED)
    if convolutions:
        with pytest.raises(ValueError, match=UNSUPPORTED[name, "compact factors"]) as caught:
            save_pretrained(factorised(model, half), out, layout="compact")
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    small = factorised(model, {path: half[path] for path in half if path not in convolutions})
    save_pretrained(small, out, layout="compact")
    again = from_pretrained(out)
    assert again.config.replace(extra=small.config.extra) == small.config
    jax.tree.map(np.testing.assert_array_equal, again.params, small.params)
    report = verify(out)
    assert report.ok, str(report)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
        out, trust_remote_code=True
    )
    assert sum(x.numel() for x in loaded.parameters()) == small.num_params
