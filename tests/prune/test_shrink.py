"""Shrinking: smaller arrays, the config that goes with them, and what is refused.

That a shrunk model computes what the gated one does is a contract of every architecture: see
tests/contracts.
"""

from typing import Any

import jax
import numpy as np
import pytest

from effjax.models.base import LayerSpec, json_fields
from effjax.models.model import Model, create
from effjax.prune import shrink
from effjax.tree import flatten
from effjax.types import Array


@pytest.fixture(scope="module")
def model() -> Model:
    return create(
        "bert",
        size="tiny",
        key=jax.random.key(0),
        head="masked-lm",
        vocab_size=31,
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=7,
        max_position_embeddings=9,
    )


BATCH = {
    "input_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


def assert_close(found: Array | None, want: Array | None) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), atol=1e-6)


def test_arrays_and_config_become_smaller(model: Model) -> None:
    small = shrink(model, {"layer_0/heads": np.array([0, 2]), "layer_1/ffn": np.array([1, 2, 6])})
    assert small.config.layers == (LayerSpec(heads=2, ffn=7), LayerSpec(heads=3, ffn=3))
    ours, theirs = flatten(small.params), flatten(model.params)
    assert {path: value.shape for path, value in ours.items()} == {
        row.path: row.shape for row in small.table
    }
    kernel = "layer_0/attention/query/kernel"
    np.testing.assert_array_equal(ours[kernel], theirs[kernel][:, np.array([0, 2])])
    kernel = "layer_1/feedforward/down/kernel"
    np.testing.assert_array_equal(ours[kernel], theirs[kernel][np.array([1, 2, 6])])
    kernel = "layer_1/attention/query/kernel"
    np.testing.assert_array_equal(ours[kernel], theirs[kernel])
    assert model.config.layers == (LayerSpec(heads=3, ffn=7),) * 2
    assert small.num_params == sum(value.size for value in ours.values()) < model.num_params


def test_an_empty_axis_has_no_arrays(model: Model) -> None:
    none = np.array([], int)
    small = shrink(model, {"layer_0/heads": none, "layer_0/ffn": none})
    left = {path for path in flatten(small.params) if path.startswith("layer_0/")}
    assert left == {
        "layer_0/attention/output/bias",
        "layer_0/attention_norm/scale",
        "layer_0/attention_norm/bias",
        "layer_0/feedforward/down/bias",
        "layer_0/feedforward_norm/scale",
        "layer_0/feedforward_norm/bias",
    }


def test_a_smaller_vocabulary_renumbers_tokens(model: Model) -> None:
    kept = np.array([0, 1, 2, 3, 4, 5, 6, 9, 30])
    small = shrink(model, {"vocabulary": kept})
    assert small.config.vocab_size == 9
    renumbered = {**BATCH, "input_ids": np.searchsorted(kept, BATCH["input_ids"])}
    ours, theirs = small(renumbered), model(BATCH)
    assert_close(ours.last_hidden, theirs.last_hidden)
    assert_close(ours.logits, np.asarray(theirs.logits)[..., kept])


def test_tokens_that_the_config_names_are_renumbered(model: Model) -> None:
    extra = json_fields({"eos_token_id": 7, "bos_token_id": None, "torchscript": False})
    named = model.replace(config=model.config.replace(pad_token_id=2, extra=extra))
    small = shrink(named, {"vocabulary": np.array([2, 5, 7])}).config
    assert small.pad_token_id == 0
    assert small.extra_fields == {"eos_token_id": 2, "bos_token_id": None, "torchscript": False}


def test_a_dropped_padding_token_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="lacks 0, the model's pad_token_id"):
        shrink(model, {"vocabulary": np.array([1, 2])})


def test_positions_that_count_from_the_padding_do_not_move() -> None:
    roberta = create(
        "roberta",
        size="base",
        key=jax.random.key(0),
        vocab_size=11,
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=7,
        num_hidden_layers=1,
    )
    with pytest.raises(ValueError, match="moves the padding token 1"):
        shrink(roberta, {"vocabulary": np.array([1, 2, 5])})
    assert shrink(roberta, {"vocabulary": np.array([0, 1, 5])}).config.pad_token_id == 1


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"hidden": []}, "nothing is kept of hidden; expected some"),
        ({"layer_7/heads": [0]}, "'layer_7/heads', which this model has not; it has hidden, layer"),
        ({"layer_0/heads": [0, 3]}, "holds 3; allowed: 0 to 2"),
        ({"layer_0/heads": [-1, 0]}, "holds -1; allowed: 0 to 2"),
        ({"layer_0/heads": [1, 0]}, "not ascending"),
        ({"layer_0/heads": [1, 1]}, "an index twice"),
        ({"layer_0/heads": [True, False, True]}, "bool of shape"),
        ({"layer_0/heads": [[0]]}, "expected integers"),
        ({"vocabulary": []}, "lacks 0"),
    ],
)
def test_what_cannot_be_kept_is_one_line(model: Model, keep: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        shrink(model, {instance: np.asarray(kept) for instance, kept in keep.items()})
    assert "\n" not in str(caught.value)


def test_a_projection_is_not_to_lead_to_its_own_width() -> None:
    sizes: Any = {"embedding_size": 8, "hidden_size": 12, "num_attention_heads": 3}
    sizes |= {"vocab_size": 11, "intermediate_size": 7, "num_hidden_layers": 1}
    electra = create("electra", size="small", key=jax.random.key(0), **sizes)
    with pytest.raises(ValueError, match="hidden states and word vectors would both be 8 wide"):
        shrink(electra, {"hidden": np.arange(8)})
    both = shrink(electra, {"hidden": np.arange(8), "embedding": np.arange(4)}).config
    assert (both.hidden, both.embedding) == (8, 4)


def test_shrinking_twice_is_shrinking_once(model: Model) -> None:
    once = shrink(model, {"layer_0/ffn": np.array([1, 5])})
    twice = shrink(
        shrink(model, {"layer_0/ffn": np.array([1, 3, 5])}), {"layer_0/ffn": np.array([0, 2])}
    )
    assert once.config == twice.config
    jax.tree.map(np.testing.assert_array_equal, once.params, twice.params)
