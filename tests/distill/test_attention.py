"""Attention and relation objectives against numbers worked out by hand."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.layouts import packed_batches, padded_batches
from effjax.distill import (
    AttentionKL,
    AttentionMSE,
    Given,
    Needs,
    Objective,
    RelationKL,
    cache_outputs,
)
from effjax.models import Model
from effjax.models.base import EncoderConfig, LayerTrace, Outputs
from tests.contracts.pairs import Pair, make_pair
from tests.contracts.test_packing import encoded, run

LOG3 = float(np.log(3.0))


def layer(mask: list[int], reach: int | None = None, **values: list) -> Outputs:
    """One layer of one example and one head: `scores` [L, M], or q, k or v [L, K]."""
    arrays = {name: jnp.array([[value]], jnp.float32) for name, value in values.items()}
    return Outputs(layers=(LayerTrace(**arrays, reach=reach),), mask=jnp.array([mask], bool))


def test_scores_are_compared_within_the_example() -> None:
    """Row 1: (1 + 9) / 2, row 2: (0 + 16) / 2; the third token is padding."""
    ours = layer([1, 1, 0], scores=[[1, 2, 7], [3, 4, 7], [7, 7, 7]])
    theirs = layer([1, 1, 0], scores=[[2, 5, 0], [3, 0, 0], [0, 0, 0]])
    found = AttentionMSE()(ours, Given(teacher=theirs))
    np.testing.assert_allclose(found.values[0, 0, 0, :2], [5.0, 8.0])
    np.testing.assert_allclose(found.mean(), 6.5)


def test_weights_are_compared_by_their_divergence() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2); what stands at padding is of no meaning."""
    ours = layer([1, 1, 0], scores=[[0, 0, 9], [0, 0, 9], [1, 2, 3]])
    theirs = layer([1, 1, 0], scores=[[LOG3, 0, -4], [0, 0, 5], [3, 2, 1]])
    found = AttentionKL()(ours, Given(teacher=theirs))
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(found.values[0, 0, 0, :2], [want, 0.0], atol=1e-6)
    np.testing.assert_allclose(found.mean(), want / 2, rtol=1e-5)


def test_two_examples_of_a_row_do_not_see_each_other() -> None:
    scores = [[0, 9, 9], [9, 0, LOG3], [9, 0, 0]]
    batch = {"segment_ids": np.array([[1, 2, 2]]), "starts": np.array([0, 1])}
    ours, theirs = layer([1, 1, 1], scores=np.zeros((3, 3)).tolist()), layer([1] * 3, scores=scores)
    found = AttentionKL()(ours, Given(teacher=theirs, batch=batch))
    want = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(found.values[0, 0, 0], [0.0, want, 0.0], atol=1e-6)


def test_weights_are_compared_within_each_layers_reach() -> None:
    """The first token of three. Teacher (3/4, 1/4, nothing); a student that reaches as far
    (1/2, 1/2, nothing), one that reaches all (1/4, 1/4, 1/2).
    """
    scores = [[0, 0, np.log(2.0)], [0, 0, 0], [9, 0, 0]]
    theirs = layer([1, 1, 1], 1, scores=[[LOG3, 0, 9], [0, 0, 0], [-9, 0, 0]])
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    for reach, extra in ((1, 0.0), (None, np.log(2.0))):
        found = AttentionKL()(layer([1, 1, 1], reach, scores=scores), Given(teacher=theirs))
        np.testing.assert_allclose(found.values[0, 0, 0, 0], want + extra, rtol=1e-5)


def test_scores_are_compared_where_both_layers_reach() -> None:
    """Row 1: (1 + 9) / 2, row 2: (0 + 16 + 1) / 3, row 3: (4 + 0) / 2."""
    ours = layer([1, 1, 1], scores=[[1, 2, 7], [3, 4, 7], [7, 7, 7]])
    theirs = layer([1, 1, 1], 1, scores=[[2, 5, 0], [3, 0, 6], [0, 5, 7]])
    for pair in ((ours, theirs), (theirs, ours)):
        found = AttentionMSE()(pair[0], Given(teacher=pair[1]))
        np.testing.assert_allclose(found.values[0, 0, 0], [5.0, 17 / 3, 2.0], rtol=1e-6)


