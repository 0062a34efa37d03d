"""SqueezeBERT: any groups against torch, what they let shrink, what is refused."""

import functools
from typing import Any

import numpy as np
import pytest

from effjax.models import registry
from effjax.models.hf_config import config_from_hf
from effjax.prune import shrink
from tests.contracts.pairs import Pair, make_pair
from tests.contracts.test_gates import gates_of, kept

SQUEEZEBERT = registry.get("squeezebert")
WHOLE, MODULE = 1e-4, 1e-5

ATTENTION = ("q_groups", "k_groups", "v_groups", "post_attention_groups")
FEEDFORWARD = ("intermediate_groups", "output_groups")
PLAIN = dict.fromkeys((*ATTENTION, *FEEDFORWARD), 1)

GROUPS = {
    "none": PLAIN,
    "attention output": {**PLAIN, "post_attention_groups": 6},
    "feed-forward": {**PLAIN, "intermediate_groups": 2, "output_groups": 1},
    "all": {**dict.fromkeys(ATTENTION, 4), **dict.fromkeys(FEEDFORWARD, 2)},
}


@functools.cache
def variant(kind: str) -> Pair:
    """A tiny torch model with these groups and the same here, with an eps that shows which norms
    take it: the embedding's alone.
    """
    head = "sequence-classification"
    return make_pair("squeezebert", head, (11, 7, 1), **GROUPS[kind], layer_norm_eps=0.1)


@pytest.mark.parametrize("kind", GROUPS)
def test_any_groups_are_torchs(kind: str) -> None:
    both = variant(kind)
    mask = both.mask
    for layer, hidden in enumerate(both.theirs.hidden_states):
        found = both.ours.hidden(layer)[mask]
        np.testing.assert_allclose(found, hidden.numpy()[mask], atol=WHOLE, rtol=0)
    np.testing.assert_allclose(both.ours.logits, both.theirs.logits, atol=WHOLE, rtol=0)


@pytest.mark.parametrize("kind", GROUPS)
def test_the_traces_are_torchs(kind: str) -> None:
    """Where torch has channels before positions; heads are the same of them."""
    both = variant(kind)
    for i, trace in enumerate(both.ours.layers):
        for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
            found = np.asarray(getattr(trace, letter)).swapaxes(1, 2)
            want = both.returned(i, f"attention/{name}/kernel")[both.mask]
            found = found.reshape(*both.mask.shape, -1)[both.mask]
            np.testing.assert_allclose(found, want, atol=MODULE, rtol=0)


@pytest.mark.parametrize("left", ["some", "no-heads", "no-ffn", "neither"])
def test_without_groups_heads_and_units_shrink(left: str) -> None:
    both = variant("none")
    sizes = both.model.table.instances
    keep = kept(left, sizes)
    assert {name for name in sizes if "/" in name} == {
        f"layer_{i}/{what}" for i in range(3) for what in ("heads", "ffn")
    }
    found = both.apply(shrink(both.model, keep), both.batch)
    gated = both.apply(both.model, both.batch, gates_of(keep, sizes))
    np.testing.assert_allclose(found.logits, gated.logits, atol=MODULE, rtol=0)


@pytest.mark.parametrize(
    ("kind", "shrinks", "fixed", "counts"),
    [
        ("attention output", "ffn", "heads", "query 1, key 1, value 1, output 6"),
        ("feed-forward", "heads", "ffn", "up 2, down 1"),
    ],
)
def test_groups_fix_what_is_between_them_alone(
    kind: str, shrinks: str, fixed: str, counts: str
) -> None:
    both = variant(kind)
    keep = {f"layer_1/{shrinks}": np.array([0, 2])}
    small = both.apply(shrink(both.model, keep), both.batch)
    gated = both.apply(both.model, both.batch, gates_of(keep, both.model.table.instances))
    np.testing.assert_allclose(small.logits, gated.logits, atol=MODULE, rtol=0)
    reason = rf"'layer_1/{fixed}', which cannot shrink: .* in equal groups \({counts}\)"
    with pytest.raises(ValueError, match=reason):
        shrink(both.model, {f"layer_1/{fixed}": np.array([0])})


def test_the_hidden_size_is_refused_for_its_own_reason() -> None:
    with pytest.raises(ValueError, match="'hidden', which cannot shrink: its 2 groups tie"):
        shrink(variant("all").model, {"hidden": np.array([0])})


def test_groups_leave_a_fraction_of_the_weights() -> None:
    """A quarter of all weights per token but those of the attention output."""
    fields = {"num_hidden_layers": 1}
    count = SQUEEZEBERT.table(config_from_hf(SQUEEZEBERT, fields)).num_params
    plain = SQUEEZEBERT.table(config_from_hf(SQUEEZEBERT, {**fields, **PLAIN})).num_params
    assert plain - count == 3 * (3 * 768**2 + 2 * 768 * 3072) // 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"q_groups": 5}, "q_groups is 5; expected a divisor of 768"),
        ({"q_groups": 0}, "q_groups is 0; expected a positive number"),
        ({"post_attention_groups": 7}, "post_attention_groups is 7; expected a divisor of 768"),
        (
            {"output_groups": 5, "intermediate_size": 3070},
            "output_groups is 5; expected a divisor of 768 and 3070",
        ),
        ({"embedding_size": 128}, "embedding_size is 128; expected hidden_size, 768"),
        ({"num_attention_heads": 7}, "768 is not a multiple of 7 attention heads"),
    ],
)
def test_bad_fields_are_one_line(fields: dict[str, Any], message: str) -> None:
    groups = {"intermediate_groups": 1} if "output_groups" in fields else {}
    with pytest.raises(ValueError, match=message) as caught:
        config_from_hf(SQUEEZEBERT, {**fields, **groups}, where="folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")
    assert "\n" not in str(caught.value)
