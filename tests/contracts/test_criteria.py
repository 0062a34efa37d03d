"""Contract: what every criterion of pruning promises of its scores."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model, Runtime, create
from effjax.models.base import Outputs
from effjax.prune import gated
from effjax.prune.shrink import take
from effjax.tree import flatten, unflatten
from effjax.types import Array, Batch, Scores
from tests.contracts.criteria import CRITERIA, Row
from tests.train.small_run import SIZES, small_data

OBJECTIVE = Weighted(task=(1.0, TaskLoss()))


def loss(outputs: Outputs, batch: Batch) -> Array:
    return OBJECTIVE({}, outputs, {}, batch).total


@pytest.fixture(scope="module")
def model() -> Model:
    """Two layers, every parameter random."""
    head = "sequence-classification"
    model = create("bert", size="tiny", head=head, key=jax.random.key(0), **SIZES)
    return changed(model, lambda path, x, random: x + 0.3 * random.normal(size=x.shape))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    return small_data(70)


@pytest.fixture(params=CRITERIA)
def row(request: pytest.FixtureRequest) -> Row:
    return CRITERIA[request.param]


def changed(model: Model, change: Callable[..., np.ndarray]) -> Model:
    """The model with every array replaced by `change(path, array, random)`."""
    random = np.random.default_rng(0)
    arrays = {path: change(path, np.array(x), random) for path, x in flatten(model.params).items()}
    return model.replace(params=unflatten({x: jnp.asarray(y, "f4") for x, y in arrays.items()}))


def assert_alike(found: Scores, want: Mapping[str, Array], tolerance: float) -> None:
    assert found.keys() == want.keys()
    for instance, score in want.items():
        largest = float(np.abs(score).max())
        np.testing.assert_allclose(found[instance], score, atol=tolerance * largest, rtol=0)


def test_every_head_and_unit_has_a_score(row: Row, model: Model, encoded: Encoded) -> None:
    scores = row.criterion(model, encoded, loss)
    assert list(scores) == list(gated(model))
    for instance, size in gated(model).items():
        assert np.shape(scores[instance]) == (size,)
        assert np.isfinite(scores[instance]).all() and len(np.unique(scores[instance])) > 1


def test_scores_go_with_heads_and_units(row: Row, model: Model, encoded: Encoded) -> None:
    random, arrays = np.random.default_rng(0), flatten(model.params)
    order = {name: random.permutation(size) for name, size in gated(model).items()}
    moved = {path: take(arrays[path], model.table.by_path[path], order) for path in arrays}
    scores = row.criterion(model, encoded, loss)
    found = row.criterion(model.replace(params=unflatten(moved)), encoded, loss)
    # A random score stays where it was.
    want = {x: y if row.random else np.asarray(y)[order[x]] for x, y in scores.items()}
    assert_alike(found, want, 1e-4)


def test_the_order_of_examples_does_not_matter(row: Row, model: Model, encoded: Encoded) -> None:
    def reversed_rows(values: np.ndarray) -> np.ndarray:
        bounds = zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
        return np.concatenate([values[begin:end] for begin, end in list(bounds)[::-1]])

    assert encoded.labels is not None
    backwards = replace(
        encoded,
        input_ids=reversed_rows(encoded.input_ids),
        token_type_ids=reversed_rows(encoded.token_type_ids),
        offsets=np.append(0, np.cumsum(encoded.lengths[::-1])),
        labels=encoded.labels[::-1],
        idx=encoded.idx[::-1],
    )
    scores = row.criterion(model, encoded, loss)
    assert_alike(row.criterion(model, backwards, loss), scores, 1e-4)


def test_what_does_nothing_is_worth_least(row: Row, model: Model, encoded: Encoded) -> None:
    if row.random:
        return

    def without(path: str, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
        del random
        for number, axis in enumerate(model.table.by_path[path].axes):
            if axis.instance in ("layer_0/heads", "layer_1/ffn"):
                np.moveaxis(x, number, 0)[1] = 0.0
        return x

    scores = row.criterion(changed(model, without), encoded, loss)
    assert np.argmin(scores["layer_0/heads"]) == np.argmin(scores["layer_1/ffn"]) == 1


def test_scores_in_bfloat16_are_near(row: Row, model: Model, encoded: Encoded) -> None:
    low = model.replace(runtime=Runtime(dtype="bfloat16"))
    scores = row.criterion(low, encoded, loss)
    assert all(np.asarray(score).dtype in (np.float32, np.float64) for score in scores.values())
    assert_alike(scores, row.criterion(model, encoded, loss), 0.1)
