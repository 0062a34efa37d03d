"""SQuAD's official JSON and TFDS rows: what comes in goes out, and what is bad is named."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from effjax.data.squad import Questions, from_rows, read_official, to_rows

CONTEXT = "Paris is the capital of France. It lies on the Seine."


def _gold(text: str) -> dict[str, Any]:
    return {"text": text, "answer_start": CONTEXT.index(text)}


def _question(
    id_: str = "q1", answers: tuple[str, ...] = ("Paris",), **extra: Any
) -> dict[str, Any]:
    golds = [_gold(text) for text in answers]
    return {"id": id_, "question": "What is the capital?", "answers": golds, **extra}


def _impossible(id_: str = "q2") -> dict[str, Any]:
    return _question(id_, (), is_impossible=True, plausible_answers=[_gold("Seine")])


def _write(folder: Path, *questions: dict[str, Any], context: str = CONTEXT) -> Path:
    paragraph = {"context": context, "qas": list(questions)}
    path = folder / "dev.json"
    path.write_text(json.dumps({"data": [{"title": "Paris", "paragraphs": [paragraph]}]}))
    return path


def test_version_1_is_read_in_file_order(tmp_path: Path):
    questions = read_official(_write(tmp_path, _question("b", ("Paris", "France")), _question("a")))
    assert questions.version == "v1.1" and questions.plausible is None
    assert questions.ids == ["b", "a"] and questions.titles == ["Paris", "Paris"]
    assert questions.questions == ["What is the capital?"] * 2
    assert questions.contexts == [CONTEXT] * 2
    assert questions.answers == [(("Paris", 0), ("France", 24)), (("Paris", 0),)]


def test_version_2_keeps_plausible_answers_apart(tmp_path: Path):
    path = _write(tmp_path, _question(is_impossible=False), _impossible())
    questions = read_official(path)
    assert questions.version == "v2.0"
    assert questions.answers == [(("Paris", 0),), ()]
    assert questions.plausible == [(), (("Seine", 47),)]


BAD = {
    "no question": {"id": "bad", "answers": [_gold("Paris")]},
    "no answers": {"id": "bad", "question": "Why?"},
    "question is empty": _question("bad", question="  "),
    "question is not text": _question("bad", question="W\0hy?"),
    "holds NUL or half": _question("bad", question="Why \ud83d?"),
    "an earlier question has this id": _question("q1"),
    "answers: not a list of objects": _question("bad") | {"answers": ["Paris"]},
    "lacks a text or a whole number": _question("bad") | {"answers": [{"text": "Paris"}]},
    "one is empty": _question("bad") | {"answers": [{"text": " ", "answer_start": 5}]},
    "'Paris' is not at character 1 of the context, which has 'aris '": _question("bad")
    | {"answers": [{"text": "Paris", "answer_start": 1}]},
    "'Paris' is not at character -53": _question("bad")
    | {"answers": [{"text": "Paris", "answer_start": -53}]},
    "0 answers with is_impossible false": _question("bad", ()),
    "no is_impossible": _question("bad"),
    "1 answers with is_impossible true": _question("bad", is_impossible=True),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_question_stops_with_file_and_id_or_is_skipped_and_counted(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = _question("q1")
    if "is_impossible" in fault and not fault.startswith("0"):  # make the file a v2 one
        good |= {"is_impossible": False}
    path = _write(tmp_path, good, BAD[fault])
    with pytest.raises(ValueError) as stopped:
        read_official(path)
    line = str(stopped.value)
    assert fault in line and str(path) in line and repr(BAD[fault]["id"]) in line
    assert "\n" not in line
    with caplog.at_level(logging.WARNING, "effjax"):
        assert read_official(path, on_bad="skip").ids == ["q1"]
    assert "1 of 2 questions skipped" in caplog.text and fault in caplog.text


def test_a_paragraph_without_text_makes_its_questions_bad(tmp_path: Path):
    with pytest.raises(ValueError, match="question 'q1': context is empty"):
        read_official(_write(tmp_path, _question(), context=" "))
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"qas": [_question()]}]}]}))
    with pytest.raises(ValueError, match="question 'q1': no context"):
        read_official(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"data": "caf\xe9"}', "not JSON: .*utf-8"),
        (b"[]", "not SQuAD's layout"),
        (b'{"data": [{"title": "x"}]}', "not SQuAD's layout .* 'paragraphs'"),
        (b'{"data": []}', "no question to read; the file has none"),
    ],
)
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_a_file_that_is_not_squad_is_refused(content, message, on_bad, tmp_path: Path):
    path = tmp_path / "dev.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_official(path, on_bad=on_bad)


def test_nothing_left_after_skipping_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no question to read; .*question is empty"):
        read_official(_write(tmp_path, _question(question="")), on_bad="skip")


def _same(a: Questions, b: Questions) -> bool:
    return vars(a) == vars(b)


@pytest.mark.parametrize("version", ["v1.1", "v2.0"])
def test_rows_are_those_of_the_tfds_builder_and_come_back(version: str, tmp_path: Path):
    tfds = pytest.importorskip("tensorflow_datasets")
    extra = {} if version == "v1.1" else {"is_impossible": False}
    more = [] if version == "v1.1" else [_impossible()]
    questions = read_official(
        _write(tmp_path, _question("q1", ("Paris", "France"), **extra), *more)
    )
    rows = to_rows(questions)
    features = tfds.builder(f"squad/{version}", data_dir=tmp_path).info.features
    assert all(set(row) == set(features) for row in rows)
    assert rows[0]["answers"] == {"text": ["Paris", "France"], "answer_start": [0, 24]}
    if more:
        assert [row["is_impossible"] for row in rows] == [False, True]
        assert rows[1]["plausible_answers"] == {"text": ["Seine"], "answer_start": [47]}
    assert _same(from_rows(rows), questions)
    stored = [features.serialize_example(features.encode_example(row)) for row in rows]
    read = [features.deserialize_example_np(row) for row in stored]  # text as bytes, arrays
    assert isinstance(read[0]["context"], bytes)
    assert _same(from_rows(read), questions)


def test_take_keeps_rows_together_and_columns_must_agree(tmp_path: Path):
    path = _write(tmp_path, _question("a", ("France",), is_impossible=False), _impossible("b"))
    questions = read_official(path)
    taken = questions.take([1, 0, 1])
    assert len(taken) == 3 and taken.ids == ["b", "a", "b"]
    assert taken.answers == [(), (("France", 24),), ()]
    assert taken.plausible == [(("Seine", 47),), (), (("Seine", 47),)]
    with pytest.raises(ValueError, match=r"differ in length: \[1, 1, 2, 1, 1\]"):
        Questions(["a"], ["b"], ["c", "d"], [()], ["e"])


def test_the_official_files_are_read_whole(assets: Path):
    dev = read_official(assets / "data" / "squad" / "dev-v1.1.json")
    assert len(dev) == 10_570 and dev.version == "v1.1" and len(set(dev.titles)) == 48
    assert _same(from_rows(to_rows(dev)), dev)
    assert len(read_official(assets / "data" / "squad" / "train-subset-4000.json")) == 4000
