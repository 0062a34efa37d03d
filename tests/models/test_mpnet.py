"""MPNet: its buckets of distances, its biases in the scores, and what shrinking does to them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from effjax.hf import save_pretrained, verify
from effjax.layers.relative_bias import BiasedAttention, bucket_starts, distance_buckets
from effjax.models import create, registry
from effjax.models.base import Runtime
from effjax.models.hf_config import config_from_hf
from effjax.models.model import Model
from effjax.models.mpnet import MPNetConfig
from effjax.prune import shrink
from effjax.train.optimizer import layer_factors
from effjax.tree import flatten

MPNET = registry.get("mpnet")

SIZES: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 7,
    "num_hidden_layers": 2,
    "max_position_embeddings": 202,
}


@pytest.fixture(scope="module")
def model() -> Model:
    """Weights of unit size, so that biases matter."""
    made = create("mpnet", size="base", key=jax.random.key(0), runtime=Runtime.plain(), **SIZES)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: 0.3 * random.standard_normal(x.shape, np.float32), made.params)
    return made.replace(params=params)


def test_buckets_begin_where_the_paper_has_them() -> None:
    assert bucket_starts(16, 128) == (*range(1, 9), 12, 16, 23, 32, 46, 64, 91)


def test_buckets_are_torchs_at_every_distance() -> None:
    """Below, at and beyond every edge, and past the longest distance."""
    distance = np.arange(-600, 601)
    want = MPNetEncoder.relative_position_bucket(torch.from_numpy(distance)).numpy()
    found = np.asarray(distance_buckets(distance, 32, 128))
    np.testing.assert_array_equal(found, want)
    assert set(found) == set(range(32)) - {16}  # a key that follows is never at distance 0


@pytest.mark.parametrize("distance", [0, 1, 7, 8, 11, 12, 127, 128, 500])
def test_a_bucket_is_that_of_the_formula(distance: int) -> None:
    """Source: arXiv 1910.10683, as released."""
    far = 8 + math.floor(math.log(max(distance, 8) / 8) / math.log(16) * 8)
    want = distance if distance < 8 else min(far, 15)
    found = np.asarray(distance_buckets(np.array([-distance, distance]), 32, 128))
    np.testing.assert_array_equal(found, [want, want + 16 if distance else 0])


def test_attention_is_softmax_of_scores_and_biases() -> None:
    """Against plain numpy, with two of four columns of the table, in every kernel."""
    random = np.random.default_rng(1)
    x, bias = (random.standard_normal(s).astype(np.float32) for s in ((2, 5, 6), (1, 4, 5, 5)))
    mask = np.array([[1] * 5, [1, 1, 1, 0, 0]], bool)[:, None, None]
    shared: Any = {"mask": mask, "bias": bias}
    layer = BiasedAttention(
        6, 2, 3, 0.0, "textbook", "float32", jax.nn.initializers.normal(1), (3, 1)
    )
    variables: Any = layer.init(jax.random.key(0), x, shared, None, True)
    found: Any = layer.apply(variables, x, shared, None, True)
    output, trace = found
    kernels = {name: np.asarray(part["kernel"]) for name, part in variables["params"].items()}
    q, k, v = (np.einsum("bld,dhk->bhlk", x, kernels[n]) for n in ("query", "key", "value"))
    scores = np.einsum("bhlk,bhmk->bhlm", q, k) / np.sqrt(3) + bias[:, [3, 1]]
    np.testing.assert_allclose(trace["scores"], scores, atol=1e-5)
    weights = np.exp(np.where(mask, scores, -np.inf))
    weights /= weights.sum(-1, keepdims=True)
    context = np.einsum("bhlm,bhmk->blhk", weights, v)
    want = np.einsum("blhk,hkd->bld", context, kernels["output"])
    np.testing.assert_allclose(output, want, atol=1e-5)
    for kernel in ("late-division", "fused"):
        found = layer.clone(kernel=kernel).apply(variables, x, shared, None, True)
        np.testing.assert_allclose(found[0], want, atol=1e-5)


@pytest.mark.parametrize("length", [8, 9, 129, 200])
def test_long_inputs_are_torchs(model: Model, tmp_path: Any, length: int) -> None:
    """Padding on the right and on the left, layer by layer."""
    save_pretrained(model, tmp_path / "out")
    theirs = transformers.MPNetModel.from_pretrained(tmp_path / "out").eval()
    ids = np.random.default_rng(length).integers(2, 31, (3, length))
    ids[1, length // 2 :], ids[2, : length // 3] = 1, 1
    batch = {"input_ids": ids, "attention_mask": (ids != 1).astype(np.int64)}
    with torch.no_grad():
        inputs = {name: torch.from_numpy(x) for name, x in batch.items()}
        want = theirs(**inputs, output_hidden_states=True)
    found = model.trace(batch)
    for i, hidden in enumerate(want.hidden_states):
        np.testing.assert_allclose(
            np.asarray(found.hidden(i))[ids != 1], hidden.numpy()[ids != 1], atol=1e-4
        )


def test_each_layer_given_the_same_input_is_torchs(model: Model, tmp_path: Any) -> None:
    save_pretrained(model, tmp_path / "out")
    theirs = transformers.MPNetModel.from_pretrained(tmp_path / "out").eval()
    ids = np.random.default_rng(0).integers(2, 31, (2, 40))
    with torch.no_grad():
        want = theirs(torch.from_numpy(ids), output_hidden_states=True)
        bias = theirs.encoder.compute_position_bias(want.last_hidden_state)
    states = [hidden.numpy() for hidden in want.hidden_states]

    def layer(module: Any, i: int) -> Any:
        fields = {"input_ids": ids}
        return module.blocks[i](states[i], module.share(fields), {}, True)[0]

    def share(module: Any) -> Any:
        return module.share({"input_ids": ids})["bias"]

    variables = {"params": model.params}
    found = np.asarray(model.module.apply(variables, method=share))
    np.testing.assert_allclose(np.broadcast_to(found, bias.shape), bias.numpy(), atol=1e-5)
    for i in range(2):
        found = np.asarray(model.module.apply(variables, i, method=layer))
        np.testing.assert_allclose(found, states[i + 1], atol=1e-5)


def test_a_head_keeps_its_column_of_the_table(model: Model) -> None:
    small = shrink(model, {"layer_0/heads": np.array([0, 2])})
    again = shrink(small, {"layer_0/heads": np.array([1]), "layer_1/heads": np.array([1])})
    assert isinstance(again.config, MPNetConfig)
    assert [layer.columns for layer in again.config.layers] == [(2,), (1,)]
    table = "relative_bias/embedding"
    np.testing.assert_array_equal(flatten(again.params)[table], flatten(model.params)[table])
    keep = {"layer_0/heads": np.array([2]), "layer_1/heads": np.array([1])}
    batch = {"input_ids": np.arange(2, 31)[None]}
    ours, theirs = again(batch).last_hidden, shrink(model, keep)(batch).last_hidden
    np.testing.assert_array_equal(ours, theirs)


def test_a_biased_kernel_in_bfloat16_is_close(model: Model) -> None:
    batch = {"input_ids": np.arange(2, 31)[None]}
    want = np.asarray(model(batch).last_hidden)
    runtime = Runtime(dtype="bfloat16", attention="fused")
    found = np.asarray(model.replace(runtime=runtime)(batch).last_hidden, np.float32)
    assert np.abs(found - want).max() <= 0.03 * np.abs(want).max()


def test_one_gradient_for_the_biases_of_all_layers(model: Model) -> None:
    def loss(params: Any) -> Any:
        outputs: Any = model.module.apply({"params": params}, {"input_ids": np.arange(2, 20)[None]})
        return jnp.square(outputs.last_hidden[..., 0]).sum()

    gradient = np.asarray(flatten(jax.grad(loss)(model.params))["relative_bias/embedding"])
    seen = np.unique(distance_buckets(np.arange(-17, 18), 32, 128))
    assert (gradient[seen] != 0).all()
    assert not np.delete(gradient, seen, axis=0).any()


def test_a_saved_model_is_the_same_in_transformers(model: Model, tmp_path: Any) -> None:
    save_pretrained(model, tmp_path / "out")
    assert verify(tmp_path / "out", reference=model).ok


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"relative_attention_num_buckets": 64}, "num_buckets is 64; mpnet is supported with 32"),
        ({"pad_token_id": 0}, "pad_token_id is 0; mpnet is supported with 1 only"),
    ],
)
def test_what_transformers_does_not_read_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_hf(MPNET, fields)


def test_biases_learn_as_slowly_as_embeddings(model: Model) -> None:
    """The first layer reads both."""
    factors = flatten(layer_factors(model.table, 2, 0.5))
    assert factors["relative_bias/embedding"] == factors["embedding/word/embedding"] == 0.5**4
    assert factors["layer_0/attention/query/kernel"] == 0.5**3
    assert factors["pooler/dense/kernel"] == 1
