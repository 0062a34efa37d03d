"""DeBERTa-v2: buckets, disentangled scores, its variants, and what is refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from safetensors.numpy import load_file, save_file
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from effjax.hf import read, save_pretrained
from effjax.hf.write import hf_tensors
from effjax.layers.disentangled import (
    DisentangledAttention,
    SeparatePositions,
    bucket,
    by_pair,
    position_products,
    relative_rows,
)
from effjax.models import registry
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.prune import shrink
from tests.contracts.pairs import make_pair

RNG = np.random.default_rng(0)
DEBERTA = registry.get("deberta-v2")
V3 = {"embedding_size": 36, "conv_kernel_size": 0, "type_vocab_size": 0}
"""What the tiny model of the contracts has otherwise than v3."""


@pytest.mark.parametrize(
    ("buckets", "longest"), [(256, 512), (32, 128), (6, 9), (10, 40), (2, 24), (7, 20)]
)
def test_every_distance_has_torchs_bucket(buckets: int, longest: int) -> None:
    distance = np.arange(-2 * longest, 2 * longest + 1)
    want = make_log_bucket_position(torch.from_numpy(distance), buckets, longest).numpy()
    np.testing.assert_array_equal(bucket(distance, buckets, longest), want.astype(int))


def test_rows_of_far_distances_are_one() -> None:
    assert relative_rows(4, None, 2).tolist() == [0, 0, 1, 2, 3, 3, 3]
    near, far = relative_rows(3, 6, 9), relative_rows(12, 6, 9)
    assert near.tolist() == [4, 5, 6, 7, 8]
    assert (far.min(), far.max()) == (0, 11)
    np.testing.assert_array_equal(far[9:14], near)


def test_scores_by_pair_are_those_of_their_distance() -> None:
    scores = jnp.asarray(RNG.normal(size=(2, 3, 5, 9)))
    found = by_pair(scores)
    assert found.shape == (2, 3, 5, 5)
    for query in range(5):
        for key in range(5):
            np.testing.assert_array_equal(
                found[..., query, key], scores[..., query, key - query + 4]
            )


@pytest.mark.parametrize("terms", [("c2p",), ("p2c",), ("c2p", "p2c")])
@pytest.mark.parametrize("kind", [DisentangledAttention, SeparatePositions])
def test_scores_are_the_formulas(kind: Any, terms: tuple[str, ...]) -> None:
    """Every pair of 9 tokens, past the last bucket, by the equation of the module's docstring."""
    init, length = nn.initializers.normal(1.0), 9
    module = kind(6, 2, 3, 0.0, "textbook", "float32", init, terms, 0.0)
    rows, x = relative_rows(length, 4, 5), RNG.normal(size=(1, length, 6)).astype(np.float32)
    table = RNG.normal(size=(8, 6)).astype(np.float32)
    mask = np.ones((1, 1, 1, length), bool)
    shared = {"mask": mask, "relative": jnp.asarray(table), "distances": jnp.asarray(rows)}
    (_, trace), variables = module.init_with_output(jax.random.key(0), x, shared, None, True)
    params = variables["params"]

    def projected(name: str, given: np.ndarray) -> np.ndarray:
        layer = params[name if name in params else name.removeprefix("position_")]
        return np.einsum("...d,dhk->h...k", given, layer["kernel"])

    q, k = projected("query", x[0]), projected("key", x[0])
    want = np.einsum("hlk,hmk->hlm", q, k)
    positions = {name: projected(f"position_{name}", table) for name in ("key", "query")}
    for one in range(length):
        for other in range(length):
            row = rows[one - other + length - 1]
            if "c2p" in terms:
                want[:, one, other] += (q[:, one] * positions["key"][:, row]).sum(-1)
            if "p2c" in terms:
                want[:, one, other] += (k[:, other] * positions["query"][:, row]).sum(-1)
    want /= np.sqrt(3 * (1 + len(terms)))
    np.testing.assert_allclose(trace["scores"][0], want, atol=1e-4)
    own = {f"position_{'key' if term == 'c2p' else 'query'}" for term in terms}
    assert {name for name in params if "position" in name} == (
        own if kind is SeparatePositions else set()
    )


