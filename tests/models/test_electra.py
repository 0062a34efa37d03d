"""ELECTRA: what its config decides, and training it beside its generator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from effjax.data.masking import Masking
from effjax.distill import GeneratorLM, Given, ReplacedTokens, Weighted
from effjax.hf import save_pretrained, verify
from effjax.models import create, registry
from effjax.models.base import Head
from effjax.models.generator import with_generator, without_generator
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.models.model import Model, apply
from effjax.recipe.methods import Beginning, replaced_tokens
from effjax.recipe.spec import NewModel
from effjax.tree import flatten

ELECTRA = registry.get("electra")

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 9,
}
MASK = 4
BATCH = {
    "input_ids": np.array([[2, 7, MASK, 9, 3], [2, MASK, MASK, 3, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], np.int32),
    "labels": np.array([[-100, -100, 8, -100, -100], [-100, 10, 11, -100, -100]], np.int32),
}


def electra(head: Head | None = "replaced-token-detection", **fields: Any) -> Model:
    return create("electra", size="small", head=head, key=jax.random.key(0), **{**SIZES, **fields})


@pytest.mark.parametrize("width", [16, 6])
def test_a_projection_leads_from_narrow_words_only(width: int) -> None:
    model = electra(None, embedding_size=width)
    assert ("embedding/projection/kernel" in model.table.by_path) == (width == 6)
    fields = config_to_hf(ELECTRA, model.config)
    assert fields["embedding_size"] == width
    with torch.device("meta"):
        theirs = transformers.ElectraModel(transformers.ElectraConfig.from_dict(fields))
    assert model.num_params == sum(p.numel() for p in theirs.parameters())


def test_a_doubt_is_one_number_per_token() -> None:
    model = electra()
    logits = np.asarray(model(BATCH).logits)
    assert logits.shape == (2, 5)
    params: Any = model.params["head"]
    hidden = np.asarray(model(BATCH).last_hidden)
    dense = hidden @ params["dense"]["kernel"] + params["dense"]["bias"]
    want = jax.nn.gelu(dense, approximate=False) @ params["output"]["kernel"]
    np.testing.assert_allclose(logits, np.asarray(want)[..., 0], atol=1e-5)


def test_one_number_says_what_two_classes_do() -> None:
    model = electra()
    outputs = apply(paired(model).module, paired(model).params, inputs())
    one = ReplacedTokens()(outputs, Given(batch=BATCH))
    logits = outputs.logits
    assert logits is not None and outputs.corrupted is not None
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    original = np.where(BATCH["labels"] == -100, BATCH["input_ids"], BATCH["labels"])
    want = -np.log(np.where(np.asarray(outputs.corrupted) != original, p, 1 - p))
    np.testing.assert_allclose(one.values, want, rtol=1e-4)
    np.testing.assert_array_equal(one.weights, BATCH["attention_mask"])


def inputs() -> dict[str, np.ndarray]:
    return {name: BATCH[name] for name in ("input_ids", "attention_mask")}


def paired(model: Model) -> Model:
    """With a generator of half the width."""
    small = electra("masked-lm", hidden_size=8, embedding_size=8, num_hidden_layers=1).config
    return with_generator(model, small, mask_id=MASK, key=jax.random.key(1))


def test_it_learns_beside_its_generator_and_goes_on_alone(tmp_path: Any) -> None:
    both = paired(electra())
    objective = Weighted(mlm=(1.0, GeneratorLM()), rtd=(50.0, ReplacedTokens()))

    @jax.jit
    @jax.value_and_grad
    def loss(params: Any) -> Any:
        outputs = apply(both.module, params, inputs(), rngs={"dropout": jax.random.key(2)})
        return objective({}, outputs, {}, BATCH).total

    params, losses = both.params, []
    for _ in range(30):
        value, gradient = loss(params)
        losses.append(float(value))
        params = jax.tree.map(lambda x, g: x - 0.01 * g, params, gradient)
    assert losses[-1] < losses[0]
    assert all(np.any(np.asarray(g)) for p, g in flatten(gradient).items() if "head" in p)
    alone = without_generator(both.replace(params=params))
    assert alone.architecture is ELECTRA
    save_pretrained(alone, tmp_path / "out")
    report = verify(tmp_path / "out", reference=alone)
    assert report.ok and report.hf_class == "ElectraForPreTraining"


def test_words_of_another_width_go_with_no_generator() -> None:
    with pytest.raises(ValueError, match=r"no projection between words \(6 wide\) and hidden"):
        paired(electra(embedding_size=6))


def test_pretraining_takes_the_head_that_electra_has() -> None:
    masking = Masking(vocab_size=32, mask_id=MASK, special=(0, 2, 3, MASK))
    runtime = electra().runtime
    begin = Beginning(masking=masking, pad_id=0, max_length=8, runtime=runtime, seed=0)
    small = NewModel(architecture="bert", size="tiny", hidden=8, layers=1, heads=2, ffn=12)
    new = jax.eval_shape(
        lambda: (
            replaced_tokens(
                begin, NewModel(architecture="electra", size="base", layers=1), small, weight=50.0
            ).model
        )
    )
    assert new.config.head == "replaced-token-detection"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"summary_type": "mean"}, "summary_type is 'mean'; electra is supported with 'first'"),
        ({"summary_use_proj": False}, "summary_use_proj is False"),
        ({"summary_activation": "tanh"}, "summary_activation is 'tanh'"),
        ({"summary_first_dropout": 0.1}, "summary_first_dropout is 0.1"),
        ({"summary_proj_to_labels": True}, "summary_proj_to_labels is True"),
        ({"is_decoder": True}, "is_decoder is True"),
    ],
)
def test_other_summaries_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_hf(ELECTRA, fields)


SMALL = {
    "architectures": ["ElectraForPreTraining"],
    "attention_probs_dropout_prob": 0.1,
    "embedding_size": 128,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "electra",
    "num_attention_heads": 4,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "summary_activation": "gelu",
    "summary_last_dropout": 0.1,
    "summary_type": "first",
    "summary_use_proj": True,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
"""electra-small-discriminator's config.json, as transformers 4 wrote it."""


def test_the_released_config_comes_in_and_goes_out() -> None:
    config = config_from_hf(ELECTRA, SMALL, head="replaced-token-detection")
    written = config_to_hf(ELECTRA, config)
    assert {name: written[name] for name in SMALL} == SMALL
    assert ELECTRA.table(config_from_hf(ELECTRA, SMALL)).num_params == 13_483_008


def test_gradients_reach_all_of_the_head() -> None:
    model = electra()
    grads = jax.grad(
        lambda p: jnp.square(jnp.asarray(apply(model.module, p, inputs()).logits)).sum()
    )(model.params)
    assert all(np.any(np.asarray(g)) for g in flatten(grads["head"]).values())