@pytest.fixture(scope="module")
def windowed() -> Pair:
    """A ModernBERT whose layers 2 and 3 reach two places, and one of torch."""
    return make_pair("modernbert", None, (17, 9, 4), local_attention=5)


def test_the_weights_of_local_layers_are_those_of_torch(windowed: Pair) -> None:
    """Taken for a student, of whose scores they are then the softmax, over all tokens."""
    logs = [jnp.log(jnp.maximum(x.numpy(), 1e-30)) for x in windowed.theirs.attentions]
    student = Outputs(
        layers=tuple(LayerTrace(scores=scores) for scores in logs), mask=windowed.ours.mask
    )
    assert [trace.reach for trace in windowed.ours.layers[:3]] == [None, 2, 2]
    found = AttentionKL(layers="first")(student, Given(teacher=windowed.ours))
    assert float(jnp.where(found.weights > 0, found.values, 0.0).max()) < 1e-4


OBJECTIVES = (AttentionKL(layers=((2, 2), (3, 3))), AttentionMSE(layers=((2, 2), (3, 3))))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=("weights", "scores"))
def test_local_layers_packed_padded_and_cached(windowed: Pair, objective: Objective) -> None:
    """One loss in both layouts, and from what was kept of the teacher, of which the padded batch
    has tokens beyond a reach.
    """
    teacher, source, found = windowed.model, encoded(windowed.batch), []
    student = teacher.replace(params=jax.tree.map(lambda x: 0.8 * x, teacher.params))
    needs = objective.needs(student.config, teacher.config)
    cached = cache_outputs(teacher, source, needs, batch_size=2)
    for layout in (packed_batches, padded_batches):
        (batch,) = layout(source, np.array([0, 1, 2]), 1, 3, 1)
        ours = run(student, batch)
        for theirs in (run(teacher, batch), cached(batch)):
            found.append(float(objective(ours, Given(teacher=theirs, batch=batch)).mean()))
    assert found == pytest.approx([found[0]] * 4, rel=5e-3)
    assert found[0] == pytest.approx(found[2], rel=1e-4)


@pytest.mark.parametrize("kind", [AttentionKL, AttentionMSE])
def test_teachers_of_two_windows_teach_otherwise(windowed: Pair, kind: Any) -> None:
    """Of layer 2, the first local one, which has the same scores in both."""
    objective = kind(layers=((2, 2),))
    near, far = windowed.model, with_window(windowed.model, 8)
    student = far.replace(params=jax.tree.map(lambda x: 0.8 * x, far.params))
    ours, *teachers = (windowed.apply(model, windowed.batch) for model in (student, near, far))
    np.testing.assert_array_equal(*(theirs.of_layer("scores", 2) for theirs in teachers))
    losses = [float(objective(ours, Given(teacher=theirs)).mean()) for theirs in teachers]
    assert abs(losses[0] - losses[1]) > 0.01 * losses[0]


def with_window(model: Model, window: int | None) -> Model:
    """The model with this window in its local layers."""
    layers: Any = model.config.layers
    changed = (replace(x, window=window if x.window else None) for x in layers)
    return model.replace(config=model.config.replace(layers=tuple(changed)))


