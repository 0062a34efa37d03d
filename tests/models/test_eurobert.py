"""EuroBERT: grouped queries, its three poolings, the fields of its first checkpoints."""

from typing import Any

import jax
import numpy as np
import pytest

from effjax.data.layouts import packed_batches
from effjax.models import create
from effjax.models.eurobert import EUROBERT
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.prune import shrink
from tests.contracts.pairs import make_pair
from tests.contracts.test_packing import encoded, run

TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 10,
    "pad_token_id": 1,
}


def assert_close(found: Any, want: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), atol=tolerance, rtol=0)


@pytest.mark.parametrize("pooling", ["bos", "mean", "late"])
def test_every_pooling_padded_and_packed(pooling: str) -> None:
    head = "sequence-classification"
    both = make_pair("eurobert", head, (11, 7, 1), classifier_pooling=pooling)
    assert_close(both.ours.logits, both.theirs.logits)
    source = encoded(both.batch)
    (batch,) = packed_batches(source, np.arange(len(source)), 1, len(source), 1)
    assert_close(run(both.model, batch).logits, both.ours.logits, 1e-5)
    uses = {row.uses for row in both.model.table if row.path.startswith("head/dense/kernel")}
    assert uses == {("token",) if pooling == "late" else ("sequence",)}


def test_every_bias_and_a_tied_projection() -> None:
    given = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    both = make_pair("eurobert", "masked-lm", (11, 7, 1), **given)
    assert set(both.model.params["head"]) == {"bias"}
    assert_close(both.ours.logits[both.mask], both.theirs.logits[both.mask])


def test_a_group_goes_with_its_heads() -> None:
    model = create("eurobert", size="210m", key=jax.random.key(0), **TINY)
    small = shrink(model, {f"layer_{i}/kv_heads": np.array([0, 2]) for i in range(2)})
    layers: Any = small.config.layers
    assert [(spec.heads, spec.kv_heads) for spec in layers] == [(4, 2)] * 2
    query = small.params["layer_0"]["attention"]["query"]["kernel"]
    assert query.shape == (24, 2, 2, 4)
    np.testing.assert_array_equal(
        query, model.params["layer_0"]["attention"]["query"]["kernel"][:, [0, 2]]
    )
    with pytest.raises(ValueError, match="keep names 'layer_0/heads', which this model has not"):
        shrink(model, {"layer_0/heads": np.array([0])})


def test_fewer_groups_in_every_layer_have_words_in_hugging_face() -> None:
    """Since the size of a head is a field of its own; as long as heads divide the hidden size."""
    model = create("eurobert", size="210m", key=jax.random.key(0), **TINY)
    keep = {f"layer_{i}/kv_heads": np.array([0, 2]) for i in range(2)}
    written = config_to_hf(EUROBERT, shrink(model, keep).config)
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")
    assert [written[name] for name in names] == [4, 2, 4]
    model = create("eurobert", size="210m", key=jax.random.key(0), **TINY, head_dim=6)
    config = model.config.replace(hidden=26)
    with pytest.raises(ValueError, match="this model has 6 heads, hidden 26"):
        config_to_hf(EUROBERT, config)


def test_the_first_checkpoints_are_read() -> None:
    old = {**TINY, "rope_theta": 250000, "rope_scaling": None, "clf_pooling": "mean"}
    config: Any = config_from_hf(EUROBERT, {**old, "num_key_value_heads": None})
    assert config.layers[0].rope_base == 250_000.0
    assert config.layers[0].kv_heads == 6
    written = config_to_hf(EUROBERT, config)
    assert written["classifier_pooling"] == "mean"
    assert written["rope_parameters"] == {"rope_theta": 250_000.0, "rope_type": "default"}
    assert not {"rope_theta", "rope_scaling", "clf_pooling"} & set(written)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4; expected a divisor of 6 heads"),
        ({"head_dim": 5}, "heads of 5; rotary positions turn pairs"),
        (
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2}},
            "rope_type 'dynamic' with factor",
        ),
        ({"rope_parameters": [1]}, "rope_parameters is \\[1\\]; expected an object"),
        ({"is_decoder": True}, "is_decoder is True; eurobert is supported with False only"),
        ({"classifier_pooling": "cls"}, "classifier_pooling is 'cls'; allowed: bos, mean, late"),
    ],
)
def test_what_is_not_supported_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_hf(EUROBERT, {**TINY, **fields})
    assert "\n" not in str(caught.value)
