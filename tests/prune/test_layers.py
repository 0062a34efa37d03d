"""Dropping layers: which ones the strategies name, and importance by trying it out."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest

from effjax.data.batches import eval_batches
from effjax.data.encode import Encoded
from effjax.models import Model, create
from effjax.prune import (
    alternate,
    bottom,
    every_other,
    fewer_layers,
    least_contributing,
    least_important,
    symmetric,
    top,
    without_layers,
)
from effjax.prune.layers import losses_without
from effjax.tree import flatten, unflatten
from effjax.types import Batch

DEPTH = 4


@functools.cache
def of_depth(depth: int, name: str = "bert") -> Model:
    """A narrow classifier of so many layers, every parameter random."""
    model = create(
        name,
        size="base",
        head="sequence-classification",
        key=jax.random.key(0),
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=16,
        pad_token_id=0,
    )
    random = np.random.default_rng(1)
    noisy = {
        path: x + 0.4 * random.normal(size=x.shape).astype(np.float32)
        for path, x in flatten(model.params).items()
    }
    return model.replace(params=unflatten(noisy))


@pytest.fixture(scope="module")
def deep() -> Model:
    return of_depth(DEPTH)


def as_deep(depth: int) -> Model:
    """A model of so many layers by its config, which is all that some strategies look at."""
    model = of_depth(DEPTH)
    return model.replace(config=model.config.replace(layers=model.config.layers[:1] * depth))


def numbers(layers: tuple[int, ...]) -> list[int]:
    """As the papers count, from 1."""
    return sorted(i + 1 for i in layers)


def test_layers_are_those_that_the_papers_name() -> None:
    """Of twelve layers, as in section 3 of arXiv 2004.03844."""
    model = as_deep(12)
    assert numbers(top(model, 4)) == [9, 10, 11, 12]
    assert numbers(bottom(model, 4)) == [1, 2, 3, 4]
    assert numbers(alternate(model, 4, which="odd")) == [5, 7, 9, 11]
    assert numbers(alternate(model, 4)) == [6, 8, 10, 12]
    assert numbers(symmetric(model, 6)) == [4, 5, 6, 7, 8, 9]
    assert numbers(symmetric(model, 5)) == [5, 6, 7, 8, 9]
    # d = 0 mod floor(1 / rate), for rates of 1/2, 1/3 and 1/6
    assert numbers(every_other(model, 6)) == [2, 4, 6, 8, 10, 12]
    assert numbers(every_other(model, 4)) == [3, 6, 9, 12]
    assert numbers(every_other(model, 2)) == [6, 12]
    assert numbers(every_other(as_deep(5), 2)) == [2, 4]
    assert numbers(symmetric(as_deep(5), 3)) == [2, 3, 4]


@pytest.mark.parametrize("strategy", [top, bottom, alternate, symmetric, every_other])
def test_no_layer_goes_where_none_is_to_go(strategy: Callable) -> None:
    assert strategy(as_deep(5), 0) == ()


@pytest.mark.parametrize("strategy", [top, bottom, alternate, symmetric])
def test_more_layers_go_after_the_same_ones(strategy: Callable) -> None:
    model = as_deep(12)
    most = strategy(model, 6)
    assert len(set(most)) == 6
    for drop in range(6):
        assert strategy(model, drop) == most[:drop]


def test_what_is_left_is_the_other_layers(deep: Model) -> None:
    small = without_layers(deep, (2, 0))
    ours, theirs = flatten(small.params), flatten(deep.params)
    source = {"layer_0": "layer_1", "layer_1": "layer_3"}
    for path, array in ours.items():
        first, slash, rest = path.partition("/")
        assert array is theirs[source.get(first, first) + slash + rest], path
    assert without_layers(deep, ()).config == deep.config


def padded(encoded: Encoded) -> Batch:
    """All examples as one batch."""
    (batch,) = eval_batches(encoded, len(encoded), pad_id=0, layout="padded")
    assert batch["example_mask"].all() and not batch["attention_mask"].all()
    return batch


def mean_loss(model: Model, encoded: Encoded, loss: Callable) -> float:
    batch = padded(encoded)
    return float(loss(model(batch), batch))


@pytest.fixture(scope="module")
def some(encoded: Encoded) -> Encoded:
    """Examples 10 to 27, with their labels."""
    assert encoded.labels is not None
    begin, end = encoded.offsets[10], encoded.offsets[28]
    return Encoded(
        encoded.input_ids[begin:end],
        encoded.token_type_ids[begin:end],
        encoded.offsets[10:29] - begin,
        encoded.labels[10:28],
        encoded.idx[10:28],
    )


def test_importance_is_what_the_loss_is_without_a_layer(
    deep: Model, some: Encoded, loss: Callable
) -> None:
    """Greedily: of the models with one layer less, the best one, and again."""
    gone, found = (), least_important(deep, some, loss, 2)
    for i in found:
        losses = losses_without(deep, some, loss, gone)
        for layer in range(DEPTH):
            if layer in gone:
                assert losses[layer] == np.inf
                continue
            small = without_layers(deep, (*gone, layer))
            assert losses[layer] == pytest.approx(mean_loss(small, some, loss), abs=1e-5)
        assert i == np.argmin(losses)
        assert np.ptp(np.sort(losses)[: DEPTH - len(gone)]) > 1e-3
        gone += (i,)
    assert len(set(found)) == 2 and least_important(deep, some, loss, 0) == ()


def test_the_least_contribution_is_the_largest_cosine(deep: Model, some: Encoded) -> None:
    trace, cosines = deep.trace(padded(some)), []
    for example in range(len(some)):
        first = [np.asarray(trace.hidden(i))[example, 0] for i in range(DEPTH + 1)]
        lengths = [np.linalg.norm(x) for x in first]
        cosines.append(
            [first[i] @ first[i + 1] / (lengths[i] * lengths[i + 1]) for i in range(DEPTH)]
        )
    want = np.argsort(-np.mean(cosines, axis=0))
    assert least_contributing(deep, some, 3) == tuple(want[:3])
    assert np.diff(np.sort(np.mean(cosines, axis=0))).min() > 1e-4


def test_a_layer_that_does_nothing_goes_first(some: Encoded, loss: Callable) -> None:
    """Pre-norm, with nothing added to the hidden states."""
    model = of_depth(3, "modernbert")
    ends = ("layer_1/attention/output/kernel", "layer_1/feedforward/down/kernel")
    silent = {path: 0 * x if path in ends else x for path, x in flatten(model.params).items()}
    model = model.replace(params=unflatten(silent))
    assert least_contributing(model, some, 1) == (1,)
    assert losses_without(model, some, loss)[1] == pytest.approx(
        mean_loss(model, some, loss), abs=1e-5
    )


def test_weight_sets_that_come_again_go_one_by_one(some: Encoded) -> None:
    """Where they have no gates of their own, places in the order have them."""
    albert = of_depth(4, "albert")
    assert albert.config.layer_names == ("layer_0",) * 4
    drop = least_contributing(albert, some, 3)
    assert len(set(drop)) == 3
    assert without_layers(albert, drop).config.layer_names == ("layer_0",)


def test_as_few_layers_go_as_a_budget_allows(deep: Model) -> None:
    def cost(model: Model) -> int:
        return model.num_params

    whole, layer = cost(deep), cost(deep) - cost(without_layers(deep, (0,)))
    order = (1, 3, 0)
    for spare, gone in ((0, 0), (1, 1), (layer, 1), (layer + 1, 2), (3 * layer, 3)):
        small = fewer_layers(deep, order, cost, at_most=whole - spare)
        want = without_layers(deep, order[:gone])
        jax.tree.map(np.testing.assert_array_equal, small.params, want.params)
    with pytest.raises(ValueError, match=r"without some of the layers \(1, 3, 0\) costs") as caught:
        fewer_layers(deep, order, cost, at_most=whole - 3 * layer - 1)
    assert f"nearest possible costs {whole - 3 * layer:,.4g}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_number_is_one_line(deep: Model, some: Encoded, loss: Callable) -> None:
    broken = {path: x for path, x in flatten(deep.params).items()}
    broken["layer_2/feedforward/down/bias"] *= np.nan
    broken = deep.replace(params=unflatten(broken))
    with pytest.raises(ValueError, match=r"^the cosine .* of layer 2 is not a number; [^\n]*$"):
        least_contributing(broken, some, 1)
    with pytest.raises(ValueError, match=r"^the loss without layer 0 is not a number; [^\n]*$"):
        least_important(broken, some, loss, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda m, *_: top(m, 4), "dropping 4 of 4 layers: expected 0 to 3"),
        (lambda m, *_: bottom(m, -1), "dropping -1 of 4 layers: expected 0 to 3"),
        (lambda m, *_: symmetric(m, 5), "dropping 5 of 4 layers"),
        (lambda m, *_: alternate(m, 3), "dropping 3 even layers: of 4 layers 2 are even"),
        (lambda m, *_: every_other(m, 3), "so that 3 go: allowed are 1, 2$"),
        (lambda m, x, loss: least_important(m, x, loss, 4), "dropping 4 of 4 layers"),
        (lambda m, x, _: least_contributing(m, x, 9), "dropping 9 of 4 layers"),
        (lambda m, *_: without_layers(m, range(4)), "dropping 4 of 4 layers: expected 0 to 3"),
        (lambda m, *_: without_layers(m, (1, 4)), r"dropping layers \(1, 4\): expected each once"),
        (lambda m, *_: without_layers(m, (1, 1)), r"\(1, 1\): expected each once, from 0 to 3"),
        (
            lambda _, x, loss: least_important(of_depth(4, "albert"), x, loss, 1),
            "layers of this model share their weights; none can be skipped alone",
        ),
    ],
)
def test_what_cannot_go_is_one_line(
    deep: Model, encoded: Encoded, loss: Callable, wrong: Callable, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        wrong(deep, encoded, loss)
    assert "\n" not in str(caught.value)
