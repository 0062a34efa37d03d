"""The commands that take a model folder, on a tiny model that is made here."""

import importlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from effjax import cache
from effjax.cli import main
from effjax.commands.torch_speed import torch_speed
from effjax.data.squad import Questions
from effjax.data.wordpiece import train_wordpiece
from effjax.files import write_json
from effjax.hf import (
    SentenceEncoder,
    from_pretrained,
    layout_of,
    load_tokenizer,
    read,
    read_sentence_encoder,
    save_pretrained,
    save_sentence_encoder,
)
from effjax.measure import cost
from effjax.models.base import Runtime
from effjax.models.model import create
from effjax.prune import shrink
from effjax.tree import flatten

FOLDERS = ("same", "dense", "less")
TEXTS = ["the film is good", "the film is not good", "a bad film , but a good end"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT for sequence classification with its tokenizer, as a Hugging Face folder."""
    tokenizer = train_wordpiece(TEXTS, 100)
    model = create(
        "bert",
        size="tiny",
        key=jax.random.key(0),
        head="sequence-classification",
        runtime=Runtime.plain(),
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
    )
    target = tmp_path_factory.mktemp("cli") / "model"
    save_pretrained(model, target, tokenizer=tokenizer)
    return target


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "enable", lambda: None)


def test_predict_writes_a_line_per_line_of_text(folder: Path) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    assert main(["predict", str(folder), "in.txt", "--out", "out.tsv"]) == 0
    lines = [line.split("\t") for line in Path("out.tsv").read_text().splitlines()]
    assert len(lines) == len(TEXTS)
    assert all(name.startswith("LABEL_") and 0.5 <= float(p) <= 1 for name, p in lines)


def test_predict_answers_every_line_at_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A separator, form feed, next-line character or lone return is a part of its line."""
    first, second, third = TEXTS
    odd = first.replace(" film", "\u2028film\f\x85\r")
    rows = [
        odd.encode(),
        b"",
        b"the \xff film",
        second.encode() + b"\r",
        b"a \0 byte",
        third.encode(),
    ]
    Path("in.txt").write_bytes(b"\n".join(rows) + b"\n\n")
    command = ["predict", str(folder), "in.txt", "--out", "out.tsv"]
    assert main(command) == 2
    assert "in.txt:2: the line is empty" in capsys.readouterr().err and not Path("out.tsv").exists()
    assert main([*command, "--on-bad", "skip"]) == 0
    reasons = "skipped 4 of 7 lines of in.txt: 2 empty text, 1 not UTF-8, 1 NUL byte; the first: in"
    assert reasons in caplog.text
    found = Path("out.tsv").read_text().split("\n")
    Path("in.txt").write_text("\n".join(TEXTS))
    assert main(command) == 0
    one, two, three, end = Path("out.tsv").read_text().split("\n")
    assert found == [one, "", "", two, "", three, "", end]


def test_predict_refuses_a_head_that_does_not_answer_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    assert main(["convert", str(folder), "tagger", "--head", "token-classification"]) == 0
    assert main(["predict", "tagger", "in.txt", "--out", "out.tsv"]) == 2
    assert "this model has 'token-classification'" in capsys.readouterr().err
    assert not Path("out.tsv").exists()


def test_answers_are_written_as_the_official_scripts_read_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = "the film is not good , but a good end"
    asked = Questions(["a", "b"], ["is it good", "the end"], [context] * 2, [(), ()], ["T"] * 2)
    asked = replace(asked, plausible=[(), ()])
    monkeypatch.setattr("effjax.data.datasets.load", lambda task, split, data_dir: asked)
    assert main(["convert", str(folder), "reader", "--head", "question-answering"]) == 0
    assert main(["predict", "reader", "--task", "squad/v2.0", "--out", "answers"]) == 0
    found, odds = (
        json.loads(Path(f"answers/{name}.json").read_text())
        for name in ("predictions", "null_odds")
    )
    assert list(found) == list(odds) == ["a", "b"]
    for name, text in found.items():
        assert (text == "") == (odds[name] > 0) and text in context
    assert main(["predict", str(folder), "--task", "squad/v2.0", "--out", "answers"]) == 2
    assert "head 'sequence-classification'; squad/v2.0 wants" in capsys.readouterr().err


def test_predict_refuses_an_empty_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.txt").touch()
    assert main(["predict", str(folder), "in.txt"]) == 2
    assert "in.txt: no lines" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["in.txt"]


def test_loading_initialises_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object, **more: object) -> None:
        raise AssertionError("arrays were initialised")

    monkeypatch.setattr("flax.linen.Module.init", never)
    monkeypatch.setattr(importlib.import_module("effjax.hf.read"), "init_row", never)
    assert from_pretrained(folder).num_params
    with pytest.raises(AssertionError, match="arrays were initialised"):
        from_pretrained(folder, head="masked-lm")


