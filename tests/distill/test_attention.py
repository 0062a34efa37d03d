"""Attention and relation objectives against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import AttentionKL, AttentionMSE, Given, Needs, RelationKL
from effjax.models.base import EncoderConfig, LayerTrace, Outputs

LOG3 = float(np.log(3.0))


def layer(mask: list[int], **values: list) -> Outputs:
    """One layer of one example and one head: `scores` [L, M], or q, k or v [L, K]."""
    arrays = {name: jnp.array([[value]], jnp.float32) for name, value in values.items()}
    return Outputs(layers=(LayerTrace(**arrays),), mask=jnp.array([mask], bool))


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
