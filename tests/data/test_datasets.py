"""Official GLUE folders into TFDS and back, and what happens when something is wrong."""

import io
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from effjax.cli import main
from effjax.data import get_task, import_folder, load
from effjax.data.bad_rows import BadRows
from effjax.data.glue_folder import official_file
from effjax.data.tasks import Task

_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
_MNLI_ROW = "\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)\tp{i}\th{i}"
_STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
_STSB_ROW = "\tnews\tf\t2012\t0\tnone\tnone\ta{i}\tb{i}"

# Task -> (labelled header, labelled row, test header, test row, the labels of rows 0, 1, 2 as the
# files spell them, and the ids TFDS gives them). Headers are GLUE's own.
LAYOUTS = {
    "cola": (None, "gj04\t{y}\t*\ts{i}", "index\tsentence", "{i}\ts{i}", "101", [1, 0, 1]),
    "sst2": ("sentence\tlabel", "s{i} \t{y}", "index\tsentence", "{i}\ts{i}", "101", [1, 0, 1]),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '{y}\t7\t8\t" a{i}\tb{i}',
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "{i}\t7\t8\ta{i}\tb{i}",
        "101",
        [1, 0, 1],
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "9{i}\t1\t2\tq{i}\tr{i}\t{y}",
        "id\tquestion1\tquestion2",
        "{i}\tq{i}\tr{i}",
        "100",
        [1, 0, 0],
    ),
    "stsb": (
        _STSB + "\tscore",
        "{i}" + _STSB_ROW + "\t{y}",
        _STSB,
        "{i}" + _STSB_ROW,
        ["5.000", "0.250", "3"],
        [5.0, 0.25, 3.0],
    ),
    "mnli": (
        _MNLI + "\tlabel1\tgold_label",
        "{i}" + _MNLI_ROW + "\tneutral\t{y}",
        _MNLI,
        "{i}" + _MNLI_ROW,
        ["contradiction", "entailment", "neutral"],
        [2, 0, 1],
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        "{i}\tq{i}\ts{i}\t{y}",
        "index\tquestion\tsentence",
        "{i}\tq{i}\ts{i}",
        ["not_entailment", "entailment", "entailment"],
        [1, 0, 0],
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "{i}\ta{i}\tb{i}\t{y}",
        "index\tsentence1\tsentence2",
        "{i}\ta{i}\tb{i}",
        ["entailment", "not_entailment", "entailment"],
        [0, 1, 0],
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel",
        "{i}\ta{i}\tb{i}\t{y}",
        "index\tsentence1\tsentence2",
        "{i}\ta{i}\tb{i}",
        "101",
        [1, 0, 1],
    ),
}


def official_folder(config: str, folder: Path) -> tuple[Task, Path]:
    """Writes a three-row official folder of one task."""
    task = get_task(f"glue/{config}")
    header, row, test_header, test_row, spelled, _ = LAYOUTS[config]
    folder.mkdir()
    for split in task.splits:
        top, line = (test_header, test_row) if split in task.test else (header, row)
        lines = [line.format(i=i, y=y) for i, y in enumerate(spelled)]
        text = "\n".join([*([top] if top else []), *lines]) + "\n"
        (folder / official_file(split)).write_text(text, encoding="utf-8")
    return task, folder


@pytest.fixture
def sst2(tmp_path: Path) -> tuple[Task, Path]:
    return official_folder("sst2", tmp_path / "SST-2")


@pytest.mark.parametrize("config", LAYOUTS)
def test_an_imported_task_is_read_by_plain_tfds_and_by_load(config: str, tmp_path: Path):
    task, source = official_folder(config, tmp_path / "source")
    expected = LAYOUTS[config][-1]
    placed = import_folder(task, source, tmp_path / "tfds")
    assert placed == tmp_path / "tfds" / "glue" / config / "2.0.0"
    for split in task.splits:
        rows: Any = tfds.data_source(task.name, split=split, data_dir=tmp_path / "tfds")
        hidden = split in task.test
        assert [row["label"] for row in rows] == ([-1] * 3 if hidden else expected)
        examples = load(task, split, tmp_path / "tfds")
        assert examples.idx.tolist() == [0, 1, 2]
        for column, texts in zip(task.text, examples.texts, strict=True):
            assert texts == [row[column].decode() for row in rows]
            assert [text.strip(' "')[1:] for text in texts] == ["0", "1", "2"]
        assert (examples.labels is None) == hidden
        if examples.labels is not None:
            assert examples.labels.tolist() == expected
            assert examples.labels.dtype == (np.float32 if task.regression else np.int32)


