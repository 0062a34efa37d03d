"""LayerDrop: how often layers are skipped, and that nothing is learned from those that are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model, create
from effjax.prune import LayerDrop, every_other, without_layers
from effjax.train import Training, fit, predict
from effjax.train.step import init_state, make_train_step, step_keys
from effjax.tree import flatten, unflatten

OBJECTIVE = Weighted(task=(1.0, TaskLoss()))


def gates_of(model: Model, rate: float, key: jax.Array) -> Mapping[str, Any]:
    drop = LayerDrop(rate=rate)
    params, gates = drop.apply({}, model.params, model.table, progress=0.0, key=key)
    assert params is model.params
    return gates


def test_layers_are_skipped_as_often_as_they_should_be(model: Model) -> None:
    """Within four standard deviations, each by itself."""
    rate, times = 0.3, 4000
    keys = jax.random.split(jax.random.key(0), times)
    gates = jax.vmap(lambda key: gates_of(model, rate, key))(keys)
    assert list(gates) == ["layer_0", "layer_1"]
    first, second = (np.asarray(gate) == 0 for gate in gates.values())
    assert set(np.unique(np.asarray(gates["layer_0"]))) == {0, 1}
    for skipped, share in ((first, rate), (second, rate), (first & second, rate**2)):
        bound = 4 * np.sqrt(share * (1 - share) / times)
        assert skipped.mean() == pytest.approx(share, abs=bound)


def trained(
    model: Model, encoded: Encoded, reparam: LayerDrop | None, *, steps: int
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses of steps on one batch, and the parameters afterwards."""
    training = Training(batch_size=16, learning_rate=1e-2, warmup=0.0, weight_decay=0.0)
    state = init_state(model, OBJECTIVE, training, steps=9, seed=0, teachers={}, reparam=reparam)
    (batch,) = TrainBatches(encoded=encoded, batch_size=16, seed=0, pad_id=0)[0]
    step, losses = make_train_step(model, OBJECTIVE, training, reparam), []
    for _ in range(steps):
        state, metrics = step(state, ((batch, {}),))
        losses.append(float(metrics["loss"]))
    return losses, {path: np.asarray(x) for path, x in flatten(state.params).items()}


@pytest.mark.slow
def test_a_rate_of_zero_is_training_without_it(model: Model, encoded: Encoded) -> None:
    (losses, params), (ours, found) = (
        trained(model, encoded, reparam, steps=3) for reparam in (None, LayerDrop(rate=0.0))
    )
    assert losses == ours
    for path, array in params.items():
        np.testing.assert_array_equal(found[path], array)
    (other, _) = trained(model, encoded, LayerDrop(rate=0.5), steps=3)
    assert not np.allclose(other, losses, atol=1e-3)


def test_a_skipped_layer_learns_nothing(model: Model, encoded: Encoded) -> None:
    """Whichever the first step skips, while all others learn."""
    training, drop = Training(batch_size=16), LayerDrop(rate=0.5)
    state = init_state(model, OBJECTIVE, training, steps=9, seed=0, teachers={}, reparam=drop)
    gates = gates_of(model, 0.5, step_keys(state.key, state.step, None)["reparam"])
    assert sorted(float(gate) for gate in gates.values()) == [0, 1]
    _, params = trained(model, encoded, drop, steps=1)
    before = flatten(model.params)
    for path, array in params.items():
        skipped = float(gates.get(path.partition("/")[0], 1.0)) == 0
        used = "layer_" in path and not path.endswith("attention/key/bias")
        assert not skipped or np.array_equal(array, before[path]), path
        assert skipped or not used or not np.array_equal(array, before[path]), path


@pytest.mark.slow
def test_a_model_that_was_trained_for_it_can_lose_layers(encoded: Encoded, tmp_path: Path) -> None:
    """Trained with LayerDrop it still answers without every other layer; trained without, worse."""
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    sizes |= {"vocab_size": 32, "intermediate_size": 24, "max_position_embeddings": 16}
    model = create(
        "bert", size="tiny", head="sequence-classification", key=jax.random.key(3), **sizes
    )
    random = np.random.default_rng(0)
    noisy = {x: y + 0.3 * random.normal(size=y.shape) for x, y in flatten(model.params).items()}
    model = model.replace(params=unflatten(noisy))
    training = Training(epochs=40, batch_size=16, learning_rate=3e-3, save_every=1000)
    losses = {}
    for rate in (0.0, 0.5):
        how: dict[str, Any] = {"reparam": LayerDrop(rate=rate)} if rate else {}
        folder = tmp_path / str(rate)
        fitted = fit(model, encoded, OBJECTIVE, training, seed=0, folder=folder, **how)
        assert (predict(fitted.model, encoded).argmax(-1) == encoded.labels).mean() > 0.95
        small = without_layers(fitted.model, every_other(fitted.model, 2))
        found = jax.nn.log_softmax(predict(small, encoded))
        losses[rate] = -float(found[np.arange(len(encoded)), encoded.labels].mean())
    assert losses[0.5] < 0.5 * losses[0.0]


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_a_rate_that_cannot_be_is_one_line(rate: float) -> None:
    with pytest.raises(ValueError, match=f"LayerDrop: rate is {rate}; expected 0 or more, below 1"):
        LayerDrop(rate=rate)


def test_layers_that_share_their_weights_are_refused_in_one_line() -> None:
    sizes: Any = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
    albert = create("albert", size="base", key=jax.random.key(0), vocab_size=32, **sizes)
    with pytest.raises(ValueError, match="layers of this model share their weights") as caught:
        LayerDrop(rate=0.2).init(jax.random.key(0), albert.table)
    assert "\n" not in str(caught.value)
