"""Sentence similarity: an encoder without a head, scored by the cosine of its vectors."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from effjax.cli import main
from effjax.data import Examples, get_task, import_folder
from effjax.data.kinds import Prepared, prepare
from effjax.data.wordpiece import train_wordpiece
from effjax.hf import SentenceEncoder
from effjax.models import Model, create
from effjax.train import evaluate
from tests.train.small_run import SIZES

FIRST = ["a cat sat on the mat", "rain", "two men play chess in the park", "a red car", "no"]
SECOND = ["the cat is on a mat", "it is cold today", "men play", "a car that is red", "yes"]
GOLDS = np.array([4.6, 1.0, 3.2, 4.9, 0.2], np.float32)
TASK = get_task("similarity/stsb")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_wordpiece([*FIRST, *SECOND] * 9, 120, max_length=16)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Model:
    sizes = SIZES | {"vocab_size": len(tokenizer), "initializer_range": 0.3}
    return create("bert", size="tiny", key=jax.random.key(0), **sizes)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_score_is_that_of_cosines_by_hand(encoder: Model, tokenizer: Any, pooling: Any) -> None:
    batch = tokenizer([*FIRST, *SECOND], return_tensors="np", padding=True)
    vectors = []
    for hidden, mask in zip(
        np.asarray(encoder(batch).last_hidden), batch["attention_mask"], strict=True
    ):
        tokens = hidden[mask == 1]
        vectors.append({"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.max(0)}[pooling])
    cosines = np.array(
        [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(vectors[:5], vectors[5:], strict=True)]
    )
    pairs = Examples((FIRST, SECOND), GOLDS, np.arange(5, dtype=np.int32))
    prepared = prepare(TASK, tokenizer, pairs, 16)
    found = evaluate(SentenceEncoder(encoder, pooling), TASK, prepared, batch_size=4)
    assert found.metrics == {
        "spearman": pytest.approx(np.corrcoef(ranks(cosines), ranks(GOLDS))[0, 1], abs=1e-6),
        "pearson": pytest.approx(np.corrcoef(cosines, GOLDS)[0, 1], abs=1e-5),
    }
    if pooling == "mean":  # which is what a bare encoder is taken to mean
        assert evaluate(encoder, TASK, prepared, batch_size=4).metrics == found.metrics


def test_a_head_does_not_answer_similarity(model: Model, encoded: Any) -> None:
    pairs = Examples((["a"], ["b"]), GOLDS[:1], np.zeros(1, np.int32))
    message = "answered by an encoder without a head; this model has 'sequence-classification'"
    with pytest.raises(ValueError, match=message):
        evaluate(model, TASK, Prepared(pairs, encoded))


@pytest.mark.slow
def test_sts_b_of_the_real_model(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_folder(TASK, assets / "data" / "glue" / "STS-B", tmp_path)
    folder = str(assets / "models" / "all-MiniLM-L6-v2")
    command = ["evaluate", folder, "--task", TASK.name, "--data-dir", str(tmp_path)]
    assert main(command) == 0
    spearman, pearson, n = capsys.readouterr().out.splitlines()
    assert float(spearman.split()[1]) == pytest.approx(0.867, abs=5e-4)
    assert float(pearson.split()[1]) > 0.8
    assert n.split()[:2] == ["n", "1500"]
