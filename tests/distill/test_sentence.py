"""Sentence embeddings against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.distill import (
    Given,
    Needs,
    Objective,
    SentenceCosine,
    SentenceMSE,
    SentenceSimilarity,
    Term,
)
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Aux, Batch


def texts(*vectors: list[float]) -> Outputs:
    return Outputs(sentence=jnp.array(vectors, jnp.float32))


def term(objective: Objective, ours: Outputs, theirs: Outputs, aux: Aux, batch: Batch) -> Term:
    return objective(ours, Given(teacher=theirs, batch=batch, aux=aux))


def test_by_hand() -> None:
    found = term(SentenceMSE(project=False), texts([2, 0], [1, 1]), texts([0, 5], [1, 1]), {}, {})
    np.testing.assert_allclose(found.values, [14.5, 0.0])
    np.testing.assert_allclose(found.mean(), 7.25)


def test_a_projection_leads_to_the_teachers_width() -> None:
    """(2, 0) W with W = [[1, 0, 2], [7, 7, 7]] is (2, 0, 4)."""
    aux = {"sentence": jnp.array([[1.0, 0.0, 2.0], [7.0, 7.0, 7.0]])}
    found = term(SentenceMSE(), texts([2, 0]), texts([2, 3, 4]), aux, {})
    np.testing.assert_allclose(found.values, [3.0])


def test_what_fills_up_a_batch_counts_for_nothing() -> None:
    batch = {"example_mask": jnp.array([1, 0])}
    given = texts([2, 0], [9, 9]), texts([0, 5], [1, 1])
    np.testing.assert_allclose(term(SentenceMSE(project=False), *given, {}, batch).mean(), 14.5)


def test_init_and_needs(config: EncoderConfig) -> None:
    wide = config.replace(hidden=192)
    aux = SentenceMSE().init(jax.random.key(0), config, wide)
    assert aux["sentence"].shape == (128, 192)
    assert np.std(aux["sentence"]) == pytest.approx(128**-0.5, rel=0.02)
    assert SentenceMSE(project=False).init(jax.random.key(0), config, config) == {}
    assert SentenceMSE().needs(config, wide) == Needs(sentence=True)
    with pytest.raises(ValueError, match="have 128 numbers, the teacher's 192"):
        SentenceMSE(project=False).init(jax.random.key(0), config, wide)


def test_embeddings_that_were_not_kept_are_named() -> None:
    with pytest.raises(ValueError, match="teacher 'teacher' has no sentence embeddings"):
        term(SentenceMSE(project=False), texts([2, 0]), Outputs(), {}, {})
    with pytest.raises(ValueError, match="student has no sentence embeddings"):
        term(SentenceMSE(project=False), Outputs(), texts([2, 0]), {}, {})


def test_cosine_by_hand() -> None:
    given = texts([2, 0], [1, 1]), texts([0, 5], [3, 3])
    found = term(SentenceCosine(project=False), *given, {}, {})
    np.testing.assert_allclose(found.values, [1.0, 0.0], atol=1e-6)


def test_similarities_by_hand() -> None:
    """The student's texts are at a right angle, the teacher's point one way; widths differ, and no
    text is compared with itself.
    """
    ours, theirs = texts([2, 0], [0, 1]), texts([1, 1, 1], [5, 5, 5])
    found = term(SentenceSimilarity(), ours, theirs, {}, {})
    np.testing.assert_allclose(found.values, [[0, 1], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(found.mean(), 1.0, rtol=1e-6)
    batch = {"example_mask": jnp.array([1, 0])}
    assert term(SentenceSimilarity(), ours, theirs, {}, batch).mean() == 0
