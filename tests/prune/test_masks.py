"""Weight masks: which weights they take by brute force, and what they leave alone.

That every architecture's kernels can be masked is a contract: see tests/contracts.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.models import Model
from effjax.prune import masked, n_of_m_masks, wanda, weight_masks
from effjax.prune.masks import maskable, matrices
from effjax.prune.sparsity import lowest
from effjax.table import Row
from effjax.tree import flatten

OUTPUT = "layer_0/attention/output/kernel"
"""[heads, head size, hidden], which a product sums over the first two of."""


def zeros(masks: Any) -> int:
    return sum(int((np.asarray(mask) == 0).sum()) for mask in masks.values())


def pruned(model: Model) -> dict[str, Row]:
    return {row.path: row for row in maskable(model.table)}


def test_the_lowest_are_those_of_a_stable_sort() -> None:
    """Negative, equal and infinite numbers, and every count."""
    random = np.random.default_rng(0)
    x = random.integers(-3, 4, (3, 13, 2)).astype(np.float32) * 0.5
    x[0, 2:5], x[1, 7] = -np.inf, np.inf
    order = np.argsort(x, axis=1, stable=True)
    for count in range(14):
        want = np.zeros(x.shape, bool)
        np.put_along_axis(want, order[:, :count], True, axis=1)
        np.testing.assert_array_equal(lowest(jnp.asarray(x), count / 13), want)


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.93])
def test_magnitudes_go_in_every_matrix(model: Model, sparsity: float) -> None:
    masks, arrays = weight_masks(model, sparsity=sparsity), flatten(model.params)
    assert list(masks) == list(pruned(model))
    for path, row in pruned(model).items():
        sizes, mask = np.abs(np.asarray(arrays[path])), np.asarray(masks[path])
        assert mask.shape == row.shape and (~mask).sum() == round(sparsity * row.size)
        assert not (~mask).any() or sizes[~mask].max() <= sizes[mask].min()


def test_magnitudes_go_in_the_whole_model(model: Model) -> None:
    masks, arrays = weight_masks(model, sparsity=0.6, within="model"), flatten(model.params)
    sizes = np.concatenate([np.abs(np.asarray(arrays[path])).ravel() for path in masks])
    left = np.concatenate([np.asarray(mask).ravel() for mask in masks.values()])
    assert (~left).sum() == round(0.6 * len(left))
    assert sizes[~left].max() <= sizes[left].min()
    shares = [np.asarray(mask).mean() for mask in masks.values()]
    assert max(shares) - min(shares) > 0.02


def test_magnitudes_go_in_the_weights_of_every_output(model: Model) -> None:
    masks, arrays = weight_masks(model, sparsity=0.5, within="output"), flatten(model.params)
    for path, row in pruned(model).items():
        _, inputs, outputs = matrices(row)
        sizes = np.abs(np.asarray(arrays[path])).reshape(inputs, outputs)
        for j, mask in enumerate(np.asarray(masks[path]).reshape(inputs, outputs).T):
            gone = np.argsort(sizes[:, j])[: round(0.5 * inputs)]
            assert set(np.flatnonzero(~mask)) == set(gone)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 3)])
def test_n_of_every_m_are_left(model: Model, n: int, m: int) -> None:
    """Along what a product sums over: heads and head size as one axis."""
    arrays = flatten(model.params)
    whole = {path: np.abs(arrays[path]) for path in pruned(model)}
    scores = {path: x for path, x in whole.items() if not path.endswith("down/kernel")}
    masks = n_of_m_masks(model, n=n, m=m, scores=scores)
    assert list(masks) == list(scores) and OUTPUT in masks
    for path, mask in masks.items():
        _, inputs, outputs = matrices(pruned(model)[path])
        groups = np.asarray(mask).reshape(inputs // m, m, outputs)
        assert (groups.sum(1) == n).all()
        sizes = whole[path].reshape(inputs // m, m, outputs)
        kept = np.where(groups, sizes, np.inf).min(1)
        assert (kept >= np.where(groups, 0, sizes).max(1)).all()


def test_what_has_no_scores_is_left_alone(model: Model) -> None:
    scores = {OUTPUT: np.arange(144.0).reshape(3, 4, 12)}
    masks = weight_masks(model, sparsity=0.25, scores=scores)
    np.testing.assert_array_equal(masks[OUTPUT].ravel(), np.arange(144) >= 36)
    before, after = flatten(model.params), flatten(masked(model, masks).params)
    assert [path for path in before if (before[path] != after[path]).any()] == [OUTPUT]


def test_masks_are_zeros_in_arrays_as_large(model: Model) -> None:
    """Embeddings, pooler, head, biases and norms are as they were."""
    masks = weight_masks(model, sparsity=0.5)
    sparse = masked(model, masks)
    before, after = flatten(model.params), flatten(sparse.params)
    assert sparse.num_params == model.num_params and list(before) == list(after)
    for path, array in after.items():
        want = np.where(masks[path], before[path], 0) if path in masks else before[path]
        np.testing.assert_array_equal(array, want)
    rest = {path.partition("/")[0] for path in before if path not in masks}
    assert {"embedding", "pooler", "head"} < rest
    assert not any(path.startswith(("embedding", "pooler", "head")) for path in masks)
    assert sum(int((x == 0).sum()) for x in after.values()) == zeros(masks)
    batch = {"input_ids": np.array([[1, 7, 11, 12]])}
    assert np.abs(np.asarray(sparse(batch).logits) - model(batch).logits).max() > 1e-3


def test_nothing_is_read_of_no_examples(model: Model, encoded: Encoded) -> None:
    none = replace(encoded, idx=encoded.idx[:0])
    with pytest.raises(ValueError, match="there are no examples to look at"):
        wanda(model, none)


def test_wanda_weighs_by_what_is_read(model: Model, encoded: Encoded) -> None:
    """Against hidden states, which queries, keys, values and the first product of a network read;
    padding is not read.
    """
    scores, arrays = wanda(model, encoded), flatten(model.params)
    totals = {"layer_0": np.zeros(12), "layer_1": np.zeros(12)}
    for batch in eval_batches(encoded, 9, pad_id=0, layout="padded"):
        outputs = model.trace(batch)
        there = (np.asarray(batch["attention_mask"]) * batch["example_mask"][:, None])[..., None]
        for i, name in enumerate(totals):
            totals[name] += np.square(np.asarray(outputs.hidden(i)) * there).sum((0, 1))
    assert list(scores) == list(pruned(model))
    for layer, total in totals.items():
        for name in ("query", "key", "value"):
            path = f"{layer}/attention/{name}/kernel"
            want = np.abs(arrays[path]) * np.sqrt(total)[:, None, None]
            np.testing.assert_allclose(scores[path], want, rtol=1e-4)
    masks = weight_masks(model, within="output", scores=scores)
    plain = weight_masks(model, within="output")
    assert zeros(masks) == zeros(plain)
    assert any((masks[path] != plain[path]).any() for path in masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: weight_masks(x, sparsity=1.0), "sparsity is 1.0; expected 0 or more, below 1"),
        (lambda x: weight_masks(x, sparsity=-0.1), "sparsity is -0.1; expected 0 or more"),
        (lambda x: weight_masks(x, within=0), "within is 0; expected 1 weight or more"),
        (lambda x: weight_masks(x, within=3), "sparsity is 0.5 within every 3 weights; expected"),
        (lambda x: n_of_m_masks(x, n=5, m=4), "n is 5, m is 4; expected n from 1 to m"),
        (lambda x: n_of_m_masks(x, n=0, m=4), "n is 0, m is 4; expected n from 1 to m"),
        (
            lambda x: n_of_m_masks(x, n=2, m=4),
            "within every 4: layer_0/feedforward/down/kernel has 7 along its inputs, which 4 does",
        ),
        (
            lambda x: weight_masks(x, scores={"pooler/dense/kernel": np.ones((12, 12))}),
            "scores name 'pooler/dense/kernel', which is no kernel inside a layer",
        ),
        (
            lambda x: masked(x, {OUTPUT: np.ones((12, 12))}),
            r"masks\['layer_0/attention/output/kernel'\] has shape \(12, 12\); expected \(3, 4, 12",
        ),
        (lambda x: masked(x, {"nothing": np.ones(1)}), "masks name 'nothing', which is no kernel"),
    ],
)
def test_what_cannot_be_masked_is_one_line(
    model: Model, call: Callable[[Model], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)