def test_the_default_folder_serves_a_process_that_knows_only_tfds(sst2, tmp_path: Path):
    task, source = sst2
    env = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "home")}
    importing = (
        "from effjax.data import get_task, import_folder;"
        f"print(import_folder(get_task('{task.name}'), {str(source)!r}))"
    )
    reading = (
        "import sys, tensorflow_datasets as tfds;"
        "rows = tfds.data_source('glue/sst2', split='train');"
        "print(len(rows), rows[1]['label'], 'tensorflow' in sys.modules)"
    )
    for code, out in ((importing, "2.0.0"), (reading, "3 0 False")):
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip().endswith(out), done.stderr


def test_importing_again_is_fine_and_other_content_is_refused(sst2, tmp_path: Path):
    task, source = sst2
    placed = import_folder(task, source, tmp_path / "tfds")
    written = {path: path.stat().st_mtime_ns for path in placed.iterdir()}
    assert import_folder(task, source, tmp_path / "tfds") == placed
    assert {path: path.stat().st_mtime_ns for path in placed.iterdir()} == written
    (source / "dev.tsv").write_text("sentence\tlabel\nanother \t1\n")
    with pytest.raises(ValueError, match=r"glue/sst2/2\.0\.0 exists with other rows in 'valid"):
        import_folder(task, source, tmp_path / "tfds")
    assert load(task, "validation", tmp_path / "tfds").texts == (["s0 ", "s1 ", "s2 "],)


