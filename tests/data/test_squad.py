"""SQuAD's official JSON and TFDS rows: what comes in goes out, and what is bad is named."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from effjax.data.bad_rows import BadRows
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


def test_a_file_of_the_other_version_is_refused(tmp_path: Path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    of_1, of_2 = _write(first, _question()), _write(second, _impossible())
    assert read_official(of_1, version="v1.1").version == "v1.1"
    with pytest.raises(
        ValueError, match=r"this is SQuAD v1\.1, no question has .*; v2\.0 is expected"
    ):
        read_official(of_1, version="v2.0")
    with pytest.raises(
        ValueError, match=r"this is SQuAD v2\.0, some question has .*; v1\.1 is exp"
    ):
        read_official(of_2, version="v1.1")


BAD = {
    "no 'question'; the row has 'id', 'answers', ": {"id": "bad", "answers": [_gold("Paris")]},
    "no 'answers'; the row has": {"id": "bad", "question": "Why?"},
    "question is empty": _question("bad", question="  "),
    "question has a NUL byte at character 1": _question("bad", question="W\0hy?"),
    "question is not UTF-8 text at character 4": _question("bad", question="Why \ud83d?"),
    "an earlier question has this id": _question("q1"),
    "answers is not a list of objects": _question("bad") | {"answers": ["Paris"]},
    "no 'answer_start'; the row has 'text'": _question("bad") | {"answers": [{"text": "Paris"}]},
    "answers: answer_start is '0'; needs an integer": _question("bad")
    | {"answers": [{"text": "Paris", "answer_start": "0"}]},
    "answers: text is empty": _question("bad") | {"answers": [{"text": " ", "answer_start": 5}]},
    "'Paris' is not at character 1 of the context, which has 'aris '": _question("bad")
    | {"answers": [{"text": "Paris", "answer_start": 1}]},
    "'Paris' is not at character -53": _question("bad")
    | {"answers": [{"text": "Paris", "answer_start": -53}]},
    "0 answers with is_impossible false": _question("bad", ()),
    "no 'is_impossible'": _question("bad"),
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
        assert read_official(path, BadRows("skip")).ids == ["q1"]
    (record,) = caplog.records
    assert record.getMessage().startswith("skipped 1 of 2 questions of dev.json: 1 ")
    assert record.getMessage().endswith(f"; the first: {line}")


def test_a_paragraph_without_text_makes_its_questions_bad(tmp_path: Path):
    with pytest.raises(ValueError, match="question 'q1': context is empty"):
        read_official(_write(tmp_path, _question(), context=" "))
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"qas": [_question()]}]}]}))
    with pytest.raises(ValueError, match="question 'q1': no 'context'"):
        read_official(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"data": "caf\xe9"}', "not SQuAD's layout"),
        (b"[]", "not SQuAD's layout"),
        (b'{"data": [{"title": "x"}]}', "not SQuAD's layout .* 'paragraphs'"),
        (b'{"data": []}', "dev.json: no questions$"),
    ],
)
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_a_file_that_is_not_squad_is_refused(content, message, on_bad, tmp_path: Path):
    path = tmp_path / "dev.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_official(path, BadRows(on_bad))


def test_nothing_left_after_skipping_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"dev\.json: no questions but bad ones: 1 empty text"):
        read_official(_write(tmp_path, _question(question="")), BadRows("skip"))


def test_bytes_that_are_not_utf8_spoil_one_question(tmp_path: Path):
    path = _write(tmp_path, _question("q1"), _question("q2", question="A caf?"))
    path.write_bytes(path.read_bytes().replace(b"caf?", b"caf\xe9"))
    with pytest.raises(ValueError, match=r"question 'q2': question is not UTF-8 text at char.* 5$"):
        read_official(path)
    assert read_official(path, BadRows("skip")).ids == ["q1"]


def test_a_question_without_an_id_is_named_by_its_number(tmp_path: Path):
    nameless = {name: value for name, value in _question().items() if name != "id"}
    with pytest.raises(ValueError, match=r"dev\.json: question 1: no 'id'; the row has 'question'"):
        read_official(_write(tmp_path, _question(), nameless))


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