def test_position_products_have_the_gradient_of_their_formula() -> None:
    x, p = jnp.asarray(RNG.normal(size=(2, 3, 4, 5))), jnp.asarray(RNG.normal(size=(3, 7, 5)))
    weights = jnp.asarray(RNG.normal(size=(2, 3, 4, 7)))

    def plain(x: jax.Array, p: jax.Array) -> jax.Array:
        return (jnp.einsum("bhlk,hrk->bhlr", x, p) * weights).sum()

    def ours(x: jax.Array, p: jax.Array) -> jax.Array:
        return (position_products(x, p) * weights).sum()

    for found, want in zip(
        jax.grad(ours, (0, 1))(x, p), jax.grad(plain, (0, 1))(x, p), strict=True
    ):
        np.testing.assert_allclose(found, want, atol=1e-5)
    low = (x.astype(jnp.bfloat16), p.astype(jnp.bfloat16))
    lowered = jax.jit(jax.grad(ours, (0, 1))).lower(*low).as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line]
    assert products and all(line.count("xbf16>") == 2 for line in products)


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("masked-lm", {**V3, "legacy": False}),
        ("sequence-classification", {"share_att_key": False}),
        (None, {**V3, "share_att_key": False, "pos_att_type": "c2p"}),
        (None, {**V3, "share_att_key": False, "pos_att_type": ["p2c"]}),
        (None, {**V3, "position_buckets": -1, "max_relative_positions": 6}),
        (None, {**V3, "position_buckets": 12, "max_relative_positions": -1}),
    ],
    ids=["authors' head", "own projections", "c2p", "p2c", "no buckets", "no bound"],
)
def test_variants_are_torchs(head: Any, changes: dict[str, Any]) -> None:
    """Rows that end before, at and after the edges of the tiny model's buckets: 3 and 9."""
    both = make_pair("deberta-v2", head, (3, 4, 9, 10, 21), **changes)
    for layer, want in enumerate(both.theirs.hidden_states):
        found = np.asarray(both.ours.hidden(layer))[both.mask]
        np.testing.assert_allclose(found, want.numpy()[both.mask], atol=1e-4)
    if head:
        found, want = np.asarray(both.ours.logits), both.theirs.logits.numpy()
        per_token = found.shape[:2] == both.mask.shape
        where = both.mask if per_token else ...
        np.testing.assert_allclose(found[where], want[where], atol=1e-4)
    state, tensors = both.torch.state_dict(), hf_tensors(both.model)
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, state[name].numpy(), err_msg=name)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert set(tensors) == set(state) - tied


def test_gates_of_heads_with_positions_of_their_own_equal_shrunk_arrays() -> None:
    both = make_pair("deberta-v2", None, (11, 7), share_att_key=False)
    keep = {"layer_0/heads": np.array([0, 2]), "layer_2/heads": np.array([], int)}
    gates = {name: jnp.zeros(3).at[kept].set(1) for name, kept in keep.items()}
    small = shrink(both.model, keep)
    attention = small.params["layer_0"]["attention"]
    assert attention["position_key"]["kernel"].shape == (36, 2, 12)
    assert set(small.params["layer_2"]["attention"]) == {"output"}
    found, want = both.apply(small, both.batch), both.apply(both.model, both.batch, gates)
    mask = both.mask
    np.testing.assert_allclose(found.last_hidden[mask], want.last_hidden[mask], atol=1e-5)


def test_a_layer_without_its_convolution_is_refused_on_the_way_out() -> None:
    model = make_pair("deberta-v2", None, (3,)).model
    turned = model.config.replace(layers=model.config.layers[::-1])
    with pytest.raises(ValueError, match=r"in layer 0 alone; this model has .* \(0, 0, 5\)"):
        config_to_hf(DEBERTA, turned)


def test_position_embeddings_that_no_model_reads_are_ignored(tmp_path: Path) -> None:
    """transformers ignores them too; any other stranger in the encoder is a problem."""
    model = make_pair("deberta-v2", "masked-lm", (3,)).model
    save_pretrained(model, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    tensors = load_file(file)
    name = "deberta.embeddings.position_embeddings.weight"
    save_file({**tensors, name: np.zeros((41, 28), np.float32)}, file)
    assert name in read(tmp_path / "out")[1].ignored
    other = "deberta.encoder.layer.3.output.dense.bias"
    save_file({**tensors, other: np.zeros(36, np.float32)}, file)
    with pytest.raises(ValueError, match=f"{other} has no place"):
        read(tmp_path / "out")


FITS = DEBERTA.sizes["v3-base"]


@pytest.mark.parametrize("written", ["p2c|c2p", ["p2c", "c2p"]])
def test_terms_are_read_in_both_layouts_and_written_as_a_list(written: Any) -> None:
    config = config_from_hf(DEBERTA, {**FITS, "pos_att_type": written})
    assert config_to_hf(DEBERTA, config)["pos_att_type"] == ["p2c", "c2p"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"relative_attention": False}, "relative_attention is False; .* with True only"),
        ({"position_biased_input": True}, "position_biased_input is True; .* with False only"),
        ({"norm_rel_ebd": "none"}, "norm_rel_ebd is 'none'; .* with 'layer_norm' only"),
        ({"conv_groups": 2}, "conv_groups is 2; .* with 1 only"),
        ({"pos_att_type": "p2p"}, r"pos_att_type is 'p2p'; allowed: p2c\|c2p"),
        ({"pos_att_type": None}, "pos_att_type is None; allowed"),
        ({"attention_head_size": 32}, "attention_head_size is 32; .* with 64"),
        ({"pooler_hidden_size": 32}, "pooler_hidden_size is 32; .* with 768"),
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4; expected 0 or an odd number"),
        ({"conv_kernel_size": "3"}, "conv_kernel_size is '3'; expected int"),
        ({"position_buckets": None}, "position_buckets is None; expected int"),
        ({"position_buckets": 1}, "position_buckets is 1; expected 2 to 1021"),
        ({"max_relative_positions": 100}, "position_buckets is 256; expected 2 to 197"),
    ],
)
def test_what_does_not_fit_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_hf(DEBERTA, {**FITS, **fields})
    assert "\n" not in str(caught.value)


def test_the_authors_head_multiplies_hidden_states() -> None:
    fields = {**FITS, "embedding_size": 128, "legacy": False}
    config = config_from_hf(DEBERTA, fields, head="masked-lm")
    with pytest.raises(ValueError, match=r"embedding_size is 128; .* wants the hidden size, 768"):
        DEBERTA.table(config)
