"""Contract: the kernels of every architecture can be masked, and what masks make idle removed."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.models.base import Head
from effjax.models.gates import read, readers
from effjax.models.model import Model
from effjax.prune import gated, masked, n_of_m_masks, needed, shrink, wanda, weight_masks
from effjax.prune.gates import with_instance
from effjax.prune.masks import Masks, maskable, matrices
from effjax.table import Row
from effjax.tree import flatten, unflatten
from tests.contracts.rows import UNSUPPORTED

Build = Callable[[str, Head | None], Any]


def runs_otherwise(both: Any, masks: Masks) -> None:
    """The masked model gives numbers, and others."""
    found = both.apply(masked(both.model, masks), both.batch).logits
    assert np.isfinite(found).all()
    assert np.abs(np.asarray(found) - both.ours.logits).max() > 1e-3


def refuses(call: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_half_of_the_weights_of_every_kernel_are_masked(pair: Build, name: str) -> None:
    """And no other array."""
    both = pair(name, "sequence-classification")
    masks, arrays = weight_masks(both.model, sparsity=0.5), flatten(both.model.params)
    layers = {row.path for row in maskable(both.model.table)}
    assert layers == {
        row.path
        for row in both.model.table
        if row.role == "kernel" and row.path.partition("/")[0] in both.model.config.layer_names
    }
    assert masks.keys() == layers
    for path, array in flatten(masked(both.model, masks).params).items():
        gone = (array == 0) & (arrays[path] != 0)
        assert gone.sum() == (round(0.5 * array.size) if path in layers else 0)
    runs_otherwise(both, masks)


def test_one_of_two_weights_of_every_output_is_left(pair: Build, name: str) -> None:
    both = pair(name, "sequence-classification")
    model, scores = both.model, None
    if reason := UNSUPPORTED.get((name, "n of m")):
        refuses(lambda: n_of_m_masks(model, n=1, m=2), reason)
        arrays = flatten(model.params)
        even = [row.path for row in maskable(model.table) if matrices(row)[1] % 2 == 0]
        scores = {path: np.abs(arrays[path]) for path in even}
    masks = n_of_m_masks(model, n=1, m=2, scores=scores)
    for path, mask in masks.items():
        groups, inputs, outputs = matrices(model.table.by_path[path])
        pairs = np.asarray(mask).reshape(groups, inputs // 2, 2, outputs)
        assert (pairs.sum(2) == 1).all()
    runs_otherwise(both, masks)


def small_text(both: Any) -> Encoded:
    """The rows of the tiny batch."""
    lengths = both.mask.sum(1)
    ids = both.batch["input_ids"][both.mask].astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(ids, np.zeros_like(ids), offsets, None, np.arange(len(lengths), dtype=np.int32))


@pytest.mark.slow
def test_what_every_kernel_reads_is_weighed(pair: Build, name: str) -> None:
    both = pair(name, "sequence-classification")
    if reason := UNSUPPORTED.get((name, "wanda")):
        return refuses(lambda: wanda(both.model, small_text(both)), reason)
    scores = wanda(both.model, small_text(both))
    assert list(scores) == [row.path for row in maskable(both.model.table)]
    assert all(np.isfinite(x).all() and np.any(x) for x in scores.values())
    masks = weight_masks(both.model, within="output", scores=scores)
    plain = weight_masks(both.model, within="output")
    assert any((masks[path] != plain[path]).any() for path in masks)


def without(model: Model, rows: list[Row], instance: str, slot: int | None = None) -> Model:
    """The model with zeros for the first head or unit of these arrays, in a slot of fused ones."""
    arrays = {path: np.array(x) for path, x in flatten(model.params).items()}
    for row in rows:
        names, letters = [axis.instance for axis in row.axes], row.letters.split()
        place: list[Any] = [slice(None)] * len(names)
        place[names.index(instance)] = 0
        if slot is not None and "S" in letters:
            place[letters.index("S")] = slot
        arrays[row.path][tuple(place)] = 0
    return model.replace(params=unflatten({path: jnp.asarray(x) for path, x in arrays.items()}))


def test_what_gives_zeros_is_not_needed(pair: Build, name: str) -> None:
    """Of everything that writes or reads a head or a unit, zeros in what makes it idle are found,
    and removing it changes nothing; zeros in what does not are not taken for it.
    """
    both = pair(name, "sequence-classification")
    if (name, "pruning") in UNSUPPORTED:
        return refuses(lambda: needed(both.model), UNSUPPORTED[name, "pruning"])
    model, table = both.model, both.model.table
    assert {x: len(kept) for x, kept in needed(model).items()} == gated(model)
    for instance in list(gated(model))[:2]:
        outputs = [x for x in with_instance(table, instance) if instance not in read(x)]
        kernels = {row.path.rpartition("/")[0]: row for row in outputs if row.role == "kernel"}
        emptied, idle = {"": without(model, readers(table, instance), instance)}, {""}
        for module, kernel in kernels.items():
            rows = [row for row in outputs if row.path.rpartition("/")[0] == module]
            for slot in range(kernel.sizes.get("S", 1)):
                emptied[f"{module} {slot}"] = without(model, rows, instance, slot)
                if module.endswith(("/value", "/up", "/gate", "/gate_up")) or slot == 2:
                    idle.add(f"{module} {slot}")
        assert len(idle) > 1
        for case, sparse in emptied.items():
            keep = needed(sparse)
            whole = np.arange(table.instances[instance])
            np.testing.assert_array_equal(keep[instance], whole[1:] if case in idle else whole)
            if case in idle:
                want = both.apply(sparse, both.batch).logits
                found = both.apply(shrink(sparse, keep), both.batch).logits
                np.testing.assert_allclose(found, want, atol=1e-6, rtol=1e-6)