def test_evaluate_prints_the_metric_the_number_and_an_interval_and_keeps_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(folder), "--task", "toy/sentiment", "--batch-size", "64"]
    assert main([*command, "--out", str(tmp_path / "found.json")]) == 0
    shown = capsys.readouterr().out
    accuracy, n, interval = shown.splitlines()
    assert accuracy.startswith("accuracy  0.") and n.startswith("n  1000 ")
    low, high = (float(word) for word in interval.split()[-3::2])
    assert low < float(accuracy.split()[1]) < high
    kept = json.loads((tmp_path / "found.json").read_text())
    assert f"{kept['metrics']['accuracy']:.4f}" == accuracy.split()[1]
    assert kept["n"] == 1000 and kept["recipe"]["folder"] == str(folder)
    assert {"commit", "machine", "effjax", "wall_seconds"} <= kept.keys()


def test_evaluate_refuses_a_model_of_another_task(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from effjax.data import tasks

    task = tasks.Task(
        name="toy/three",
        title="three",
        text=("sentence",),
        labels=("a", "b", "c"),
        metrics=("accuracy",),
        source="generated",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "toy/three", task)
        assert main(["evaluate", str(folder), "--task", "toy/three"]) == 2
    said = "has the labels LABEL_0, LABEL_1; toy/three has a, b, c, in this order"
    assert said in capsys.readouterr().err


def test_evaluate_and_predict_refuse_labels_in_another_order(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the task has, which would be scored as if they were its own."""
    shutil.copytree(folder, "swapped")
    config = json.loads((folder / "config.json").read_text())
    names = {"id2label": {"0": "Positive", "1": "Negative"}}
    write_json("swapped/config.json", config | names)
    monkeypatch.setattr("effjax.data.submission.check_leaderboard", lambda task: None)
    said = "has the labels Positive, Negative; toy/sentiment has negative, positive, in this order"
    for command in ("evaluate", "predict"):
        assert main([command, "swapped", "--task", "toy/sentiment"]) == 2
        assert said in capsys.readouterr().err


def test_similarity_is_evaluated_with_the_pooling_of_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ["the film", "good", "a bad end"], ["a film", "not bad", "the film"]
    golds = [4.0, 3.0, 0.5]
    rows = [f"{a}\t{b}\t{score}" for a, b, score in zip(first, second, golds, strict=True)]
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        Path(name).write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    assert main(["data", "import", "similarity/stsb", "--source", ".", "--data-dir", "tfds"]) == 0
    assert Path("tfds/glue/stsb").is_dir()
    tokenizer, bare = load_tokenizer(folder), from_pretrained(folder, head=None)
    largest = SentenceEncoder(bare, "max")
    save_sentence_encoder(largest, "max", tokenizer=tokenizer)
    pearson = {}
    for source, encoder in ((str(folder), SentenceEncoder(bare)), ("./max", largest)):
        capsys.readouterr()
        assert main(["evaluate", source, "--task", "similarity/stsb", "--data-dir", "tfds"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        vectors = encoder.encode(tokenizer, first + second)
        expected = np.corrcoef(np.sum(vectors[:3] * vectors[3:], axis=1), golds)[0, 1]
        assert [name for name, *_ in lines] == ["spearman", "pearson", "n"]
        assert float(lines[1][1]) == pytest.approx(expected, abs=1e-4)
        pearson[source] = lines[1][1]
    assert len(set(pearson.values())) == 2


def test_convert_keeps_weights_and_tokenizer_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    assert main(["convert", str(folder), "out", "--shard-size", "5000"]) == 0
    assert len(list(Path("out").glob("*.safetensors"))) > 1
    before, after = flatten(read(folder)[0].params), flatten(read(tmp_path / "out")[0].params)
    assert before.keys() == after.keys()
    assert all((before[path] == after[path]).all() for path in before)
    assert (folder / "tokenizer.json").read_text() == Path("out/tokenizer.json").read_text()


def test_convert_changes_the_head(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["convert", str(folder), "bare", "--head", "none"]) == 0
    assert read("./bare")[0].config.head is None
    with caplog.at_level(logging.WARNING, "effjax"):
        assert main(["convert", str(folder), "lm", "--head", "masked-lm"]) == 0
    assert "head" in caplog.text
    assert read("./lm")[0].config.head == "masked-lm"


def test_convert_writes_pruned_models_in_every_layout(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was, padded with zeros and small again, or refused with the layouts that there are."""
    small = shrink(from_pretrained(folder), {"layer_0/heads": np.array([1])})
    save_pretrained(small, "pruned", tokenizer=load_tokenizer(folder), layout="compact")
    assert main(["convert", "./pruned", "same"]) == 0
    assert main(["convert", "./pruned", "dense", "--layout", "dense"]) == 0
    Path("t.txt").write_text("the film\n")
    assert main(["prune", "vocabulary", "./pruned", "--texts", "t.txt", "--out", "less"]) == 0
    layers = [[layer.heads for layer in read(f"./{x}")[0].config.layers] for x in FOLDERS]
    assert layers == [[1, 2], [2, 2], [1, 2]]
    assert [layout_of(x) for x in FOLDERS] == ["compact", "stock", "compact"]
    capsys.readouterr()
    assert main(["convert", "./pruned", "stock", "--layout", "stock"]) == 2
    error = capsys.readouterr().err
    assert "which the layout 'dense' makes of them; this model has layer 0: 1 heads" in error


def test_convert_leaves_an_existing_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/precious").touch()
    assert main(["convert", str(folder), "out"]) == 2
    assert "out" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["precious"]


def test_measure_compares_two_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(folder), "other"]) == 0
    capsys.readouterr()
    assert main(["measure", str(folder), "./other", "--batch", "2", "--length", "16"]) == 0
    shown = capsys.readouterr().out
    assert "parameters" in shown and "at the peak" in shown
    assert f"times as fast as {folder}" in shown


