"""Narrower models of a teacher's most important numbers."""

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModel

from effjax import hf
from effjax.models.model import Model, create
from effjax.prune import narrowed, shrink
from effjax.tree import flatten, unflatten


@pytest.fixture(scope="module")
def teacher() -> Model:
    return create(
        "bert",
        size="tiny",
        key=jax.random.key(0),
        head="sequence-classification",
        vocab_size=31,
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=7,
        num_hidden_layers=5,
        max_position_embeddings=9,
    )


BATCH = {
    "input_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


def test_a_narrow_student_has_the_largest_part_of_every_matrix(teacher: Model) -> None:
    """Numbers 1, 4, 6 and 11 of 12 and head 2 of 3 are made ten times as large everywhere."""
    large, head, params = np.array([1, 4, 6, 11]), 2, {}
    for row in teacher.table:
        array = np.array(flatten(teacher.params)[row.path])
        for number, axis in enumerate(row.axes):
            kept = large if axis.instance == "hidden" else head
            if axis.instance in ("hidden", "layer_3/heads"):
                np.moveaxis(array, number, 0)[kept] *= 10
        params[row.path] = array
    planted = teacher.replace(params=unflatten(params))
    with pytest.raises(ValueError, match=r"a part of the 7 of layer_\d/ffn; expected a width that"):
        narrowed(planted, 4)
    planted = shrink(planted, {f"layer_{i}/ffn": np.arange(6) for i in range(5)})
    student = narrowed(planted, 4)
    ours, theirs = flatten(student.params), flatten(planted.params)
    np.testing.assert_array_equal(
        ours["embedding/word/embedding"], theirs["embedding/word/embedding"][:, large]
    )
    query = theirs["layer_3/attention/query/kernel"][large][:, [head]]
    np.testing.assert_array_equal(ours["layer_3/attention/query/kernel"], query)
    assert {(layer.heads, layer.ffn) for layer in student.config.layers} == {(1, 2)}
    logits = student(BATCH).logits
    assert logits is not None and logits.shape == (2, 2)


@pytest.mark.parametrize("width", [0, 12, 13])
def test_a_narrow_student_is_narrower(teacher: Model, width: int) -> None:
    with pytest.raises(ValueError, match=f"width {width}: expected a width from 1 to 11"):
        narrowed(teacher, width)


def test_transformers_loads_a_narrow_student(tmp_path: Path) -> None:
    made = create(
        "bert",
        size="tiny",
        key=jax.random.key(0),
        vocab_size=31,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=6,
    )
    student = narrowed(made, 4)
    hf.save_pretrained(student, tmp_path / "narrow")
    theirs = AutoModel.from_pretrained(tmp_path / "narrow").eval()
    given = {name: torch.tensor(x) for name, x in BATCH.items()}
    with torch.no_grad():
        wanted = theirs(**given).last_hidden_state.numpy()
    mask = BATCH["attention_mask"][..., None]
    np.testing.assert_allclose(student(BATCH).last_hidden * mask, wanted * mask, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("squeezebert", "uncased"), ("convbert", "small")])
def test_an_architecture_without_a_narrower_kind_is_one_line(name: str, size: str) -> None:
    model = create(name, size=size, key=jax.random.key(0), num_hidden_layers=1)
    with pytest.raises(ValueError, match=f"{name} has arrays that do not become narrower"):
        narrowed(model, model.config.hidden // 2)
