"""ConvBERT: its convolution against the formula, where padding is read, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from effjax.layers.convolution import SpanConvolution, neighbours, of_one_segment
from effjax.models import registry
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.prune import shrink
from tests.contracts.pairs import make_pair

RNG = np.random.default_rng(0)
CONVBERT = registry.get("convbert")


def test_neighbours_end_where_the_row_and_its_segments_do() -> None:
    segments = jnp.array([[1, 1, 2, 2, 2, 0]])
    x = jnp.arange(1, 7)[None]
    whole = np.stack(neighbours(x, 3), axis=-1)[0]
    assert whole.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 0]]
    own = np.stack(neighbours(x, 3, of_one_segment(segments, 3)), axis=-1)[0]
    assert own[:5].tolist() == [[0, 1, 2], [1, 2, 0], [0, 3, 4], [3, 4, 5], [4, 5, 0]]


def span_convolution(x: np.ndarray, q: np.ndarray, params: Any, width: int) -> np.ndarray:
    """The docstring's formula for one row, token by token, head by head."""
    reach, length = width // 2, len(q)
    padded = np.pad(x, ((reach, reach), (0, 0)))
    values = np.einsum("ld,dhk->lhk", x, params["value"]["kernel"]) + params["value"]["bias"]
    values = np.pad(values, ((reach, reach), (0, 0), (0, 0)))  # zeros beyond the ends, no bias
    out = np.zeros_like(q)
    for place in range(length):
        around = (padded[place : place + width] * params["depthwise"]["kernel"]).sum(0)
        key = np.einsum("d,dhk->hk", around, params["key"]["kernel"]) + params["key"]["bias"]
        scores = np.einsum("i,ihw->hw", (q[place] * key).ravel(), params["weights"]["kernel"])
        weights = np.exp(scores + params["weights"]["bias"])
        weights /= weights.sum(-1, keepdims=True)
        out[place] = np.einsum("hw,whk->hk", weights, values[place : place + width])
    return out


@pytest.mark.parametrize("lengths", [(9,), (4, 5), (1, 2, 6)])
def test_span_convolution_is_that_of_each_segment(lengths: tuple[int, ...]) -> None:
    module = SpanConvolution(2, 3, 5, "float32", nn.initializers.normal(0.3))
    x = jnp.asarray(RNG.normal(size=(1, 9, 7)), jnp.float32)
    q = jnp.asarray(RNG.normal(size=(1, 9, 2, 3)), jnp.float32)
    segments = np.repeat(np.arange(len(lengths)) + 1, lengths)[None]
    same = of_one_segment(jnp.asarray(segments), 5)
    params = module.init(jax.random.key(0), x, q, same)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.3 * RNG.normal(size=leaf.shape), params)
    found = np.asarray(module.apply({"params": params}, x, q, same))[0]
    for segment in range(1, len(lengths) + 1):
        own = segments[0] == segment
        want = span_convolution(np.asarray(x)[0, own], np.asarray(q)[0, own], params, 5)
        np.testing.assert_allclose(found[own], want, atol=1e-4)
    if len(lengths) == 1:
        alone = module.apply({"params": params}, x, q, None)
        np.testing.assert_allclose(np.asarray(alone)[0], found, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"num_groups": 2}, {"num_attention_heads": 2, "head_ratio": 4}, {"embedding_size": 36}],
    ids=["grouped", "one head", "wide embedding"],
)
def test_other_shapes_are_torchs(changes: dict[str, int]) -> None:
    both = make_pair("convbert", "sequence-classification", (11, 7, 2), **changes)
    for layer, want in enumerate(both.theirs.hidden_states):
        found = np.asarray(both.ours.hidden(layer))[both.mask]
        np.testing.assert_allclose(found, want.numpy()[both.mask], atol=1e-4)
    np.testing.assert_allclose(both.ours.logits, both.theirs.logits.numpy(), atol=1e-4)


def test_the_last_tokens_read_padding_and_no_others_in_the_first_layer() -> None:
    """Other padding behind 7 real tokens changes the last 5 // 2 of them, here and in torch."""
    both = make_pair("convbert", None, (11, 7))
    other = {name: value.copy() for name, value in both.batch.items()}
    other["input_ids"][1, 7:] = 5
    ours = np.asarray(both.apply(both.model, other).layers[0].hidden)
    before, changed = np.asarray(both.ours.layers[0].hidden), []
    with torch.no_grad():
        inputs = {name: torch.from_numpy(value) for name, value in other.items()}
        theirs = both.torch(**inputs, output_hidden_states=True).hidden_states[1].numpy()
    for one, another in ((ours, before), (theirs, both.theirs.hidden_states[1].numpy())):
        moved = np.abs(one - another).max(-1)
        np.testing.assert_allclose(moved[0], 0, atol=1e-6)
        changed.append(np.flatnonzero(moved[1, :7] > 1e-4).tolist())
    assert changed == [[5, 6], [5, 6]]


def test_heads_and_groups_do_not_shrink() -> None:
    grouped = make_pair("convbert", None, (3,), num_groups=2).model
    for instance, message in (
        ("layer_0/heads", "reads the queries of all heads"),
        ("layer_2/ffn", "its 2 groups tie what it reads to what it gives"),
    ):
        with pytest.raises(ValueError, match=message):
            shrink(grouped, {instance: np.array([0])})


def test_a_gate_of_a_head_is_that_of_its_attention_and_its_convolution() -> None:
    model, batch = (both := make_pair("convbert", None, (5, 3))).model, both.batch
    gated = both.apply(model, batch, {"layer_1/heads": jnp.array([1.0, 0.0, 1.0])})
    params = jax.tree.map(np.copy, model.params)
    params["layer_1"]["attention"]["output"]["kernel"][:, 1] = 0
    want = both.apply(model.replace(params=params), batch)
    np.testing.assert_allclose(gated.last_hidden, want.last_hidden, atol=1e-6)
    assert not np.allclose(gated.last_hidden, both.ours.last_hidden, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4; expected an odd number"),
        ({"num_groups": 5}, "num_groups is 5; expected a divisor of hidden size 768"),
        ({"num_attention_heads": 10}, "hidden size 768 is not a multiple of 10 attention heads"),
        ({"head_ratio": 0}, "head_ratio is 0; expected a positive number"),
        ({"is_decoder": True}, "is_decoder is True"),
    ],
)
def test_what_does_not_fit_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_hf(CONVBERT, fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("heads", "ratio", "written"), [(12, 2, 12), (12, 5, 10), (2, 4, 4)])
def test_heads_are_written_as_so_many_that_read_the_same(
    heads: int, ratio: int, written: int
) -> None:
    sizes = {"num_attention_heads": heads, "head_ratio": ratio}
    config = config_from_hf(CONVBERT, sizes)
    fields = config_to_hf(CONVBERT, config)
    assert fields["num_attention_heads"] == written
    assert config_from_hf(CONVBERT, fields).layers == config.layers


def test_another_summary_is_refused_by_multiple_choice_alone() -> None:
    fields = {"summary_type": "first"}
    config = config_from_hf(CONVBERT, fields)
    assert config_to_hf(CONVBERT, config)["summary_type"] == "first"
    message = "summary_type is 'first'; multiple choice of convbert wants 'last'"
    with pytest.raises(ValueError, match=message):
        CONVBERT.table(config.replace(head="multiple-choice"))