def test_a_student_that_does_not_reach_what_the_teacher_weighs_is_refused(windowed: Pair) -> None:
    near, far, every = (with_window(windowed.model, x).config for x in (5, 8, None))
    objective = AttentionKL(layers=((1, 1), (3, 2)))
    for teacher, reach in ((far, "4"), (every, "all")):
        message = f"layer 3 of the student reaches 2 places, layer 2 of the teacher {reach}; expec"
        with pytest.raises(ValueError, match=message) as caught:
            objective.needs(near, teacher)
        assert "\n" not in str(caught.value)
        assert AttentionMSE(layers=((3, 2),)).needs(near, teacher) == Needs(scores=(2,))
        assert objective.needs(teacher, near) == Needs(scores=(1, 2))
    ours, theirs = (layer([1], reach, scores=[[0]]) for reach in (0, 1))
    with pytest.raises(ValueError, match="reaches 0 places, layer 1 of the teacher 1; expected"):
        AttentionKL()(ours, Given(teacher=theirs))


def test_relations_by_hand() -> None:
    """v v^T / sqrt(2) of the teacher's (a, 0) and (0, 0) is (log 3, 0) for the first token, with
    a^2 = sqrt(2) log 3; the student's are zeros.
    """
    a = (2**0.5 * LOG3) ** 0.5
    ours, theirs = layer([1, 1], v=[[0, 0], [0, 0]]), layer([1, 1], v=[[a, 0], [0, 0]])
    found = RelationKL(of="v")(ours, Given(teacher=theirs))
    want = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(found.values[0, 0, 0], [want, 0.0], atol=1e-6)


def test_relation_heads_split_what_all_heads_have() -> None:
    """Two heads of two numbers against one of six: three relation heads do not fit four numbers,
    two do, and each has half of what there is.
    """
    draw = np.random.default_rng(0).normal
    ours, theirs = (
        Outputs(
            layers=(LayerTrace(q=jnp.asarray(draw(size=(1, heads, 3, size)), jnp.float32)),),
            mask=jnp.ones((1, 3), bool),
        )
        for heads, size in ((2, 2), (1, 6))
    )
    found = RelationKL(of="q", heads=2)
    relations = found.relations(theirs, 1, "teacher")
    q = np.asarray(theirs.layers[0].q)[0, 0]
    np.testing.assert_allclose(relations[0, 1], q[:, 3:] @ q[:, 3:].T / 3**0.5, rtol=1e-5)
    assert found(ours, Given(teacher=theirs)).values.shape == (1, 1, 2, 3)
    with pytest.raises(
        ValueError, match="heads is 3, which does not divide the 4 numbers of the st"
    ):
        RelationKL(of="q", heads=3)(ours, Given(teacher=theirs))
    with pytest.raises(
        ValueError, match=r"student are \(1, 2, 3, 3\), those of the teacher \(1, 1"
    ):
        RelationKL(of="q")(ours, Given(teacher=theirs))


def test_what_is_read_of_the_teacher(config: EncoderConfig) -> None:
    teacher = config.replace(layers=config.layers * 2)
    assert AttentionMSE().needs(config, teacher) == Needs(scores=(2, 4))
    assert AttentionKL().needs(config, teacher) == Needs(scores=(4,))
    needs = RelationKL(of="k", layers=((2, 3),)).needs(config, teacher)
    assert needs == Needs(k=(3,))
    assert needs.per_token == ("k",)
    assert (needs | Needs(v=(1,), scores=(2,), logits=True)).per_token == ("k", "v", "scores")
    with pytest.raises(ValueError, match="needs the teacher's config"):
        AttentionKL().needs(config, None)


def test_what_does_not_fit_is_one_line() -> None:
    ours, theirs = layer([1, 1], scores=[[0, 0], [0, 0]]), layer([1], scores=[[0]])
    for objective in (AttentionMSE(), AttentionKL()):
        with pytest.raises(
            ValueError, match=r"student has scores \(1, 1, 2, 2\), layer 1 of the te"
        ):
            objective(ours, Given(teacher=theirs))
    with pytest.raises(
        ValueError, match="scores of layer 1 was not kept, or the layer has no head"
    ):
        AttentionKL()(ours, Given(teacher=layer([1, 1], q=[[0], [0]])))
    with pytest.raises(ValueError, match="compared within a mask"):
        AttentionKL()(Outputs(layers=ours.layers), Given(teacher=ours))
