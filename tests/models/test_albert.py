"""ALBERT: layers that share their weights, wherever something depends on how often they come."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from effjax.distill import init_student
from effjax.measure import cost
from effjax.models import create, registry
from effjax.models.albert import AlbertConfig, weight_sets
from effjax.models.hf_config import config_from_hf, config_to_hf
from effjax.models.model import Model
from effjax.prune import shrink
from effjax.train.optimizer import make_optimizer
from effjax.train.training import Training

ALBERT = registry.get("albert")

SIZES: dict[str, Any] = {
    "vocab_size": 31,
    "embedding_size": 8,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 7,
    "max_position_embeddings": 9,
}
GROUPS = {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}

BATCH = {
    "input_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


def albert(**fields: Any) -> Model:
    """A small model; twelve applications of one weight set unless told."""
    return create("albert", size="base", key=jax.random.key(0), **{**SIZES, **fields})


def sets_of(model: Model) -> list[int]:
    config = model.config
    assert isinstance(config, AlbertConfig)
    return [layer.weights for layer in config.layers]


@pytest.mark.parametrize(
    ("depth", "groups", "size", "want"),
    [
        (3, 1, 1, [0, 0, 0]),
        (4, 2, 1, [0, 0, 1, 1]),
        (3, 2, 1, [0, 0, 1]),
        (3, 3, 1, [0, 1, 2]),
        (3, 2, 2, [0, 1, 0, 1, 2, 3]),
        (1, 1, 3, [0, 1, 2]),
    ],
)
def test_weight_sets_come_group_by_group(
    depth: int, groups: int, size: int, want: list[int]
) -> None:
    assert weight_sets(depth, groups, size) == want


def test_every_group_comes_and_in_order() -> None:
    """Rounding as transformers does it never skips one."""
    for depth in range(1, 61):
        for groups in range(1, depth + 1):
            sets = weight_sets(depth, groups, 1)
            assert sorted(set(sets)) == list(range(groups)) and sets == sorted(sets), (
                depth,
                groups,
            )


def test_shared_weights_are_one_row_that_counts_every_use() -> None:
    model = albert()
    table = model.table.by_path
    assert {path.split("/")[0] for path in table} == {"embedding", "layer_0", "pooler"}
    assert table["layer_0/feedforward/up/kernel"].uses == ("token",) * 12
    grouped = albert(**GROUPS).table.by_path
    assert grouped["layer_3/attention/query/kernel"].uses == ("token",) * 2
    deep, shallow = (cost(albert(num_hidden_layers=n), length=8) for n in (12, 6))
    assert deep.params == shallow.params
    layer = (deep.product_flops - shallow.product_flops) / 6
    rows = [row for path, row in table.items() if path.startswith("layer_0/")]
    linear = sum(2 * 8 * row.size for row in rows if row.role == "kernel")
    assert layer == linear + 4 * 3 * 8 * 8 * 4  # heads, queries, keys, head size


def test_dropout_differs_between_uses_of_the_same_weights() -> None:
    """With weights of zero a layer is LayerNorm(x), and dropout of its biases is what varies."""
    model = albert(hidden_dropout_prob=0.5, num_hidden_layers=3)
    params = jax.tree.map(jnp.zeros_like, model.params)
    layer = params["layer_0"]
    layer["feedforward_norm"]["bias"] = layer["attention"]["output"]["bias"] = jnp.ones(12)
    layer["attention_norm"]["scale"] = layer["feedforward_norm"]["scale"] = jnp.ones(12)
    key = {"dropout": jax.random.key(0)}
    found: Any = model.module.apply({"params": params}, BATCH, deterministic=False, rngs=key)
    states = [np.asarray(trace.hidden) for trace in found.layers]
    assert not np.allclose(states[0], states[1])
    assert not np.allclose(states[1], states[2])


def test_words_as_wide_as_hidden_states_have_a_projection_all_the_same() -> None:
    model = albert(embedding_size=12)
    fields = config_to_hf(ALBERT, model.config)
    with torch.device("meta"):
        theirs = transformers.AlbertModel(transformers.AlbertConfig.from_dict(fields))
    assert model.num_params == sum(p.numel() for p in theirs.parameters())
    assert model(BATCH).last_hidden is not None


def test_a_student_repeats_the_weights_less_often() -> None:
    teacher = albert(head="sequence-classification", num_hidden_layers=6)
    student = init_student(teacher, layers=(0, 2, 5))
    assert sets_of(student) == [0, 0, 0]
    assert student.num_params == teacher.num_params
    np.testing.assert_allclose(
        student.trace(BATCH).hidden(3), teacher.trace(BATCH).hidden(3), atol=1e-6
    )
    again = config_from_hf(
        ALBERT, config_to_hf(ALBERT, student.config), head="sequence-classification"
    )
    assert again.layers == student.config.layers


@pytest.mark.parametrize(
    ("layers", "want"),
    [
        ((0, 1, 4, 5), [0, 1, 2, 3]),
        ((4, 5, 6, 7), [2, 3, 2, 3]),
        ((1, 2), [1, 0]),
    ],
)
def test_a_student_of_groups_is_what_it_is_in_hugging_face(
    layers: Sequence[int], want: list[int]
) -> None:
    """Sets are numbered anew, in the order in which they come."""
    student = init_student(albert(**GROUPS), layers=layers)
    assert sets_of(student) == want
    fields = config_to_hf(ALBERT, student.config)
    there = config_from_hf(ALBERT, fields)
    first = {row.hf[0]: row for row in student.table}
    second = {row.hf[0]: row for row in ALBERT.table(there)}
    assert {name: row.shape for name, row in first.items()} == {
        name: row.shape for name, row in second.items()
    }
    names = [f"layer_{i}" for i in (dict.fromkeys(want))]
    for i, name in enumerate(names):
        path = "attention/query/kernel"
        (theirs,) = (r.hf for r in ALBERT.table(there) if r.path == f"layer_{i}/{path}")
        assert student.table.by_path[f"{name}/{path}"].hf == theirs


def test_an_order_that_no_groups_have_is_refused_in_one_line() -> None:
    student = init_student(albert(**GROUPS), layers=(0, 2, 5))
    with pytest.raises(ValueError, match=r"groups of 2 weight sets; this model has .* 0, 0, 1$"):
        config_to_hf(ALBERT, student.config)


def test_shared_heads_shrink_in_every_layer() -> None:
    small = shrink(albert(**GROUPS), {"layer_1/heads": np.array([0, 2])})
    assert [layer.heads for layer in small.config.layers] == [3, 2, 3, 2, 3, 3, 3, 3]
    with pytest.raises(ValueError, match="this model has layer 0: 3 heads"):
        config_to_hf(ALBERT, small.config)


def test_layer_wise_decay_is_refused() -> None:
    training, model = Training(layer_decay=0.8), albert()
    with pytest.raises(ValueError, match="the 12 layers of this model share the weights of 1"):
        make_optimizer(model.table, training, layers=12)
    own = albert(num_hidden_layers=3, num_hidden_groups=3)
    assert make_optimizer(own.table, training, layers=3)


@pytest.mark.parametrize("groups", [0, 13, "2", None, 1.0])
def test_groups_that_cannot_be_are_one_line(groups: Any) -> None:
    with pytest.raises(ValueError, match=r"num_hidden_groups is .*; allowed: 1 to 12") as caught:
        config_from_hf(ALBERT, {"num_hidden_groups": groups}, where="folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")


V2 = {
    "architectures": ["AlbertForMaskedLM"],
    "attention_probs_dropout_prob": 0,
    "bos_token_id": 2,
    "classifier_dropout_prob": 0.1,
    "down_scale_factor": 1,
    "embedding_size": 128,
    "eos_token_id": 3,
    "gap_size": 0,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "inner_group_num": 1,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "albert",
    "net_structure_type": 0,
    "num_attention_heads": 12,
    "num_hidden_groups": 1,
    "num_hidden_layers": 12,
    "num_memory_blocks": 0,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30000,
}
"""albert-base-v2's config.json, as transformers 3 wrote it."""


def test_the_released_config_comes_in_and_goes_out() -> None:
    config = config_from_hf(ALBERT, V2, head="masked-lm")
    assert (config.num_layers, config.embedding_size, config.hidden) == (12, 128, 768)
    assert (config.activation, config.dropout, config.classifier_dropout) == ("gelu_new", 0, 0.1)
    written = config_to_hf(ALBERT, config)
    assert {name: written[name] for name in V2} == V2
    bare = config_from_hf(ALBERT, V2)
    assert ALBERT.table(bare).num_params == 11_683_584  # 12 M in the paper, table 1
