"""MobileBERT: its kinds of bottleneck against torch, its feed-forward networks, what is refused."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from effjax.hf import read, save_pretrained
from effjax.layers.trigram import trigrams
from effjax.models import registry
from effjax.models.base import Head
from effjax.models.bottleneck import MobileBertConfig, MobileBertLayer
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.prune import shrink
from effjax.tree import flatten
from tests.contracts.pairs import Pair, paired, torch_model

MOBILEBERT = registry.get("mobilebert")
WHOLE, MODULE = 1e-4, 1e-5

SHARED = {"key_query_shared_bottleneck": True, "use_bottleneck_attention": False}
BOTTLENECK = {"key_query_shared_bottleneck": False, "use_bottleneck_attention": True}
HIDDEN = {"key_query_shared_bottleneck": False, "use_bottleneck_attention": False}
RELEASED = {"classifier_activation": False, "hidden_act": "relu"}
NORMS = {"normalization_type": "layer_norm", "layer_norm_eps": 1e-2, "hidden_act": "gelu"}

VARIANTS = {
    "released": {**SHARED, **RELEASED},
    "tiny": {**BOTTLENECK, **RELEASED, "num_feedforward_networks": 2},
    "hidden": {**HIDDEN, "intra_bottleneck_size": 36},
    "norms": {**SHARED, **NORMS},
    "teacher": {
        **HIDDEN,
        **NORMS,
        "intra_bottleneck_size": 60,
        "num_feedforward_networks": 1,
    },
}


@functools.cache
def variant(kind: str, head: Head | None = None) -> Pair:
    """A tiny torch model of this kind and the same here.

    Torch's class makes queries and keys of the teacher for inputs as wide as the bottleneck; with
    the projections of the paper it runs.
    """
    theirs = torch_model("mobilebert", head, **VARIANTS[kind])
    if kind == "teacher":
        generator = torch.Generator().manual_seed(1)
        for layer in theirs.base_model.encoder.layer:
            for name in ("query", "key"):
                made = torch.nn.Linear(36, 60)
                with torch.no_grad():
                    made.weight.copy_(0.2 * torch.randn(60, 36, generator=generator))
                setattr(layer.attention.self, name, made)
    return paired("mobilebert", head, theirs, (11, 7, 1))


@pytest.mark.parametrize("head", [None, "sequence-classification", "pretraining"])
@pytest.mark.parametrize("kind", VARIANTS)
def test_every_kind_is_torchs(kind: str, head: Head | None) -> None:
    both = variant(kind, head)
    ours, theirs, mask = both.ours, both.theirs, both.mask
    for layer, hidden in enumerate(theirs.hidden_states):
        np.testing.assert_allclose(
            ours.hidden(layer)[mask], hidden.numpy()[mask], atol=WHOLE, rtol=0
        )
    if head is None:
        np.testing.assert_allclose(ours.pooled, theirs.pooler_output, atol=WHOLE, rtol=0)
    elif head == "sequence-classification":
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=WHOLE, rtol=0)
    else:
        found, want = ours.next_sentence_logits, theirs.seq_relationship_logits
        np.testing.assert_allclose(found, want, atol=WHOLE, rtol=0)
        found, want = ours.logits[mask], theirs.prediction_logits.numpy()[mask]
        np.testing.assert_allclose(found, want, atol=WHOLE, rtol=0)


@pytest.mark.parametrize("kind", VARIANTS)
def test_traces_are_torchs_attention_and_feature_maps(kind: str) -> None:
    """What the teacher's feature maps and attention are transferred from."""
    both = variant(kind)
    for i, trace in enumerate(both.ours.layers):
        assert trace.hidden.shape[-1] == 36
        for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
            found = getattr(trace, letter).swapaxes(1, 2)
            want = both.returned(i, f"attention/{name}/kernel")
            found = np.asarray(found.reshape(want.shape))[both.mask]
            np.testing.assert_allclose(found, want[both.mask], atol=MODULE, rtol=0)
        scores = jnp.where(both.mask[:, None, None], trace.scores, -jnp.inf)
        found, want = jax.nn.softmax(scores), both.theirs.attentions[i].numpy()
        found, want = (np.asarray(x).swapaxes(1, 2)[both.mask] for x in (found, want))
        np.testing.assert_allclose(found, want, atol=MODULE, rtol=0)


def test_trigrams_end_at_rows_and_segments() -> None:
    x = np.arange(1.0, 11.0, dtype=np.float32).reshape(1, 5, 2)
    a, b, c, d, e = x[0]
    zero = np.zeros(2)
    whole = [[b, a, zero], [c, b, a], [d, c, b], [e, d, c], [zero, e, d]]
    np.testing.assert_array_equal(trigrams(jnp.asarray(x), None)[0], np.array(whole))
    parts = [[b, a, zero], [zero, b, a], [d, c, zero], [zero, d, c], [zero, e, zero]]
    segments = jnp.array([[1, 1, 2, 2, 0]])
    np.testing.assert_array_equal(trigrams(jnp.asarray(x), segments)[0], np.array(parts))


