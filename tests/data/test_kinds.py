"""Every kind of task: official files, TFDS, tokens, and the score of logits that say the labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effjax.data import Examples, get_task, import_folder, load
from effjax.data.bad_rows import BadRows
from effjax.data.kinds import KINDS, prepare
from effjax.data.spans import Windows
from effjax.data.squad import Questions
from effjax.data.wordpiece import train_wordpiece

WORDS = "the cat sat on a mat in Paris while John Smith slept near Berlin for the United Nations"
CONTEXT = "John Smith slept near Berlin. The cat sat on a mat in Paris."


def reviews(folder: Path) -> None:
    for split in ("train", "test"):
        for label, text in (("neg", "the mat"), ("pos", "the cat")):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(2):
                (place / f"{number}_7.txt").write_text(f"{text} {split} {number}")


def questions(folder: Path) -> None:
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        asked = [
            {
                "id": f"{name}-{i}",
                "question": question,
                "answers": [{"text": answer, "answer_start": CONTEXT.index(answer)}],
            }
            for i, (question, answer) in enumerate(
                (("Who slept ?", "John Smith"), ("Where sat the cat ?", "on a mat"))
            )
        ]
        paragraph = {"context": CONTEXT, "qas": asked}
        (folder / name).write_text(
            json.dumps({"version": "1.1", "data": [{"title": "T", "paragraphs": [paragraph]}]})
        )


def sentences(folder: Path) -> None:
    lines = ["John NNP B-NP B-PER", "Smith NNP I-NP I-PER", "slept VBD B-VP O", ""]
    lines += ["the DT B-NP O", "United NNP I-NP B-ORG", "Nations NNP I-NP I-ORG", ""]
    for name in ("train.txt", "valid.txt", "test.txt"):
        (folder / name).write_text("\n".join(lines))


FOLDERS: dict[str, Callable[[Path], None]] = {
    "imdb_reviews/plain_text": reviews,
    "squad/v1.1": questions,
    "conll2003/conll2003": sentences,
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_wordpiece([WORDS, CONTEXT] * 20, 200, max_length=64)


@pytest.fixture(params=FOLDERS)
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Path]:
    """The name of a task, its official folder, and the data folder it was imported into."""
    source, data_dir = tmp_path / "official", tmp_path / "tfds"
    source.mkdir()
    FOLDERS[request.param](source)
    import_folder(get_task(request.param), source, data_dir)
    return request.param, source, data_dir


def labelled(name: str, encoded: Any, examples: Any) -> np.ndarray:
    """Logits that say what the labels do."""
    if name == "squad/v1.1":
        logits = np.zeros((len(encoded.input_ids), 2), np.float32)
        for begin, (first, last) in zip(encoded.offsets[:-1], encoded.labels, strict=True):
            logits[begin + first, 0] = logits[begin + last, 1] = 9.0
        return logits
    classes = len(get_task(name).labels)
    return np.eye(classes, dtype=np.float32)[np.maximum(encoded.labels, 0)]


def test_labels_as_logits_score_one_and_others_do_not(
    imported: tuple[str, Path, Path], tokenizer: Any
) -> None:
    name, _, data_dir = imported
    task = get_task(name)
    kind = KINDS[task.kind]
    for split in task.splits:
        examples, encoded = prepare(task, tokenizer, load(task, split, data_dir), 48)
        logits = labelled(name, encoded, examples)
        assert len(logits) == len(encoded.input_ids if kind.per_token else encoded)
        score = kind.score(task, examples, encoded, logits)
        assert tuple(score.metrics)[: len(task.metrics)] == task.metrics
        assert score.metrics[task.metrics[0]] == 1.0
        assert score.right.tolist() == [True] * len(examples)
        worse = kind.score(task, examples, encoded, np.roll(logits, 1, axis=0))
        assert worse.metrics[task.metrics[0]] < 1.0
        assert not worse.right.all()


def test_importing_again_is_checked_against_what_is_there(
    imported: tuple[str, Path, Path],
) -> None:
    name, source, data_dir = imported
    import_folder(get_task(name), source, data_dir)
    for path in source.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("cat", "dog").replace("slept", "leapt"))
    with pytest.raises(ValueError, match="exists with other rows in 'train'"):
        import_folder(get_task(name), source, data_dir)


def test_a_sentence_with_a_tag_that_tfds_does_not_know_stops_or_is_skipped(tmp_path: Path) -> None:
    task, data_dir = get_task("conll2003/conll2003"), tmp_path / "tfds"
    sentences(tmp_path)
    path = tmp_path / "valid.txt"
    path.write_text(path.read_text().replace("slept VBD", "slept VERB"))
    with pytest.raises(ValueError, match=r"valid\.txt:3: pos is 'VERB'; allowed: .*VBD"):
        import_folder(task, tmp_path, data_dir)
    import_folder(task, tmp_path, data_dir, BadRows("skip"))
    assert [len(load(task, split, data_dir)) for split in task.splits] == [2, 1, 2]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_the_files_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train"):
        import_folder(get_task(name), tmp_path, tmp_path / "tfds")
    assert not (tmp_path / "tfds").exists()


def test_version_2_is_scored_at_its_best_threshold(tokenizer: Any) -> None:
    """Spans say nothing of whether there is an answer; the [CLS] logits do, with an offset."""
    golds = ((("John Smith", 0),), (), (("on a mat", CONTEXT.index("on a mat")),), ())
    names = [f"q{i}" for i in range(4)]
    asked = Questions(names, ["Who ?"] * 4, [CONTEXT] * 4, list(golds), ["T"] * 4, [()] * 4)
    task = get_task("squad/v2.0")
    examples, encoded = prepare(task, tokenizer, asked, 48)
    logits = labelled("squad/v1.1", encoded, examples)
    assert isinstance(encoded, Windows)
    for window, question in enumerate(encoded.question):
        first = encoded.offsets[window]
        if not golds[question]:
            logits[first + 12] = 5.0  # some span or other
        logits[first] = -3.0 if golds[question] else 4.0
    score = KINDS["answers"].score(task, examples, encoded, logits)
    assert score.metrics["f1"] == score.metrics["best_f1"] == 1.0
    assert score.right.all()


def test_version_2_answers_nothing_where_that_is_best(tokenizer: Any) -> None:
    """The official threshold is then 0, which would answer where a span is surer than [CLS]."""
    asked = Questions(["a", "b"], ["Who ?"] * 2, [CONTEXT] * 2, [(), ()], ["T"] * 2, [(), ()])
    task = get_task("squad/v2.0")
    examples, encoded = prepare(task, tokenizer, asked, 48)
    assert isinstance(encoded, Windows)
    logits = np.zeros((len(encoded.input_ids), 2))
    for first in encoded.offsets[:-1]:
        logits[first + 12] = 5.0
    score = KINDS["answers"].score(task, examples, encoded, logits)
    assert score.metrics["best_threshold"] == 0.0
    assert score.metrics["f1"] == score.metrics["best_f1"] == 1.0


def test_similarity_is_the_cosine_of_the_vectors_of_two_sentences(tokenizer: Any) -> None:
    texts = (["the cat", "a mat in Paris", "Berlin"], ["John", "the cat sat", "the mat"])
    task, golds = get_task("similarity/stsb"), np.array([4.5, 1.0, 2.0], np.float32)
    pairs = Examples(texts, golds, np.arange(3, dtype=np.int32))
    _, encoded = prepare(task, tokenizer, pairs, 48)
    assert [
        encoded.input_ids[begin:end].tolist()
        for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
    ] == tokenizer(texts[0] + texts[1])["input_ids"]
    angles = np.array([0.1, 1.4, 1.0])
    first = np.array([[1.0, 0.0], [5.0, 0.0], [2.0, 0.0]])
    second = np.array([[3.0], [0.1], [7.0]]) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors = np.concatenate([first, second])
    score = KINDS[task.kind].score(task, pairs, encoded, vectors)
    assert score.metrics == {
        "spearman": pytest.approx(1.0),
        "pearson": pytest.approx(np.corrcoef(np.cos(angles), golds)[0, 1]),
    }
    assert list(score.metrics) == ["spearman", "pearson"] and not len(score.right)
    hidden = Examples(texts, None, pairs.idx)
    with pytest.raises(ValueError, match="similarity/stsb: this split has no public labels"):
        KINDS[task.kind].score(task, hidden, encoded, vectors)