@pytest.mark.parametrize(
    ("config", "file", "content", "message"),
    [
        ("sst2", "dev.tsv", "sentence\tlabel\na\t1\nb\t2\n", r"dev\.tsv:3: label is '2'; .* 0, 1"),
        ("sst2", "train.tsv", "sentence\tlabel\nno label\n", r"train\.tsv:2: 1 columns, needs at"),
        (
            "sst2",
            "train.tsv",
            "text\tlabel\na\t1\n",
            r"train\.tsv:1: no column 'sentence'; .*'text'",
        ),
        ("sst2", "test.tsv", "", r"test\.tsv:1: no column 'sentence'; the header has nothing"),
        ("cola", "train.tsv", "gj04\t1\t\n", r"train\.tsv:1: 3 columns, needs at least 4"),
        ("stsb", "dev.tsv", f"{_STSB}\tscore\n0{_STSB_ROW}\t5.1\n", r"dev\.tsv:2: score is '5\.1'"),
        ("stsb", "dev.tsv", f"{_STSB}\tscore\n0{_STSB_ROW}\tnan\n", r"a number 0\.0 to 5\.0"),
        ("rte", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n", "label is '1'"),
        ("wnli", "test.tsv", "index\tsentence1\tsentence2\n0\ta\n", r"test\.tsv:2: 2 columns"),
    ],
)
def test_a_bad_row_is_one_line_and_leaves_nothing(config, file, content, message, tmp_path: Path):
    task, source = official_folder(config, tmp_path / "source")
    (source / file).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        import_folder(task, source, tmp_path / "tfds")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_skipped_rows_leave_gaps_in_the_official_numbers(sst2, tmp_path: Path):
    task, source = sst2
    (source / "train.tsv").write_text("sentence\tlabel\na\t1\n\t1\nb\t5\nc\t0\n")
    bad = BadRows("skip")
    import_folder(task, source, tmp_path / "tfds", bad)
    assert bad.counts == {"empty text": 1, "unknown label": 1}
    rows: Any = tfds.data_source("glue/sst2", split="train", data_dir=tmp_path / "tfds")
    assert sorted(row["idx"] for row in rows) == [0, 3]
    examples = load(task, "train", tmp_path / "tfds")
    assert examples.texts == (["a", "c"],) and examples.idx.tolist() == [0, 3]
    import_folder(task, source, tmp_path / "tfds", BadRows("skip"))  # the same: nothing to refuse


def test_the_command_stops_at_a_bad_row_or_counts_what_it_skips(
    sst2, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, source = sst2
    (source / "train.tsv").write_text("sentence\tlabel\na\t1\n\t1\n \t0\nb\t5\n")
    command = ["data", "import", "glue/sst2", "--source", str(source)]
    command += ["--data-dir", str(tmp_path / "tfds")]
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"effjax: error: {source / 'train.tsv'}:3: sentence is empty\n"
    )
    assert main([*command, "--on-bad", "stop"]) == 2 and not (tmp_path / "tfds").exists()
    capsys.readouterr()
    place = tmp_path / "tfds" / "glue" / "sst2" / "2.0.0"
    assert main([*command, "--on-bad", "skip"]) == 0
    assert capsys.readouterr().out == (
        f"glue/sst2: in {place}; 3 rows skipped: 2 empty text, 1 unknown label\n"
    )
    (source / "test.tsv").write_text("index\tsentence\n0\t \n")
    assert main([*command, "--on-bad", "skip"]) == 2
    assert "test.tsv:2: sentence is empty; rows of a test file are" in capsys.readouterr().err


def test_a_command_without_bad_rows_says_so(
    sst2, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    command = ["data", "import", "glue/sst2", "--source", str(sst2[1])]
    command += ["--data-dir", str(tmp_path / "tfds")]
    assert main(command) == 0 and capsys.readouterr().out.endswith("2.0.0\n")
    assert main([*command, "--on-bad", "skip"]) == 0
    assert capsys.readouterr().out.endswith("2.0.0; 0 rows skipped\n")


def test_a_byte_order_mark_and_quotes_are_read_as_glue_means_them(tmp_path: Path):
    task, source = official_folder("mrpc", tmp_path / "source")
    plain = (source / "train.tsv").read_bytes()
    (source / "train.tsv").write_bytes(b"\xef\xbb\xbf" + plain)
    import_folder(task, source, tmp_path / "tfds")
    assert load(task, "train", tmp_path / "tfds").texts[0] == ['" a0', '" a1', '" a2']


def test_missing_files_are_named_together(sst2, tmp_path: Path):
    task, source = sst2
    (source / "dev.tsv").unlink()
    (source / "test.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no dev\.tsv, test\.tsv; glue/sst2 needs train"):
        import_folder(task, source, tmp_path / "tfds")
    with pytest.raises(FileNotFoundError, match="nowhere: no train"):
        import_folder(task, tmp_path / "nowhere", tmp_path / "tfds")


def test_a_write_that_fails_leaves_no_dataset(sst2, tmp_path: Path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(tfds.core.SequentialWriter, "close_all", full_disk)
    task, source = sst2
    with pytest.raises(OSError, match="no space left"):
        import_folder(task, source, tmp_path / "tfds")
    assert list((tmp_path / "tfds").iterdir()) == []


def _no_network(*_, **__):
    raise urllib.error.URLError("no route to host")


def test_a_dataset_that_is_nowhere_says_how_to_import_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", _no_network)
    with pytest.raises(FileNotFoundError) as caught:
        load(get_task("glue/rte"), "train", tmp_path / "tfds")
    line = str(caught.value)
    assert "effjax data import glue/rte --source FOLDER" in line and "no route to host" in line
    assert "\n" not in line and not (tmp_path / "tfds").exists()


def test_where_the_host_answers_tfds_downloads_and_prepares(sst2, tmp_path: Path, monkeypatch):
    """TFDS's own preparation, with only its download replaced, gives what the import gives."""
    task, source = sst2
    answer = io.StringIO()  # all that is done with it is to close it
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: answer)
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda *_: str(source.parent)
    )
    downloaded = load(task, "train", tmp_path / "downloaded")
    assert downloaded.texts == (["s0 ", "s1 ", "s2 "],)
    assert downloaded.labels is not None and downloaded.labels.tolist() == [1, 0, 1]
    import_folder(task, source, tmp_path / "downloaded")  # the same rows: nothing to refuse
    assert answer.closed


def test_a_broken_dataset_on_disk_is_one_line(sst2, tmp_path: Path):
    task, source = sst2
    placed = import_folder(task, source, tmp_path / "tfds")
    next(placed.glob("*train*")).unlink()
    with pytest.raises(ValueError, match=r"2\.0\.0: split 'train' cannot be read"):
        load(task, "train", tmp_path / "tfds")
    (placed / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"glue/sst2 in .* cannot be opened by TFDS"):
        load(task, "train", tmp_path / "tfds")


def test_generated_tasks_are_loaded_and_not_imported(tmp_path: Path):
    task = get_task("toy/sentiment")
    examples = load(task, "validation")
    assert examples.labels is not None and set(examples.labels.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="toy/sentiment is generated"):
        import_folder(task, tmp_path)


@pytest.mark.skipif("EFFJAX_ASSETS" not in os.environ, reason="EFFJAX_ASSETS is not set")
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("glue/sst2", (67349, 872, 1821)),
        ("glue/mrpc", (3668, 408, 1725)),
        ("glue/cola", (8551, 1043, 1063)),
        ("glue/stsb", (5749, 1500, 1379)),
    ],
)
def test_the_real_folders(name: str, rows: tuple[int, ...], tmp_path: Path):
    task = get_task(name)
    source = Path(os.environ["EFFJAX_ASSETS"], "data", "glue", task.title)
    import_folder(task, source, tmp_path)
    loaded = [load(task, split, tmp_path) for split in task.splits]
    assert tuple(len(examples) for examples in loaded) == rows
    text = (source / "train.tsv").read_text(encoding="utf-8")
    assert all(first in text for first in (column[0] for column in loaded[0].texts))
