"""Contract: what pruning reads of a model and does to it, on every architecture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from effjax.data.encode import Encoded
from effjax.hf import from_pretrained, save_pretrained, verify
from effjax.measure import cost, flop_costs, parameter_costs
from effjax.models.base import Head
from effjax.models.gates import readers
from effjax.models.model import Model
from effjax.models.products import reading
from effjax.prune import gated, obs, open_gates, settled, shrink
from effjax.prune.contributions import flat, moments
from effjax.prune.obs import in_rows, removals
from tests.contracts.rows import UNSUPPORTED

Build = Callable[[str, Head | None], Any]

TOLERANCE = 1e-5


def some_gates(model: Any) -> dict[str, Any]:
    """Numbers from 0.5 to 1.5, every third one 0."""
    random, gates = np.random.default_rng(0), {}
    for instance, gate in open_gates(model).items():
        numbers = random.uniform(0.5, 1.5, len(gate))
        gates[instance] = jnp.asarray(np.where(np.arange(len(gate)) % 3 == 1, 0, numbers))
    return gates


def refuses(model: Any, reason: str) -> None:
    """It says in one line that it has nothing to prune."""
    with pytest.raises(ValueError, match=f"has nothing to prune in its layers: {reason}") as caught:
        gated(model)
    assert "\n" not in str(caught.value)


def test_gates_become_weights_and_smaller_arrays(pair: Build, name: str) -> None:
    both = pair(name, "sequence-classification")
    if (name, "pruning") in UNSUPPORTED:
        return refuses(both.model, UNSUPPORTED[name, "pruning"])
    gates = some_gates(both.model)
    small, want = settled(both.model, gates), both.apply(both.model, both.batch, gates)
    assert small.num_params < both.model.num_params
    found = both.apply(small, both.batch)
    for layer in range(both.model.config.num_layers + 1):
        ours, theirs = found.hidden(layer)[both.mask], want.hidden(layer)[both.mask]
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(found.logits, want.logits, atol=TOLERANCE, rtol=TOLERANCE)


def emptied(model: Any) -> Model:
    """Layers of several sizes, the last one with nothing left."""
    layers, keep = list(model.config.distinct_layers), {}
    for i, (instance, size) in enumerate(gated(model).items()):
        gone = instance.startswith(f"{layers[-1]}/")
        keep[instance] = np.arange(0) if gone else np.arange(1 + i % 2, size)
    return shrink(model, keep)


def test_a_dense_folder_is_the_smaller_model_in_transformers(
    pair: Build, name: str, tmp_path: Path
) -> None:
    both = pair(name, "sequence-classification")
    if (name, "pruning") in UNSUPPORTED:
        return
    small = emptied(both.model)
    save_pretrained(small, tmp_path / "out", layout="dense")
    report = verify(tmp_path / "out", reference=small)
    assert report.ok, str(report)
    again = from_pretrained(tmp_path / "out")
    assert again.config.layers == small.config.padded().layers
    assert again.num_params <= both.model.num_params


def test_a_compact_folder_is_the_smaller_model(pair: Build, name: str, tmp_path: Path) -> None:
    """In transformers, with arrays as small, and read back bit by bit."""
    both = pair(name, "sequence-classification")
    if (name, "pruning") in UNSUPPORTED:
        return
    small, out = emptied(both.model), tmp_path / "out"
    if (name, "compact heads") in UNSUPPORTED:
        with pytest.raises(ValueError, match=UNSUPPORTED[name, "compact heads"]) as caught:
            save_pretrained(small, out, layout="compact")
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
        units = {x: n for x, n in gated(both.model).items() if x.endswith("ffn")}
        small = shrink(both.model, {x: np.arange(n // 2) for x, n in units.items()})
    save_pretrained(small, out, layout="compact")
    again = from_pretrained(out)
    assert again.config.replace(extra=small.config.extra) == small.config
    assert again.config.extra_fields == small.config.extra_fields
    jax.tree.map(np.testing.assert_array_equal, again.params, small.params)
    report = verify(out)
    assert report.ok, str(report)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
        out, trust_remote_code=True
    )
    assert sum(x.numel() for x in loaded.parameters()) == small.num_params


def test_a_compact_folder_has_narrow_hidden_states(pair: Build, name: str, tmp_path: Path) -> None:
    """With heads that do not fill them, and with layers of several sizes."""
    both, out = pair(name, "sequence-classification"), tmp_path / "out"
    if (name, "narrower") in UNSUPPORTED:
        return
    small = both.model if (name, "compact heads") in UNSUPPORTED else emptied(both.model)
    width = small.config.hidden
    small = shrink(small, {"hidden": np.flatnonzero(np.arange(width) % 4)})
    save_pretrained(small, out, layout="compact")
    again = from_pretrained(out)
    assert again.config.replace(extra=small.config.extra) == small.config
    jax.tree.map(np.testing.assert_array_equal, again.params, small.params)
    report = verify(out)
    assert report.ok, str(report)


def test_costs_are_those_of_the_smaller_model(pair: Build, name: str) -> None:
    """With some of everything, and with nothing at all in one place."""
    model = pair(name, "sequence-classification").model
    params, flops = parameter_costs(model), flop_costs(model, length=8)
    assert params.whole == model.num_params
    assert flops.whole == cost(model, length=8).product_flops
    assert bool(params.of) == ((name, "pruning") not in UNSUPPORTED)
    for left in (2, 1, 0):
        sizes = (
            {x: min(left + i % 2, n) for i, (x, n) in enumerate(gated(model).items())}
            if (params.of)
            else {}
        )
        small = shrink(model, {x: np.arange(size) for x, size in sizes.items()})
        sizes = {x: len(of) - 1 for x, of in params.of.items()} | sizes
        assert params.at(sizes) == pytest.approx(small.num_params, abs=1e-6)
        assert flops.at(sizes) == pytest.approx(cost(small, length=8).product_flops, abs=1e-3)


def test_a_gate_takes_away_what_products_read(pair: Build, name: str) -> None:
    """A closed gate takes away what its head or unit contributes to the product that reads it, and
    nothing else of it.
    """
    both = pair(name, None)
    model, table = both.model, both.model.table
    if (name, "pruning") in UNSUPPORTED:
        return
    rows = {row.path: row for instance in gated(model) for row in readers(table, instance)}
    with jax.disable_jit():
        outputs, whole = reading(model, both.batch, rows, None)
    hidden = np.asarray(outputs.last_hidden)
    np.testing.assert_allclose(hidden, both.ours.last_hidden, atol=TOLERANCE)
    uses = [model.config.layer_names.count(path.partition("/")[0]) for path in rows]
    assert [len(found) for found in whole.values()] == uses
    for instance in list(gated(model))[:2]:
        closed = {instance: jnp.asarray(open_gates(model)[instance]).at[0].set(0.0)}
        with jax.disable_jit():
            _, gone = reading(model, both.batch, rows, closed)
        for row in readers(table, instance):
            size = table.instances[instance]
            before, after = (flat(x[row.path][0], row) for x in (whole, gone))
            lost = np.asarray(before - after).reshape(len(before), size, -1)
            assert not lost[:, 1:].any()
            np.testing.assert_array_equal(lost[:, 0], np.asarray(before).reshape(lost.shape)[:, 0])


def encoded_of(both: Any) -> Encoded:
    """The batch as examples."""
    mask, lengths = both.mask, both.mask.sum(1)
    ids = both.batch["input_ids"][mask].astype(np.int32)
    types = np.asarray(both.batch.get("token_type_ids", np.zeros(mask.shape)))[mask]
    offsets = np.append(0, np.cumsum(lengths))
    return Encoded(ids, types.astype(np.int32), offsets, None, np.arange(len(lengths)))


def test_what_is_left_makes_up_for_what_is_gone(pair: Build, name: str) -> None:
    """With half of everything each product is as near to the whole model's as it is said to be, and
    nearer than the same heads and units are as they were.
    """
    both = pair(name, "sequence-classification")
    model, encoded = both.model, encoded_of(both)
    if (name, "pruning") in UNSUPPORTED:
        return
    sizes = {instance: max(size // 2, 1) for instance, size in gated(model).items()}
    same, small = obs(model, encoded, gated(model)), obs(model, encoded, sizes)
    assert same.config == model.config and gated(small) == sizes
    jax.tree.map(np.testing.assert_array_equal, same.params, model.params)
    left = parameter_costs(model).of_smaller(gated(small))
    assert left.whole == pytest.approx(small.num_params, abs=1e-6)
    hessians, removed = moments(model, encoded, sizes)[0], removals(model, encoded, sizes)
    for instance, size in sizes.items():
        kept, lost = removed[instance].kept(size), np.zeros(3)
        for row in readers(model.table, instance):
            whole, fitted = (in_rows(x, instance, row.path) for x in (model, small))
            changes = whole.copy(), whole.copy(), whole
            changes[0][kept] -= fitted
            changes[1][kept] = 0.0
            flattened = (x.reshape(len(hessians[row.path]), -1) for x in changes)
            lost += [np.sum(x * (hessians[row.path] @ x)) for x in flattened]
        assert lost[0] / lost[2] == pytest.approx(removed[instance].errors[size], rel=1e-3)
        assert lost[0] < lost[1]
