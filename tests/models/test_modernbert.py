"""ModernBERT: its two layouts of config.json, its windows, its poolings."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from effjax import measure
from effjax.data.layouts import packed_batches
from effjax.distill.student import init_student
from effjax.layers.local import has_band
from effjax.models import create
from effjax.models.base import Runtime
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.models.modernbert import MODERNBERT
from tests.contracts.pairs import make_pair
from tests.contracts.test_packing import encoded, run

TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "pad_token_id": 1,
}
BLOCKS = ((6, 27), (6, 25), (6, 26), (7, 33), (2, 16))
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def assert_close(found: Any, want: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("window", "length"),
    # The last full mask, the first band; and a last block that is full, that has one token, that
    # lacks one.
    [(6, 23), (6, 24)] + [pytest.param(*edge, marks=pytest.mark.slow) for edge in BLOCKS],
)
def test_parity_around_the_edges_of_windows_and_blocks(window: int, length: int) -> None:
    both = make_pair(
        "modernbert", None, (length, length - 2), local_attention=window, layer_types=[LOCAL] * 3
    )
    assert has_band(length, window // 2) == (length != 23)
    assert_close(both.ours.last_hidden[both.mask], both.theirs.last_hidden_state[both.mask])


BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")


@pytest.mark.parametrize("head", ["sequence-classification", "multiple-choice", "masked-lm"])
def test_the_mean_of_tokens_and_every_bias(head: Any) -> None:
    """What a config may turn on, and the output bias that it may turn off; packed too."""
    given = {**dict.fromkeys(BIASES, True), "decoder_bias": False, "classifier_pooling": "mean"}
    both = make_pair("modernbert", head, (17, 9, 1), **given, classifier_activation="silu")
    assert len(both.model.params["head"]["transform"]["dense"]) == 2
    assert "bias" not in both.model.params["head"]
    mask = both.mask if head == "masked-lm" else ...
    assert_close(both.ours.logits[mask], both.theirs.logits[mask])
    if head == "masked-lm":
        return
    source = encoded(both.batch)
    (batch,) = packed_batches(source, np.arange(len(source)), 1, len(source), 1)
    if head == "multiple-choice":
        batch["starts"] = batch["starts"].reshape(-1, 2)
    assert_close(run(both.model, batch).logits, both.ours.logits, 1e-5)


def test_a_choice_is_read_at_its_first_token_whichever_side_pads() -> None:
    both = make_pair("modernbert", "multiple-choice", (17, 9, 1))
    left = {name: np.ascontiguousarray(x[..., ::-1]) for name, x in both.batch.items()}
    both = dataclasses.replace(both, batch=left)
    assert_close(both.ours.logits, both.theirs.logits)


OLD: dict[str, Any] = {
    **TINY,
    "global_attn_every_n_layers": 2,
    "local_attention": 10,
    "global_rope_theta": 5000.0,
    "local_rope_theta": 70.0,
    "position_embedding_type": "absolute",
}


def test_the_layout_of_transformers_4_is_read_and_that_of_5_written() -> None:
    config: Any = config_from_hf(MODERNBERT, OLD)
    assert [(s.window, s.rope_base, s.normed) for s in config.layers] == [
        (None, 5000.0, False),
        (10, 70.0, True),
        (None, 5000.0, True),
        (10, 70.0, True),
    ]
    written = config_to_hf(MODERNBERT, config)
    assert not {"global_attn_every_n_layers", "global_rope_theta", "rope_scaling"} & set(written)
    assert written["layer_types"] == [GLOBAL, LOCAL] * 2
    stock = transformers.AutoConfig.for_model(**OLD, model_type="modernbert")
    assert written["rope_parameters"] == stock.rope_parameters
    assert written["layer_types"] == stock.layer_types
    assert config_from_hf(MODERNBERT, written).layers == config.layers


def test_a_config_without_types_has_those_of_hugging_face() -> None:
    config, stock = config_from_hf(MODERNBERT, {}), transformers.ModernBertConfig()
    written = config_to_hf(MODERNBERT, config)
    for name in ("layer_types", "rope_parameters", "local_attention"):
        assert written[name] == getattr(stock, name), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_types": ["sliding_attention"]}, "layer_types is ['sliding_attention']"),
        ({"layer_types": ["chunked"] * 4}, "expected a list of 4 of full_attention, sliding"),
        ({"global_attn_every_n_layers": 0}, "layer_types is None"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear' with factor"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, "rope_parameters is {"),
        ({"rope_parameters": {GLOBAL: {"rope_type": "yarn"}}}, f"{GLOBAL} asks for rope_type"),
        ({"local_rope_theta": -1}, "rope_theta is -1; expected a positive number"),
        ({"local_attention": 0}, "local_attention is 0; expected a positive number"),
        ({"local_attention": None}, "local_attention is null"),
        ({"num_attention_heads": 8}, "heads of 3; rotary positions turn pairs"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; allowed: cls, mean"),
    ],
)
def test_what_is_not_supported_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        config_from_hf(MODERNBERT, {**TINY, **fields})
    assert "\n" not in str(caught.value)


def test_a_student_without_the_first_layer_runs_and_has_no_words_in_hugging_face() -> None:
    model = create("modernbert", size="base", key=jax.random.key(0), **TINY)
    student = init_student(model, (0, 2))
    assert config_to_hf(student.architecture, student.config)["layer_types"] == [GLOBAL, LOCAL]
    student = init_student(model, (1, 2))
    outputs: Any = student({"input_ids": np.full((1, 5), 7)})
    assert outputs.last_hidden.shape == (1, 5, 24)
    with pytest.raises(ValueError, match="every layer but the first; this model has none in"):
        config_to_hf(student.architecture, student.config)


def test_windows_that_differ_have_no_words_in_hugging_face() -> None:
    config: Any = config_from_hf(MODERNBERT, TINY)
    layers = list(config.layers)
    layers[1] = dataclasses.replace(layers[1], window=6)
    with pytest.raises(ValueError, match=f"one window for all layers of {LOCAL}; this model has 6"):
        config_to_hf(MODERNBERT, config.replace(layers=tuple(layers)))


def test_the_cost_of_local_layers_grows_with_the_length() -> None:
    """And is what the formula of a band says: three blocks of keys for every query."""
    types = {"layer_types": [LOCAL] * 4, "local_attention": 10}
    model = create("modernbert", size="base", key=jax.random.key(0), **TINY, **types)
    found = measure.cost(model, batch=1, length=80).product_flops
    kernels = sum(row.size for row in model.table if row.role == "kernel")
    assert found == 80 * (2 * kernels + 4 * 4 * 24 * 3 * 5)
    assert measure.cost(model, batch=1, length=160).product_flops == 2 * found


def test_local_layers_alone_never_have_two_axes_of_the_input_s_length() -> None:
    """A training step's gradient, packed, compiled as a whole: masks, scores and the trace."""
    model = create(
        "modernbert",
        size="base",
        key=jax.random.key(0),
        head="masked-lm",
        runtime=Runtime(remat="layers"),
        **TINY,
        layer_types=[LOCAL] * 4,
        local_attention=10,
    )
    segments = np.repeat([1, 2, 3, 0], 52 // 4)[None]
    batch = {"input_ids": jnp.full((1, 52), 7), "segment_ids": jnp.asarray(segments)}

    def loss(params: Any, batch: Any) -> Any:
        outputs: Any = model.module.apply({"params": params}, batch)
        return jnp.square(outputs.logits.astype(jnp.float32)).mean()

    text = jax.jit(jax.grad(loss)).lower(model.params, batch).compile().as_text()
    assert text is not None and re.search(r"[\[,]52[\],]", text)
    assert not re.search(r"[\[,]52,52[\],]", text)
