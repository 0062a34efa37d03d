"""Tagged sentences in files of one's own."""

from pathlib import Path
from typing import Any

import pytest

from effjax.data import TaggedFiles
from effjax.data.entities import entity_f1

LINES = ["Anna\tB-NAME", "Ax\tI-NAME", "eats\tO", "", "rye\tB-FOOD", "in\tO", "Bonn\tB-NAME"]
LABELS = ("O", "B-NAME", "I-NAME", "B-FOOD", "I-FOOD")


def files(folder: Path, lines: list[str], **more: Any) -> TaggedFiles:
    path = folder / "own.iob.txt"
    path.write_text("\n".join(lines) + "\n")
    return TaggedFiles(train=str(path), types=("NAME", "FOOD"), **more)


def test_the_tag_is_the_last_column_and_labels_follow_the_types(tmp_path: Path) -> None:
    own = files(tmp_path, LINES, validation="valid.txt")
    task = own.task()
    assert (task.name, task.kind, task.labels) == ("own", "tags", LABELS)
    assert (task.splits, task.metrics) == (("train", "validation"), ("f1", "precision", "recall"))
    found = own.read("train")
    assert found.tokens == [["Anna", "Ax", "eats"], ["rye", "in", "Bonn"]]
    assert found.tags is not None
    assert [x.tolist() for x in found.tags] == [[1, 2, 0], [3, 0, 1]]
    assert entity_f1(found.tags, found.tags, task.labels)["f1"] == 1.0


def test_bad_sentences_stop_with_their_line_or_are_skipped(tmp_path: Path) -> None:
    bad = [*LINES[:-1], "Bonn\tB-CITY"]
    with pytest.raises(ValueError, match=r"own\.iob\.txt:7: .*'B-CITY'"):
        files(tmp_path, bad).read("train")
    assert files(tmp_path, bad, on_bad="skip").read("train").tokens == [["Anna", "Ax", "eats"]]


def test_missing_files_and_splits_are_named(tmp_path: Path) -> None:
    own = files(tmp_path, LINES, validation=str(tmp_path / "valid.txt"), name="mine")
    assert own.task().name == "mine"
    with pytest.raises(FileNotFoundError, match=r"valid\.txt: no such file; .* split 'validation'"):
        own.read("validation")
    with pytest.raises(ValueError, match="no file for split 'test'; there is train, validation"):
        own.read("test")


def test_types_are_a_tuple_of_names() -> None:
    own = TaggedFiles(train="a.txt", types=("NAME",))
    object.__setattr__(own, "types", "NAME")  # the type checker of the tests refuses it first
    with pytest.raises(ValueError, match=r"types is 'NAME'; needs names .* files: \('NAME',\)"):
        own.__post_init__()


@pytest.mark.parametrize("types", [(), ("NAME", "NAME"), ("",)])
def test_types_are_different_names(types: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="needs one or more different names"):
        TaggedFiles(train="a.txt", types=types)
