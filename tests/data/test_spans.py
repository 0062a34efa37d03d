"""Windows equal the tokenizer's own, labels find the answer again, answers equal a plain search."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

from effjax.data.batches import eval_batches
from effjax.data.spans import Windows, answers, windows
from effjax.data.squad import Golds, Questions, read_official
from effjax.data.squad_metrics import evaluate_squad, f1

CONTEXT = "the cat sat on the mat and the dog lay by the door of the old house"
ASKED = ("who sat", "who lay by the door", "where is the owl")
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*CONTEXT.split(), "who", "where"})]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizer:
    vocab: Path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    vocab.write_text("\n".join(VOCAB) + "\n")
    return BertTokenizer(str(vocab))


@pytest.fixture(scope="module")
def bytes_alone() -> PreTrainedTokenizerFast:
    """RoBERTa's kind, one token per byte: two separators, no token types, split characters."""
    pieces = ["<s>", "<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
    )


def _questions(golds: list[str | None], context: str = CONTEXT, asked=ASKED) -> Questions:
    """Question i has the answer golds[i]; None is a question that the context does not answer."""
    n = len(golds)
    found: list[Golds] = [() if gold is None else ((gold, context.index(gold)),) for gold in golds]
    empty: list[Golds] = [()] * n
    return Questions(
        [f"q{i}" for i in range(n)], [*asked[:n]], [context] * n, found, [""] * n, empty
    )


THREE = _questions(["the cat", "dog", None])


def _row(made: Windows, i: int) -> slice:
    return slice(int(made.offsets[i]), int(made.offsets[i + 1]))


def _text(made: Windows, questions: Questions, i: int) -> str:
    """What the label of window i says."""
    spans, (first, last) = made.spans[_row(made, i)], made.labels[i]  # pyright: ignore[reportOptionalSubscript]
    return questions.contexts[made.question[i]][spans[first, 0] : spans[last, 1]]