def test_one_token_has_no_neighbours() -> None:
    found = trigrams(jnp.ones((2, 1, 3)), None)
    assert found.tolist() == [[[[0] * 3, [1] * 3, [0] * 3]]] * 2


def test_each_feedforward_network_shrinks_on_its_own() -> None:
    both = variant("released")
    keep = {"layer_0/ffn_1": np.array([3, 7]), "layer_2/ffn_0": np.array([], int)}
    small = shrink(both.model, keep)
    assert small.config.layers == (
        MobileBertLayer(heads=3, ffn=50, ffns=(50, 2)),
        MobileBertLayer(heads=3, ffn=50, ffns=(50, 50)),
        MobileBertLayer(heads=3, ffn=50, ffns=(0, 50)),
    )
    arrays = flatten(small.params)
    assert arrays["layer_0/feedforward_1/up/kernel"].shape == (30, 2)
    assert arrays["layer_0/feedforward_0/up/kernel"].shape == (30, 50)
    left = {path for path in arrays if path.startswith("layer_2/feedforward_0")}
    assert left == {
        "layer_2/feedforward_0/down/bias",
        "layer_2/feedforward_0_norm/scale",
        "layer_2/feedforward_0_norm/bias",
    }
    with pytest.raises(ValueError, match=r"layer 0: 3 heads, ffn 50 \+ 2 \+ 50, layer 1"):
        config_to_hf(small.architecture, small.config)


def test_without_heads_there_is_no_bottleneck_for_them() -> None:
    small = shrink(variant("released").model, {"layer_1/heads": np.array([], int)})
    left = {path for path in flatten(small.params) if path.startswith("layer_1/attention/")}
    assert left == {"layer_1/attention/output/bias"}


def test_what_cannot_shrink_says_why() -> None:
    reason = "'embedding', which cannot shrink: .* splits the hidden vector at the width"
    with pytest.raises(ValueError, match=reason):
        shrink(variant("released").model, {"embedding": np.array([0])})


def test_a_bare_model_reads_its_first_token_as_pooled(tmp_path: Path) -> None:
    """The released model's pooler has no arrays by which a checkpoint could tell."""
    both = variant("released")
    save_pretrained(both.model, tmp_path / "out")
    again, report = read(tmp_path / "out", runtime=both.model.runtime)
    assert again.config.pooler and not report.initialised
    found = both.apply(again, both.batch)
    np.testing.assert_array_equal(found.pooled, found.last_hidden[:, 0])


def test_the_teacher_is_as_large_as_published() -> None:
    """293 million in table 1; Hugging Face would make queries and keys too wide to run."""
    config = config_from_hf(MOBILEBERT, MOBILEBERT.sizes["ib-bert-large"])
    assert isinstance(config, MobileBertConfig)
    assert config.head_size == 256 and config.attention_reads == "hidden"
    table = MOBILEBERT.table(config.replace(pooler=False))
    assert table.num_params == pytest.approx(293e6, rel=0.005)
    with pytest.raises(ValueError, match=r"cannot read queries .* this model has 512 and 1024"):
        config_to_hf(MOBILEBERT, config)


def test_a_derived_field_is_not_carried_along() -> None:
    config = config_from_hf(MOBILEBERT, {"true_hidden_size": 128, "other": 1})
    assert config.extra_fields == {"other": 1}
    assert "true_hidden_size" not in config_to_hf(MOBILEBERT, config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_bottleneck_attention": True}, "key_query_shared_bottleneck are both true"),
        ({"use_bottleneck_attention": "no"}, "use_bottleneck_attention is 'no'; expected bool"),
        ({"use_bottleneck": False}, "use_bottleneck is False; mobilebert is supported with True"),
        ({"trigram_input": False}, "trigram_input is False; mobilebert is supported with True"),
        ({"embedding_size": 512}, "embedding_size is 512; expected less than hidden_size, 512"),
        ({"intra_bottleneck_size": 90}, "intra_bottleneck_size 90 is not a multiple of 4"),
        ({"num_feedforward_networks": 0}, "num_feedforward_networks is 0; expected a positive"),
        ({"num_feedforward_networks": 101}, "networks is 101; expected at most 100"),
        ({"normalization_type": "rms"}, "normalization_type is 'rms'; allowed: no_norm, layer"),
    ],
)
def test_bad_fields_are_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_hf(MOBILEBERT, fields, where="folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")
    assert "\n" not in str(caught.value)
