"""Contract: gates of zeros and ones compute what the shrunk arrays do, whatever is left."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import init_student
from effjax.models.base import Head
from effjax.models.hidden_gates import normed
from effjax.models.model import Model
from effjax.prune import settled, shrink
from tests.contracts.rows import UNSUPPORTED

TOLERANCE = 1e-5
NONE = np.array([], int)
LEFT = {
    "some": {(0, "heads"): "some", (2, "heads"): "some", (1, "ffn"): "some"},
    "no-heads": {(1, "heads"): "none"},
    "no-ffn": {(1, "ffn"): "none", (2, "heads"): "some"},
    "neither": {(1, "heads"): "none", (1, "ffn"): "none", (0, "ffn"): "some"},
}
"""What is left in the first, the second and the last layer; elsewhere, everything."""


def kept(kind: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """What to keep of each instance that a layer has, heads of some kind or feed-forward units."""
    names = sorted({instance.partition("/")[0] for instance in sizes if "/" in instance})
    layers, keep = [names[0], names[1 % len(names)], names[-1]], {}
    for instance, size in sizes.items():
        layer, _, field = instance.partition("/")
        units = "ffn" if "ffn" in field else "heads"
        place = layers.index(layer) if layer in layers else -1
        if left := LEFT[kind].get((place, units)):
            keep[instance] = np.unique([0, size // 2, size - 1]) if left == "some" else NONE
    return keep


Build = Callable[[str, Head | None], Any]


def gates_of(keep: dict[str, np.ndarray], sizes: dict[str, int]) -> dict[str, Any]:
    """Ones where kept, zeros elsewhere."""
    return {name: jnp.zeros(sizes[name]).at[kept].set(1) for name, kept in keep.items()}


def assert_nothing_shrinks(model: Model, reason: str) -> None:
    """Heads and units of every layer are refused in one line, with the reason."""
    assert not [instance for instance in model.table.instances if "/" in instance]
    for layer in model.config.layer_names:
        for instance in (f"{layer}/heads", f"{layer}/ffn"):
            with pytest.raises(ValueError, match=f"which cannot shrink: {reason}") as caught:
                shrink(model, {instance: np.array([0])})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", LEFT)
def test_gates_equal_shrunk_arrays(pair: Build, name: str, kind: str) -> None:
    both = pair(name, "sequence-classification")
    if (name, "pruning") in UNSUPPORTED:
        return assert_nothing_shrinks(both.model, UNSUPPORTED[name, "pruning"])
    keep = kept(kind, both.model.table.instances)
    if not keep:
        with pytest.raises(ValueError, match=UNSUPPORTED[name, kind]):
            shrink(both.model, {f"layer_1/{kind.removeprefix('no-')}": np.array([], int)})
        return
    gated = both.apply(both.model, both.batch, gates_of(keep, both.model.table.instances))
    small = shrink(both.model, keep)
    found = both.apply(small, both.batch)
    for layer in range(both.model.config.num_layers + 1):
        ours, theirs = found.hidden(layer)[both.mask], gated.hidden(layer)[both.mask]
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.logits, gated.logits, atol=TOLERANCE, rtol=0)
    whole = np.asarray(both.ours.logits)
    assert np.abs(np.asarray(found.logits) - whole).max() > 100 * TOLERANCE
    assert found.layers[1].scores is None or small.config.layers[1].heads


def test_gates_of_one_change_nothing(pair: Build, name: str) -> None:
    both = pair(name, None)
    keep = {i: np.arange(n) for i, n in both.model.table.instances.items() if "/" in i}
    assert bool(keep) == ((name, "pruning") not in UNSUPPORTED)
    found = both.apply(both.model, both.batch, gates_of(keep, both.model.table.instances))
    ours, theirs = found.last_hidden[both.mask], both.ours.last_hidden[both.mask]
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


def test_gates_of_hidden_states_equal_narrower_arrays(
    pair: Build, name: str, head: Head | None
) -> None:
    """And those of word vectors: norms go over what is open, and what is written is multiplied."""
    both = pair(name, head)
    sizes, rng = normed(both.model.table), np.random.default_rng(0)
    if reason := UNSUPPORTED.get((name, "narrower")) or UNSUPPORTED.get((name, f"narrower {head}")):
        with pytest.raises(ValueError, match=f"which cannot shrink: {reason}") as caught:
            shrink(both.model, {"hidden": np.array([0])})
        assert "hidden" not in sizes and "\n" not in str(caught.value)
        return
    assert "hidden" in sizes
    gates = {
        instance: jnp.asarray(np.where(np.arange(n) % 3 == 1, 0, rng.uniform(0.5, 1.5, n)))
        for instance, n in sizes.items()
    }
    small = settled(both.model, gates)
    assert small.config.hidden < both.model.config.hidden
    found, want = both.apply(small, both.batch), both.apply(both.model, both.batch, gates)
    there = np.flatnonzero(np.asarray(gates["hidden"]))
    for layer in range(both.model.config.num_layers + 1):
        ours, theirs = found.hidden(layer)[both.mask], want.hidden(layer)[both.mask]
        np.testing.assert_allclose(ours, theirs[:, there], atol=TOLERANCE, rtol=TOLERANCE)
        assert not np.delete(np.asarray(theirs), there, axis=1).any()
    if head is not None:
        np.testing.assert_allclose(found.logits, want.logits, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_layer_with_a_gate_of_zero_is_not_there(pair: Build, name: str) -> None:
    """Nor are those that share its weights."""
    both = pair(name, "sequence-classification")
    names = both.model.config.layer_names
    for layer in both.model.config.distinct_layers:
        left = [i for i, other in enumerate(names) if other != layer]
        want = both.apply(init_student(both.model, left), both.batch)
        found = both.apply(both.model, both.batch, {layer: jnp.zeros(())})
        before = found.embedded
        for i, trace in enumerate(found.layers):
            if i in left:
                theirs = want.layers[left.index(i)].hidden[both.mask]
                ours = trace.hidden[both.mask]
                np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)
            else:
                np.testing.assert_array_equal(trace.hidden, before)
            before = trace.hidden
        np.testing.assert_allclose(found.logits, want.logits, atol=TOLERANCE, rtol=0)
        assert np.abs(np.asarray(found.logits) - both.ours.logits).max() > 100 * TOLERANCE


def test_a_layer_s_gate_leads_from_its_input_to_its_output(pair: Build, name: str) -> None:
    both = pair(name, None)
    layers = both.model.config.distinct_layers
    whole = both.apply(both.model, both.batch, {layer: jnp.ones(()) for layer in layers})
    np.testing.assert_array_equal(whole.last_hidden, both.ours.last_hidden)
    last = list(layers)[-1]
    quarter = both.apply(both.model, both.batch, {last: jnp.full((), 0.25)})
    first, states = both.model.config.layer_names.index(last), [x.hidden for x in both.ours.layers]
    want = (0.75 * states[first - 1] + 0.25 * states[first])[both.mask]
    found = quarter.layers[first].hidden[both.mask]
    np.testing.assert_allclose(found, want, atol=TOLERANCE, rtol=0)


def test_a_smaller_vocabulary_with_its_tied_projection(pair: Build, name: str) -> None:
    """Kept tokens keep their logits; the batch uses no others."""
    both = pair(name, "masked-lm")
    kept = np.unique(np.append(both.batch["input_ids"], [0, 1, 2]))
    assert len(kept) < both.model.config.vocab_size
    small = shrink(both.model, {"vocabulary": kept})
    batch = {**both.batch, "input_ids": np.searchsorted(kept, both.batch["input_ids"])}
    found, want = both.apply(small, batch), np.asarray(both.ours.logits)[..., kept]
    np.testing.assert_allclose(found.logits[both.mask], want[both.mask], atol=TOLERANCE, rtol=0)
