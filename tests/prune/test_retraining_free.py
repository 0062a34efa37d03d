"""Pruning without training: what is chosen, and how what is left makes up for the rest."""

import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.measure import flop_costs
from effjax.models import Model
from effjax.prune import gates_of, kept, retraining_free, settled
from effjax.prune.retraining_free import rearranged, tuned
from effjax.tree import flatten, unflatten
from tests.prune.test_scores import alone


def test_what_undoes_each_other_goes_together() -> None:
    """Units with opposite gradients are not missed, though one of them alone would be."""
    random = np.random.default_rng(0)
    gradients = 2 * random.normal(size=(200, 6))
    gradients[:, 1] /= 3
    gradients[:, 4] = -2 * gradients[:, 1] + 0.1 * random.normal(size=200)
    information = gradients.T @ gradients / 200

    def missed(kept: tuple[int, ...]) -> float:
        out = np.setdiff1d(np.arange(6), kept)
        return information[np.ix_(out, out)].sum()

    best = min(itertools.combinations(range(6), 4), key=missed)
    assert tuple(rearranged(np.array([0, 1, 2, 4]), gradients)) == best == (0, 2, 3, 5)
    every = np.arange(6)
    np.testing.assert_array_equal(rearranged(every, gradients), every)


def doubled(model: Model) -> Model:
    """Unit 5 of layer 0 does what unit 2 does, twice as much; so do heads 0 and 1 of layer 1."""
    arrays = {path: np.array(x) for path, x in flatten(model.params).items()}
    up, down = "layer_0/feedforward/up", "layer_0/feedforward/down/kernel"
    arrays[f"{up}/kernel"][:, 5] = arrays[f"{up}/kernel"][:, 2]
    arrays[f"{up}/bias"][5] = arrays[f"{up}/bias"][2]
    arrays[down][5] = 2 * arrays[down][2]
    for name in ("query", "key", "value"):
        kernel, bias = (arrays[f"layer_1/attention/{name}/{x}"] for x in ("kernel", "bias"))
        kernel[:, 0], bias[0] = kernel[:, 1], bias[1]
    output = arrays["layer_1/attention/output/kernel"]
    output[0] = 2 * output[1]
    return model.replace(params=unflatten({path: jnp.asarray(x) for path, x in arrays.items()}))


def test_what_is_left_makes_up_for_what_is_gone(model: Model, encoded: Encoded) -> None:
    """Without a unit and a head that were doubled, their doubles do three times as much."""
    whole = doubled(model)
    keep = {"layer_0/ffn": np.array([0, 1, 2, 3, 4, 6]), "layer_1/heads": np.array([1, 2])}
    gates = tuned(whole, encoded, gates_of(whole, keep))
    wanted = {"layer_0/ffn": [1, 1, 3, 1, 1, 0, 1], "layer_1/heads": [0, 3, 1]}
    for instance, gate in wanted.items():
        np.testing.assert_allclose(gates[instance], gate, atol=0.05)
    untouched = {instance: gate for instance, gate in gates.items() if instance not in keep}
    for gate in untouched.values():
        np.testing.assert_allclose(gate, 1.0, atol=0.02)
    batch = alone(encoded, 3)
    batch.pop("labels")
    small, plain = settled(whole, gates), settled(whole, gates_of(whole, keep))
    want = np.asarray(whole(batch).logits)
    off = [float(np.abs(np.asarray(x(batch).logits) - want).max()) for x in (small, plain)]
    assert off[0] < 0.05 * off[1]


def test_a_budget_is_kept_and_arrays_are_smaller(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    costs = flop_costs(model, length=8)
    at_most = 0.6 * costs.whole
    gates = retraining_free(model, encoded, loss, costs, at_most=at_most)
    sizes = {instance: len(indices) for instance, indices in kept(gates).items()}
    assert 0.4 * costs.whole < costs.at(sizes) <= at_most
    small = settled(model, gates)
    assert flop_costs(small, length=8).whole == costs.at(sizes)
    batch = alone(encoded, 0)
    batch.pop("labels")
    ours, theirs = (np.asarray(x.logits) for x in (small(batch), model.trace(batch, gates)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert any(np.any((gate != 0) & (gate != 1)) for gate in gates.values())


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"layer_0/window": np.ones(3)}, "'layer_0/window' has no gates; this model has layer_0"),
        ({"vocabulary": np.ones(32)}, "'vocabulary' has no gates"),
        ({"layer_0/heads": np.ones(4)}, r"'layer_0/heads' has shape \(4,\); expected \(3,\)"),
    ],
)
def test_gates_of_something_else_are_one_line(model: Model, gates: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        settled(model, gates)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message) as caught:
        model.trace({"input_ids": np.array([[3, 1, 4]])}, gates)
    assert "\n" not in str(caught.value)


def test_gates_of_layers_are_one_number_and_never_settle(model: Model) -> None:
    batch, closed = {"input_ids": np.array([[3, 1, 4]])}, {"layer_0": np.zeros(())}
    trace = model.trace(batch, closed)
    np.testing.assert_array_equal(trace.layers[0].hidden, trace.embedded)
    with pytest.raises(ValueError, match=r"'layer_0' has shape \(1,\); expected \(\)"):
        model.trace(batch, {"layer_0": np.zeros(1)})
    with pytest.raises(ValueError, match="'layer_0' has no gates"):
        settled(model, closed)