@pytest.mark.slow
def test_measure_makes_a_latency_table(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EFFJAX_CACHE", str(tmp_path / "cache"))  # a new table
    shapes = ["--batch", "1", "2", "--length", "8", "--table"]
    assert main(["measure", str(folder), *shapes]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  layer_0/heads, ms by size: 0: 0.00, ") == 2
    for shape in ("1 x 8", "2 x 8"):
        assert printed.count(f" ms for {shape} tokens") == 2  # of the whole, and of the table


def test_verify_passes_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "BertForSequenceClassification" in printed
    assert f"{from_pretrained(folder).num_params:,} parameters in torch, " in printed
    report = SimpleNamespace(ok=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("effjax.hf.verify", lambda folder: report)
        main(["verify", str(folder)])
    assert ended.value.code == 1


def test_verify_tells_the_speed_in_torch(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a smaller model, and that it does not read so much."""
    whole = from_pretrained(folder)
    with pytest.raises(ValueError, match=f"reads {whole.config.max_length} tokens; its speed"):
        torch_speed(folder, length=whole.config.max_length + 1)
    small = shrink(whole, {"layer_0/ffn": np.arange(1)})
    save_pretrained(small, tmp_path / "small", layout="compact")
    assert main(["verify", str(tmp_path / "small"), "--speed"]) == 0
    flops = [cost(x, batch=8, length=128).product_flops for x in (whole, small)]
    fewer = f"with {flops[0] / flops[1]:.2f} times fewer FLOPs"
    assert flops[0] > flops[1] and fewer in capsys.readouterr().out


def test_prune_removes_the_tokens_that_texts_do_not_need(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("texts.txt").write_text("the film\nnot good\n")
    whole = from_pretrained(folder, head=None)
    tokenizer = load_tokenizer(folder)
    save_sentence_encoder(SentenceEncoder(whole, "max"), "sentences", tokenizer=tokenizer)
    for source in (str(folder), "./sentences"):
        out = f"{Path(source).name}-small"
        command = ["prune", "vocabulary", source, "--texts", "texts.txt", "--out", out]
        assert main(command) == 0
        small = read_sentence_encoder(out)
        smaller, kept = load_tokenizer(out), small.model.config.vocab_size
        shown = capsys.readouterr().out
        assert f"{out}: {kept} of {len(tokenizer)} tokens, " in shown
        assert kept == len(smaller) < len(tokenizer)
        ours = SentenceEncoder(small.model).encode(smaller, ["not good"])
        theirs = SentenceEncoder(whole).encode(tokenizer, ["not good"])
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert small.pooling == "max"
    assert from_pretrained("model-small").config.head == "sequence-classification"
    assert main([*command, "--at-least", "2"]) == 2
    assert "sentences-small" in capsys.readouterr().err
    Path("texts.txt").write_text("the film\n\0\nnot good\n")
    assert main([*command[:-1], "skipped"]) == 2
    assert "texts.txt:2: the document has a NUL byte" in capsys.readouterr().err
    assert not Path("skipped").exists()
    assert main([*command[:-1], "skipped", "--on-bad", "skip"]) == 0
    assert f"skipped: {kept} of " in capsys.readouterr().out


def test_a_folder_that_is_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for command in (["convert", "./empty", "out"], ["measure", "./empty"], ["verify", "./empty"]):
        assert main(command) == 2
        assert "config.json" in capsys.readouterr().err
    assert not Path("out").exists()
