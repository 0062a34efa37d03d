"""`Model`: creation, checks of its inputs, and chunks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.models.base import LayerSpec, LayerTrace, Outputs, Runtime, json_fields
from effjax.models.model import Model, chunk_rows, create, init_params, inputs
from effjax.tree import flatten

TINY: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 7,
    "max_position_embeddings": 9,
}


@pytest.fixture(scope="module")
def model() -> Model:
    head = "sequence-classification"
    return create("bert", size="tiny", key=jax.random.key(0), head=head, num_labels=3, **TINY)


def test_created_parameters_are_those_of_the_table(model: Model) -> None:
    flat = flatten(model.params)
    assert {path: value.shape for path, value in flat.items()} == {
        row.path: row.shape for row in model.table
    }
    assert model.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert model.config.layers == (LayerSpec(heads=3, ffn=7),) * 2
    assert model.num_params == sum(value.size for value in flat.values())


def test_created_parameters_have_the_published_spread(model: Model) -> None:
    config = model.config.replace(vocab_size=2000, initializer_range=0.05)
    table = model.architecture.table(config)
    flat = flatten(init_params(table, config, jax.random.key(1)))
    assert np.std(flat["embedding/word/embedding"]) == pytest.approx(0.05, rel=0.05)
    for path, value in flat.items():
        if path.endswith(("bias", "scale")):
            assert (value == path.endswith("scale")).all(), path
    kernels = [value for path, value in flat.items() if path.endswith("query/kernel")]
    assert not np.allclose(*kernels)


def test_fields_that_a_batch_may_carry_are_ignored(model: Model) -> None:
    batch = {"input_ids": [[3, 1, 4]], "labels": [1], "example": [0], "text": ["so"]}
    assert set(inputs(model.config, batch)) == {"input_ids"}
    assert np.asarray(model(batch).logits).shape == (1, 3)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"attention_mask": [[1]]}, "no input_ids; it has attention_mask"),
        ({}, "it has nothing"),
        ({"input_ids": [[3, 31]]}, "holds token 31; this vocabulary has 0 to 30"),
        ({"input_ids": [[3, -1]]}, "holds token -1; this vocabulary has 0 to 30"),
        ({"input_ids": [[3] * 10]}, "has 10 tokens; this model has positions for 9"),
    ],
)
def test_input_that_does_not_fit_is_one_line(model: Model, batch: dict, message: str) -> None:
    for call in (model, model.trace):
        with pytest.raises(ValueError, match=message) as caught:
            call(batch)
        assert "\n" not in str(caught.value)


def test_positions_after_the_padding_are_fewer() -> None:
    fields = {**TINY, "num_hidden_layers": 1, "max_position_embeddings": 9}
    roberta = create("roberta", size="base", key=jax.random.key(0), **fields)
    assert roberta.config.max_length == 7
    assert roberta({"input_ids": [[5] * 7]}).last_hidden is not None
    with pytest.raises(ValueError, match="has 8 tokens; this model has positions for 7"):
        roberta({"input_ids": [[5] * 8]})


@pytest.mark.parametrize(
    ("rows", "length", "tokens", "want"),
    [
        (32, 128, None, 32),
        (32, 128, 1024, 8),
        (4, 128, 1024, 4),
        (12, 100, 800, 6),
        (7, 128, 1024, 7),
        (11, 128, 1024, 1),
        (3, 512, 100, 1),
    ],
)
def test_chunks_divide_the_rows(rows: int, length: int, tokens: int | None, want: int) -> None:
    assert chunk_rows(rows, length, tokens) == want


def test_chunks_change_nothing(model: Model) -> None:
    batch = {"input_ids": np.arange(24).reshape(6, 4), "token_type_ids": np.ones((6, 4), int)}
    whole = model.replace(runtime=Runtime(chunk_tokens=None))(batch)
    chunked = model.replace(runtime=Runtime(chunk_tokens=8))(batch)
    for field in ("last_hidden", "pooled", "logits"):
        found, want = (np.asarray(getattr(outputs, field)) for outputs in (chunked, whole))
        np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "fields", "message"),
    [
        ("gpt2", "base", {}, "model_type 'gpt2' is not supported; supported: bert, distilbert"),
        ("bert", "huge", {}, "bert has no size 'huge'; sizes: tiny, mini"),
        (
            "distilbert",
            "base",
            {"head": "pretraining"},
            "distilbert has no head .pretraining.; heads",
        ),
        ("bert", "tiny", {"num_attention_heads": 5}, "128 is not a multiple of 5"),
        ("bert", "tiny", {"hidden_act": "swish"}, "hidden_act is 'swish'; allowed: gelu"),
    ],
)
def test_what_does_not_exist_is_one_line(name: str, size: str, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        create(name, size=size, key=jax.random.key(0), **fields)
    assert "\n" not in str(caught.value)


def test_hidden_states_are_numbered_from_the_embedding() -> None:
    states = [np.full((1, 2, 3), i, np.float32) for i in range(3)]
    traces = tuple(LayerTrace(hidden=state) for state in states[1:])
    outputs = Outputs(embedded=states[0], layers=traces, last_hidden=states[2])
    for i in range(3):
        assert outputs.hidden(i) is states[i]
    with pytest.raises(ValueError, match=r"hold 0 \(the embedding\) to 2"):
        outputs.hidden(3)
    with pytest.raises(ValueError, match=r"hold 0 \(the embedding\) to 2"):
        outputs.hidden(-1)
    with pytest.raises(ValueError, match="hidden state 0 was not kept"):
        Outputs(layers=traces).hidden(0)
    assert outputs.light() == Outputs(last_hidden=states[2])


def test_unread_fields_are_hashable_and_come_back(model: Model) -> None:
    fields = {"task": {"a": [1, None]}, "name": "x"}
    config = model.config.replace(extra=json_fields(fields))
    assert config.extra_fields == fields
    assert hash(config) == hash(model.config.replace(extra=json_fields(fields)))


def test_a_model_for_inference_gives_the_same_bits(model: Model) -> None:
    batch = {"input_ids": np.arange(12).reshape(2, 6)}
    low = model.replace(runtime=Runtime(dtype="bfloat16"))
    cast = low.for_inference()
    kinds = {path: x.dtype for path, x in flatten(cast.params).items()}
    assert all((kind == jnp.bfloat16) == path.endswith("/kernel") for path, kind in kinds.items())
    np.testing.assert_array_equal(cast(batch).last_hidden, low(batch).last_hidden)
    plain = model.for_inference()
    assert {x.dtype for x in jax.tree.leaves(plain.params)} == {jnp.dtype("float32")}
