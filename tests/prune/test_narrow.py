"""Narrower models of a teacher's most important numbers."""

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModel

from effjax import hf
from effjax.models.model import Model, create
from effjax.prune import narrowed
from effjax.tree import flatten, unflatten
from tests.train.small_run import SIZES, small_model

BATCH = {
    "input_ids": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


def planted(large: dict[str, np.ndarray]) -> Model:
    """A model in which some of what an axis instance counts is ten times as large everywhere."""
    model, params = small_model(), {}
    for row in model.table:
        array = np.array(flatten(model.params)[row.path])
        for number, axis in enumerate(row.axes):
            if axis.instance in large:
                np.moveaxis(array, number, 0)[large[axis.instance]] *= 10
        params[row.path] = array
    return model.replace(params=unflatten(params))


def test_a_narrow_student_has_the_largest_part_of_every_matrix() -> None:
    large, head = np.array([1, 4, 5, 6, 9, 11, 12, 15]), np.array([1])
    teacher = planted({"hidden": large, "layer_1/heads": head})
    student = narrowed(teacher, 8)
    ours, theirs = flatten(student.params), flatten(teacher.params)
    np.testing.assert_array_equal(
        ours["embedding/word/embedding"], theirs["embedding/word/embedding"][:, large]
    )
    query = theirs["layer_1/attention/query/kernel"][large][:, head]
    np.testing.assert_array_equal(ours["layer_1/attention/query/kernel"], query)
    assert {(layer.heads, layer.ffn) for layer in student.config.layers} == {(1, 12)}
    logits = student(BATCH).logits
    assert student.config.hidden == 8 and logits is not None and logits.shape == (2, 2)


@pytest.mark.parametrize("width", [0, 16, 17])
def test_a_narrow_student_is_narrower(width: int) -> None:
    with pytest.raises(ValueError, match=f"width {width}: expected a width from 1 to 15"):
        narrowed(small_model(), width)


def test_a_narrow_student_has_whole_heads() -> None:
    with pytest.raises(ValueError, match="a part of the 2 of layer_0/heads; expected a width that"):
        narrowed(small_model(), 12)


def test_transformers_loads_a_narrow_student(tmp_path: Path) -> None:
    student = narrowed(create("bert", size="tiny", key=jax.random.key(0), **SIZES), 8)
    hf.save_pretrained(student, tmp_path / "narrow")
    theirs = AutoModel.from_pretrained(tmp_path / "narrow").eval()
    given = {name: torch.tensor(x) for name, x in BATCH.items()}
    with torch.no_grad():
        wanted = theirs(**given).last_hidden_state.numpy()
    mask = BATCH["attention_mask"][..., None]
    np.testing.assert_allclose(student(BATCH).last_hidden * mask, wanted * mask, atol=1e-5)


def test_an_architecture_without_a_narrower_kind_is_one_line() -> None:
    model = create(
        "squeezebert", size="uncased", key=jax.random.key(0), num_hidden_layers=1, vocab_size=8
    )
    with pytest.raises(ValueError, match=r"squeezebert cannot become narrower: its . groups tie"):
        narrowed(model, model.config.hidden // 2)
