"""Masks that come while a model is trained: their gradients by hand, their counts at every moment,
and small models that they are trained into.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model
from effjax.models.model import INPUTS, apply
from effjax.prune import (
    GradualMagnitude,
    Movement,
    SoftMovement,
    cubic,
    masked,
    needed,
    shrink,
)
from effjax.prune.masks import maskable, matrices
from effjax.train import Training, fit, predict
from effjax.train.logs import read_history
from effjax.tree import flatten, unflatten

OBJECTIVE = Weighted(task=(1.0, TaskLoss()))
TRAINING = Training(epochs=60, batch_size=16, learning_rate=3e-3, save_every=150)
MOMENTS = (0.0, 0.1, 0.3, 0.45, 0.8, 1.0)
KEY = jax.random.key(0)


def spread(x: np.ndarray, rows: int, columns: int, shape: tuple[int, int]) -> np.ndarray:
    """What blocks have, for every weight [inputs, outputs], by a product."""
    return np.kron(x, np.ones((rows, columns)))[: shape[0], : shape[1]]


def block_sums(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The sum over every block of [inputs, outputs]."""
    inside = np.add.reduceat(x, np.arange(0, x.shape[0], rows), axis=0)
    return np.add.reduceat(inside, np.arange(0, x.shape[1], columns), axis=1)


def random_scores(movement: Movement | SoftMovement, model: Model) -> Any:
    """Scores of both signs, all different."""
    random = np.random.default_rng(0)
    zeros: Any = movement.init(KEY, model.table)
    assert not any(np.any(x) for x in zeros.values())
    return {path: jnp.asarray(random.normal(size=x.shape), "f4") for path, x in zeros.items()}


def gone(masks: Any) -> dict[str, int]:
    return {path: int((np.asarray(mask) == 0).sum()) for path, mask in masks.items()}


def test_the_schedule_is_cubic() -> None:
    times = {"begin": 0.2, "end": 0.7}
    for progress, want in ((0.0, 0.1), (0.2, 0.1), (0.45, 0.8), (0.7, 0.9), (1.0, 0.9)):
        found = float(cubic(progress, initial=0.1, final=0.9, **times))
        assert found == pytest.approx(0.9 - 0.8 * 0.5**3 if progress == 0.45 else want, abs=1e-6)
    rising = [float(cubic(t, final=0.9, **times)) for t in np.linspace(0, 1, 21)]
    assert rising == sorted(rising) and rising[0] == 0 and len(set(rising)) > 8
    steps = np.diff(rising)[4:14]
    assert (np.diff(steps) < 0).all()


@pytest.fixture(scope="module")
def loss(model: Model, encoded: Encoded) -> Callable[[Any], Any]:
    """Of parameters, on a few examples."""
    batch = TrainBatches(encoded=encoded, batch_size=8, seed=0, pad_id=0, layout="padded")[0][0]
    inputs = {name: jnp.asarray(batch[name]) for name in INPUTS if name in batch}
    return lambda params: OBJECTIVE({}, apply(model.module, params, inputs), {}, batch).total