@pytest.mark.parametrize(("max_length", "stride"), [(64, 8), (14, 0), (16, 5)])
def test_windows_are_what_the_tokenizer_gives_question_by_question(wordpiece, max_length, stride):
    made = windows(wordpiece, THREE, max_length=max_length, stride=stride)
    at = 0
    for q, (asked, context) in enumerate(zip(THREE.questions, THREE.contexts, strict=True)):
        alone = wordpiece(
            [asked],
            [context],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for i, ids in enumerate(alone["input_ids"]):
            row = _row(made, at)
            assert made.question[at] == q and made.idx[at] == at
            assert made.input_ids[row].tolist() == ids
            assert made.token_type_ids[row].tolist() == alone["token_type_ids"][i]
            inside = [part == 1 for part in alone.sequence_ids(i)]
            offsets = zip(alone["offset_mapping"][i], inside, strict=True)
            assert made.spans[row].tolist() == [[*o] if here else [-1, -1] for o, here in offsets]
            at += 1
    assert at == len(made) and made.offsets[-1] == len(made.input_ids)
    assert made.input_ids.dtype == made.spans.dtype == made.question.dtype == np.int32
    assert made.offsets.dtype == np.int64


def test_many_questions_are_tokenised_in_pieces_that_join(wordpiece, monkeypatch):
    whole = windows(wordpiece, THREE, max_length=16, stride=5)
    monkeypatch.setattr("effjax.data.spans._CHUNK", 2)
    pieces = windows(wordpiece, THREE, max_length=16, stride=5)
    for field in fields(Windows):
        assert np.array_equal(getattr(whole, field.name), getattr(pieces, field.name)), field.name


def test_a_window_is_labelled_where_it_holds_the_whole_answer(wordpiece):
    questions = _questions(["sat on the mat"])
    made = windows(wordpiece, questions, max_length=11, stride=2)
    assert made.labels is not None and made.labels.dtype == np.int32
    # [CLS] who sat [SEP], six words of context, [SEP]; each window begins four words on.
    assert made.labels.tolist() == [[6, 9], [0, 0], [0, 0], [0, 0]]
    assert _text(made, questions, 0) == "sat on the mat"
    # An answer that the first window cuts is whole in the second.
    made = windows(wordpiece, _questions(["mat and"]), max_length=11, stride=2)
    assert made.labels is not None and made.labels.tolist() == [[0, 0], [5, 6], [0, 0], [0, 0]]


def test_an_answer_at_either_end_of_a_window_and_none_at_all(wordpiece):
    questions = _questions(["the cat", "old house", None])
    made = windows(wordpiece, questions, max_length=64, stride=8)
    assert made.labels is not None and made.labels[2].tolist() == [0, 0]
    assert [_text(made, questions, i) for i in (0, 1)] == ["the cat", "old house"]
    last = windows(wordpiece, _questions(["house"]), max_length=64, stride=8)
    assert last.labels is not None and last.labels.tolist() == [[20, 20]]  # before [SEP]


@pytest.mark.parametrize(
    ("gold", "labelled"), [("at on", "sat on"), (" cat ", "cat"), ("a", "cat"), ("t s", "cat sat")]
)
def test_labels_cover_parts_of_words_and_leave_blanks(wordpiece, gold, labelled):
    questions = _questions([gold])
    assert _text(windows(wordpiece, questions, stride=8), questions, 0) == labelled


def test_a_tokenizer_without_token_types_and_with_split_characters(bytes_alone):
    context = "the river 日本 flows é past"
    questions = _questions(["日本", "日", "é"], context=context, asked=(" who", "a", "b"))
    made = windows(bytes_alone, questions, max_length=64, stride=8)
    assert not made.token_type_ids.any()
    assert [_text(made, questions, i) for i in range(3)] == ["日本", "日", "é"]
    assert made.labels is not None and np.all(made.labels[:, 0] < made.labels[:, 1])
    first = made.input_ids[_row(made, 0)]
    assert first.tolist() == bytes_alone(["who"], [context])["input_ids"][0]  # no blank before it


def test_windows_feed_batches(wordpiece):
    made = windows(wordpiece, THREE, max_length=14, stride=2)
    for batch in eval_batches(made, 4, pad_id=0):
        assert made.labels is not None
        spans = np.stack([batch["start_positions"], batch["end_positions"]], axis=1)
        assert np.array_equal(spans, made.labels[batch["example"]])


def test_what_cannot_be_windowed_is_refused(wordpiece):
    with pytest.raises(
        ValueError, match=r"'q1' has 5 tokens and leaves 4 .* stride is 4, .* 0 to 3"
    ):
        windows(wordpiece, THREE, max_length=12, stride=4)
    with pytest.raises(ValueError, match="stride is -1"):
        windows(wordpiece, THREE, stride=-1)
    with pytest.raises(ValueError, match="no questions"):
        windows(wordpiece, THREE.take([]))
    with pytest.raises(ValueError, match="object is no fast tokenizer"):
        windows(object(), THREE)


def _search(made, questions, start, end, n_best, most) -> tuple[dict[str, str], dict[str, float]]:
    """The definition, span by span: every pair of the n best starts and ends of every window."""
    texts, differences = {}, {}
    for q, id_ in enumerate(questions.ids):
        found, null = [], []
        for i in np.flatnonzero(made.question == q).tolist():
            s, e, spans = (values[_row(made, i)] for values in (start, end, made.spans))
            null.append(s[0] + e[0])
            starts, ends = (
                sorted(range(len(x)), key=lambda t, x=x: -x[t])[:n_best] for x in (s, e)
            )
            for a in starts:
                for b in ends:
                    if spans[a, 0] >= 0 and spans[b, 0] >= 0 and 0 <= b - a < most:
                        found.append(
                            (s[a] + e[b], questions.contexts[q][spans[a, 0] : spans[b, 1]])
                        )
        score, texts[id_] = max(found, key=lambda pair: pair[0], default=(0.0, ""))
        differences[id_] = min(null) - score
    return texts, differences


@pytest.mark.parametrize(("n_best", "most"), [(20, 30), (3, 30), (20, 2), (1, 1)])
def test_answers_equal_a_plain_search_over_all_windows(wordpiece, n_best, most):
    made = windows(wordpiece, THREE, max_length=16, stride=5)
    for seed in range(20):
        start, end = np.random.default_rng(seed).normal(size=(2, len(made.input_ids)))
        got = answers(made, THREE, start, end, n_best=n_best, max_answer_tokens=most)
        texts, differences = _search(made, THREE, start, end, n_best, most)
        assert got.texts == texts
        assert got.null_differences == pytest.approx(differences)


def _pointing(made: Windows, questions: Questions) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is sure of its labels."""
    assert made.labels is not None
    start, end = np.zeros((2, len(made.input_ids)), np.float32)
    start[made.offsets[:-1] + made.labels[:, 0]] = 9
    end[made.offsets[:-1] + made.labels[:, 1]] = 9
    return start, end


def test_no_answer_wins_only_where_every_window_wants_it(wordpiece):
    made = windows(wordpiece, THREE, max_length=16, stride=5)
    start, end = _pointing(made, THREE)
    got = answers(made, THREE, start, end, null_threshold=0.0)
    assert got.texts == {"q0": "the cat", "q1": "dog", "q2": ""}
    # Windows without the answer score 18 for [CLS]; q0 and q1 have one that scores 0 there.
    assert got.null_differences == {"q0": -18.0, "q1": -18.0, "q2": 18.0}
    assert answers(made, THREE, start, end, null_threshold=18.0).texts["q2"] != ""
    assert answers(made, THREE, start, end, null_threshold=-18.5).texts["q0"] == ""
    spoken = answers(made, THREE, start, end)
    assert all(spoken.texts.values())
    scores = evaluate_squad(THREE, spoken)
    assert (scores["best_f1"], scores["best_threshold"]) == (1.0, -18.0)


def test_a_question_without_a_valid_span_has_an_empty_answer(wordpiece):
    questions = THREE.take([0])
    made = windows(wordpiece, questions)
    start, end = np.zeros((2, len(made.input_ids)))
    start[1] = end[2] = 5.0  # the best start and end are in the question
    got = answers(made, questions, start, end, n_best=1)
    assert (got.texts, got.null_differences) == ({"q0": ""}, {"q0": 0.0})


def test_logits_must_be_one_finite_number_per_token(wordpiece):
    made = windows(wordpiece, THREE)
    zeros = np.zeros(len(made.input_ids))
    with pytest.raises(ValueError, match=r"end_logits \(3,\); needs"):
        answers(made, THREE, zeros, zeros[:3])
    with pytest.raises(ValueError, match=r"start_logits are not finite"):
        answers(made, THREE, np.where(np.arange(len(zeros)) == 4, np.nan, zeros), zeros)
    with pytest.raises(ValueError, match="windows of 3 questions, but 2 questions"):
        answers(made, THREE.take([0, 1]), zeros, zeros)


@pytest.mark.parametrize("file", ["dev-v1.1.json", "train-subset-4000.json"])
def test_real_answers_come_back_through_their_labels(assets: Path, file: str):
    """Of 200 questions over the file, all answers are in some window, and 99% are the same words.

    The rest begin or end inside a token. Of the whole dev set with windows of 384, 99.7% are.
    """
    tokenizer = BertTokenizer(str(assets / "vocab" / "bert-base-uncased-vocab.txt"))
    questions = read_official(assets / "data" / "squad" / file)
    questions = questions.take(np.linspace(0, len(questions) - 1, 200).astype(int))
    made = windows(tokenizer, questions, max_length=192, stride=64)
    assert made.labels is not None and len(made) > 230
    held = made.labels[:, 0] > 0
    assert len(set(made.question[held])) == 200
    golds = [[questions.answers[q][0][0]] for q in made.question]
    right = [f1(_text(made, questions, i), golds[i]) == 1 for i in np.flatnonzero(held).tolist()]
    assert np.mean(right) >= 0.99
    got = answers(made, questions, *_pointing(made, questions), max_answer_tokens=60)
    assert evaluate_squad(questions, got)["exact_match"] >= 0.99