@pytest.fixture(scope="module")
def gradient(loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jax.jit(jax.grad(loss))


@pytest.mark.parametrize(
    "movement",
    [
        pytest.param(Movement(sparsity=0.6), marks=pytest.mark.slow),
        Movement(sparsity=0.6, block=(5, 100)),
        pytest.param(SoftMovement(weight=1.0, block=(4, 3)), marks=pytest.mark.slow),
    ],
    ids=["weights", "blocks", "soft"],
)
def test_scores_get_the_gradient_of_their_blocks(
    model: Model, loss: Callable[[Any], Any], gradient: Callable[[Any], Any], movement: Any
) -> None:
    """dL/dS is the sum of dL/dW' * W over the block, also where the mask is 0; dL/dW is dL/dW' * M.
    Blocks do not fill the matrices.
    """
    rows, columns = movement.block
    learned = jax.tree.map(lambda x: 3 * x - 2, random_scores(movement, model))

    def of_both(learned: Any, params: Any) -> Any:
        masked, gates = movement.apply(learned, params, model.table, progress=0.9, key=KEY)
        assert not gates
        return loss(masked)

    by_scores, by_weights = jax.jit(jax.grad(of_both, (0, 1)))(learned, model.params)
    sparse = masked(model, movement.masks(learned, model))
    at_masked = flatten(gradient(sparse.params))
    arrays, found = flatten(model.params), flatten(by_weights)
    for path, row in model.table.by_path.items():
        if path not in learned:
            np.testing.assert_allclose(found[path], at_masked[path], rtol=1e-4, atol=1e-6)
            continue
        shape = matrices(row)[1:]
        kernel, wanted = (np.asarray(x[path]).reshape(shape) for x in (arrays, at_masked))
        score = np.asarray(learned[path])[0]
        last = np.sort(score.ravel())[round(0.6 * score.size) - 1]
        soft = isinstance(movement, SoftMovement)
        mask = spread(
            1 / (1 + np.exp(-score)) > 0.1 if soft else score > last, rows, columns, shape
        )
        assert 0 < mask.mean() < 1 and wanted[mask == 0].any()
        np.testing.assert_array_equal(flatten(sparse.params)[path].reshape(shape), kernel * mask)
        want = block_sums(wanted * kernel, rows, columns)
        np.testing.assert_allclose(by_scores[path][0], want, rtol=1e-4, atol=1e-6)
        found_here = np.asarray(found[path]).reshape(shape)
        np.testing.assert_allclose(found_here, wanted * mask, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [(1, 1), (4, 3)])
def test_as_many_blocks_go_as_the_schedule_says(model: Model, block: tuple[int, int]) -> None:
    """At every moment, and also while all scores are the same."""
    movement = Movement(sparsity=0.9, block=block)
    for learned in (random_scores(movement, model), movement.init(KEY, model.table)):
        arrays = flatten(model.params)
        for progress in MOMENTS:
            masks = movement.at(learned, arrays, model.table, progress)
            share = float(cubic(progress, final=0.9, begin=0.1, end=0.8))
            for row in maskable(model.table):
                _, inputs, outputs = matrices(row)
                mask = np.asarray(masks[row.path]).reshape(inputs, outputs)
                blocks = mask[:: block[0], :: block[1]]
                assert (blocks == 0).sum() == round(share * blocks.size)
                np.testing.assert_array_equal(spread(blocks, *block, mask.shape), mask)
            shown: Any = movement.penalty(learned, model.table, progress=progress)
            assert shown[0] == 0 and float(shown[1]["sparsity"]) == pytest.approx(share, abs=1e-6)


def test_scores_of_all_matrices_are_compared(model: Model) -> None:
    movement = Movement(sparsity=0.7, within="model")
    learned = random_scores(movement, model)
    every = np.concatenate([np.asarray(x).ravel() for x in learned.values()])
    last = np.sort(every)[round(0.7 * len(every)) - 1]
    for path, mask in movement.masks(learned, model).items():
        np.testing.assert_array_equal(np.ravel(mask), np.ravel(learned[path]) > last)


def test_small_weights_go_first(model: Model) -> None:
    pruning = GradualMagnitude(sparsity=0.8, begin=0.0, end=1.0)
    assert pruning.init(KEY, model.table) == {}
    arrays = flatten(model.params)
    for progress in MOMENTS:
        masks = pruning.at({}, arrays, model.table, progress)
        for row in maskable(model.table):
            sizes, mask = np.abs(np.asarray(arrays[row.path])), np.asarray(masks[row.path])
            count = round(float(0.8 - 0.8 * (1 - np.float32(progress)) ** 3) * row.size)
            assert (mask == 0).sum() == count
            assert not count or sizes[mask == 0].max() <= sizes[mask == 1].min()


def test_of_every_m_weights_more_go_in_turn(model: Model) -> None:
    pruning = GradualMagnitude(sparsity=0.75, within=4, begin=0.0, end=1.0)
    arrays = flatten(model.params)
    units = [row for row in maskable(model.table) if not row.path.endswith("down/kernel")]
    table = type(model.table)(units)
    found = set()
    for progress in MOMENTS:
        left = 4 - round(4 * 0.75 * (1 - (1 - progress) ** 3))
        found.add(left)
        for path, mask in pruning.at({}, arrays, table, progress).items():
            _, inputs, outputs = matrices(table.by_path[path])
            assert (np.asarray(mask).reshape(inputs // 4, 4, outputs).sum(1) == left).all()
    assert found == {4, 3, 2, 1}
    with pytest.raises(ValueError, match="layer_0/feedforward/down/kernel has 7 along its inputs"):
        pruning.init(KEY, model.table)


def test_soft_masks_follow_a_threshold_that_costs(model: Model) -> None:
    soft = SoftMovement(weight=5.0, threshold=0.2, begin=0.0, end=1.0, block=(3, 2))
    learned = random_scores(soft, model)
    for progress in (0.0, 0.5, 1.0):
        risen = 1 - (1 - progress) ** 3
        sigma = {path: 1 / (1 + np.exp(-np.asarray(x))) for path, x in learned.items()}
        loss, shown = soft.penalty(learned, model.table, progress=progress)
        want = 5 * risen * np.mean([x.mean() for x in sigma.values()])
        assert float(loss) == pytest.approx(want, rel=1e-5)
        every = np.concatenate([x.ravel() for x in sigma.values()])
        assert float(shown["sparsity"]) == pytest.approx((every <= 0.2 * risen).mean(), abs=1e-6)
    assert 0 < float(shown["sparsity"]) < 1
    gradient: Any = jax.grad(lambda x: soft.penalty(x, model.table, progress=1.0)[0])(learned)
    for path, x in sigma.items():
        want = 5 * x * (1 - x) / x.size / len(sigma)
        np.testing.assert_allclose(gradient[path], want, rtol=1e-4)


def changed(model: Model, change: Callable[[dict[str, np.ndarray]], None]) -> Model:
    arrays = {path: np.array(x) for path, x in flatten(model.params).items()}
    change(arrays)
    return model.replace(params=unflatten({path: jnp.asarray(x) for path, x in arrays.items()}))


def same_outputs(ours: Model, theirs: Model) -> None:
    batch = {"input_ids": np.array([[1, 7, 11, 12], [1, 8, 13, 0]])}
    batch["attention_mask"] = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    found, want = (np.asarray(x(batch).logits) for x in (ours, theirs))
    np.testing.assert_allclose(found, want, atol=1e-6, rtol=0)


def test_what_does_nothing_is_not_needed(model: Model) -> None:
    """What nothing reads, and what gives zeros; what gives a constant stays."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        for name in ("kernel", "bias"):
            arrays[f"layer_0/attention/value/{name}"][..., 1, :] = 0
            arrays[f"layer_0/feedforward/up/{name}"][..., 3] = 0
            arrays[f"layer_1/attention/query/{name}"][..., 1, :] = 0
        arrays["layer_0/feedforward/up/kernel"][:, 4] = 0
        arrays["layer_1/attention/value/kernel"][:, 2] = 0
        arrays["layer_1/attention/output/kernel"][0] = 0
        arrays["layer_1/feedforward/down/kernel"][[0, 6]] = 0

    sparse = changed(model, change)
    keep = {name: indices.tolist() for name, indices in needed(sparse).items()}
    assert keep == {
        "layer_0/heads": [0, 2],
        "layer_0/ffn": [0, 1, 2, 4, 5, 6],
        "layer_1/heads": [1, 2],
        "layer_1/ffn": [1, 2, 3, 4, 5],
    }
    small = shrink(sparse, needed(sparse))
    assert small.num_params < sparse.num_params
    same_outputs(small, sparse)
    assert {name: len(x) for name, x in needed(model).items()} == {
        "layer_0/heads": 3, "layer_0/ffn": 7, "layer_1/heads": 3, "layer_1/ffn": 7
    }  # fmt: skip


def trained(model: Model, encoded: Encoded, folder: Path, pruning: Any) -> Any:
    fitted = fit(model, encoded, OBJECTIVE, TRAINING, seed=0, folder=folder, reparam=pruning)
    return fitted, masked(fitted.model, pruning.masks(fitted.learned, fitted.model))


def right(model: Model, encoded: Encoded) -> float:
    return float((predict(model, encoded).argmax(-1) == encoded.labels).mean())


@pytest.mark.slow
def test_a_model_is_trained_into_blocks(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    """It is as sparse as was asked for, has learned its task, and really becomes smaller."""
    movement = Movement(sparsity=0.75, block=(4, 4), learning_rate=0.1)
    fitted, sparse = trained(model, encoded, tmp_path, movement)
    history = read_history(tmp_path)
    assert history[-1]["sparsity"] == pytest.approx(0.75) and history[0]["sparsity"] < 0.75
    arrays = flatten(sparse.params)
    for row in maskable(model.table):
        _, inputs, outputs = matrices(row)
        kernel = np.abs(np.asarray(arrays[row.path]).reshape(inputs, outputs))
        blocks = block_sums(kernel, 4, 4)
        assert (blocks == 0).sum() == round(0.75 * blocks.size)
    assert any(np.asarray(x).any() for x in fitted.learned.values())
    random = movement.masks(random_scores(movement, model), model)
    assert right(sparse, encoded) > 0.9 > right(masked(fitted.model, random), encoded)
    small = shrink(sparse, needed(sparse))
    assert small.num_params < sparse.num_params == model.num_params
    same_outputs(small, sparse)


@pytest.mark.parametrize(
    "pruning",
    [
        GradualMagnitude(sparsity=0.5, within="output"),
        Movement(sparsity=0.8, within="model", learning_rate=0.1),
    ],
    ids=["magnitude", "movement"],
)
@pytest.mark.slow
def test_a_model_is_trained_into_single_weights(
    model: Model, encoded: Encoded, tmp_path: Path, pruning: Any
) -> None:
    fitted, sparse = trained(model, encoded, tmp_path, pruning)
    sizes = {row.path: row.size for row in maskable(model.table)}
    count = sum(gone(pruning.masks(fitted.learned, fitted.model)).values())
    if pruning.within == "model":
        assert count == round(0.8 * sum(sizes.values()))
    else:
        inputs = {row.path: matrices(row)[1] for row in maskable(model.table)}
        assert count == sum(round(0.5 * n) * sizes[path] // n for path, n in inputs.items())
    assert right(sparse, encoded) > 0.9


@pytest.mark.slow
def test_a_model_becomes_sparse_softly(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    soft = SoftMovement(weight=2.0, learning_rate=0.1)
    fitted, sparse = trained(model, encoded, tmp_path, soft)
    masks = soft.masks(fitted.learned, fitted.model)
    share = sum(gone(masks).values()) / sum(x.size for x in masks.values())
    assert read_history(tmp_path)[-1]["sparsity"] == pytest.approx(share, abs=0.02)
    assert share > 0.3 and right(sparse, encoded) > 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Movement(sparsity=1.0), "Movement: sparsity is 1.0; expected 0 or more, below 1"),
        (lambda: GradualMagnitude(sparsity=-1), "GradualMagnitude: sparsity is -1; expected 0"),
        (
            lambda: GradualMagnitude(sparsity=0.4, within=4),
            "sparsity is 0.4 within every 4 weights; expected a multiple of 1/4",
        ),
        (lambda: Movement(sparsity=0.5, block=(0, 3)), r"Movement: block is \(0, 3\); expected 1"),
        (lambda: SoftMovement(weight=1.0, block=(2, -1)), r"SoftMovement: block is \(2, -1\)"),
        (
            lambda: Movement(sparsity=0.5, begin=0.5, end=0.5),
            "Movement: begin is 0.5, end is 0.5; expected 0 <= begin < end <= 1",
        ),
        (lambda: SoftMovement(weight=1.0, end=1.5), "begin is 0.1, end is 1.5"),
        (lambda: SoftMovement(weight=-1.0), "SoftMovement: weight is -1.0; expected 0 or more"),
        (lambda: SoftMovement(weight=1.0, threshold=1.0), "threshold is 1.0; expected above 0"),
    ],
)
def test_settings_that_cannot_be_are_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
