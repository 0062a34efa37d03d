"""Official scores, rule by rule, worked out by hand from the official scripts."""

from pathlib import Path

import pytest

from effjax.data.spans import Predictions
from effjax.data.squad import Golds, Questions, read_official
from effjax.data.squad_metrics import evaluate_squad, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat,\n an Owl and a dog.", "cat owl and dog"),
        ("Theatre of another age", "theatre of another age"),  # articles are whole words
        ("a-b", "ab"),  # punctuation goes first and leaves no blank
        ("a - b", "b"),
        ("U.S.A.", "usa"),
        ("$3.50%", "350"),
        ("1914–18", "1914–18"),  # only ASCII punctuation goes
        ("the Éa", "éa"),
        ("a\u00a0b", "b"),  # any blank separates
        ("The.", ""),
    ],
)
def test_normalisation(text: str, normal: str):
    assert normalise(text) == normal


def test_the_best_gold_counts():
    golds = ["Denver Broncos", "The Broncos of Denver"]
    assert exact_match("the denver broncos!", golds) == 1.0
    assert exact_match("Broncos", golds) == 0.0
    # One word of one against two gold words: 2 * 1 * 0.5 / 1.5; against three: 2 * 1 * 1/3 / (4/3).
    assert f1("Broncos", golds) == pytest.approx(2 / 3)
    assert f1("Broncos", golds[1:]) == pytest.approx(1 / 2)
    assert f1("Seattle", golds) == 0.0


def test_words_count_with_their_repetition():
    # Two "b" match two of three: precision 2/3, recall 2/2.
    assert f1("b b b", ["b b"]) == pytest.approx(2 * (2 / 3) / (5 / 3))


def test_only_an_empty_gold_means_no_answer():
    assert (f1("", [""]), f1("the", [""]), f1("cat", [""])) == (1.0, 1.0, 0.0)
    assert (exact_match("", [""]), exact_match("cat", [""])) == (1.0, 0.0)
    assert (f1("", ["cat"]), exact_match("", ["cat"])) == (0.0, 0.0)
    # evaluate-v1.1.py: equal strings, but no word in common.
    assert (exact_match("the", ["."]), f1("the", ["."])) == (1.0, 0.0)


def _questions(*answers: tuple[str, ...], version_2: bool = False) -> Questions:
    n = len(answers)
    golds: list[Golds] = [tuple((text, 0) for text in texts) for texts in answers]
    ids = [f"q{i}" for i in range(n)]
    plausible: list[Golds] | None = [()] * n if version_2 else None
    return Questions(ids, ["?"] * n, ["."] * n, golds, [""] * n, plausible)


def _predictions(*texts: str, differences: tuple[float, ...] | None = None) -> Predictions:
    known = None if differences is None else {f"q{i}": d for i, d in enumerate(differences)}
    return Predictions({f"q{i}": text for i, text in enumerate(texts)}, known)


def test_version_1_scores_are_means_from_0_to_1():
    questions = _questions(("cat",), ("black cat", "dog"), ("owl", "."))
    scores = evaluate_squad(questions, _predictions("The cat", "cat", ""))
    # The last: "" equals the normalised ".", and shares no word with it.
    assert scores == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx((1 + 2 / 3) / 3)}


def test_version_2_drops_golds_that_normalise_to_nothing_and_reports_both_parts():
    questions = _questions(("owl", "."), (".",), (), (), ("black cat",), version_2=True)
    scores = evaluate_squad(questions, _predictions("", "", "", "dog", "cat"))
    # "." does not count: wrong for the first; the second is left with "" alone.
    assert scores == {
        "exact_match": pytest.approx(2 / 5),
        "f1": pytest.approx((2 + 2 / 3) / 5),
        "has_answer_exact_match": pytest.approx(1 / 3),
        "has_answer_f1": pytest.approx((1 + 2 / 3) / 3),
        "no_answer_exact_match": pytest.approx(1 / 2),
        "no_answer_f1": pytest.approx(1 / 2),
    }


def test_a_part_without_questions_has_no_score():
    scores = evaluate_squad(_questions(("cat",), version_2=True), _predictions("cat"))
    assert set(scores) == {"exact_match", "f1", "has_answer_exact_match", "has_answer_f1"}


def test_the_best_threshold_answers_as_long_as_it_pays():
    questions = _questions(("cat",), (), ("black cat",), (), ("owl",), version_2=True)
    texts = ("cat", "dog", "cat", "dog", "mouse")
    # Surest first: q0 +1, q2 +2/3, q1 -1, q4 +0, q3 -1, from 2 right by silence.
    differences = (-5.0, 1.5, -2.0, 9.0, 4.0)
    scores = evaluate_squad(questions, _predictions(*texts, differences=differences))
    assert scores["best_f1"] == pytest.approx((2 + 1 + 2 / 3) / 5)
    assert scores["best_threshold"] == -2.0
    assert scores["f1"] == pytest.approx((1 + 2 / 3) / 5)  # texts are taken as they are
    silent = ("cat", "", "cat", "", "mouse")  # "" costs nothing where there is no answer
    scores = evaluate_squad(questions, _predictions(*silent, differences=(-5.0, -4, 3, 2, 1)))
    assert (scores["best_f1"], scores["best_threshold"]) == (pytest.approx(11 / 15), 3.0)


def test_the_threshold_is_zero_where_no_answer_is_best():
    questions = _questions((), ("cat",), version_2=True)
    scores = evaluate_squad(questions, _predictions("x", "x", differences=(-3.0, -2.0)))
    assert (scores["best_f1"], scores["best_threshold"]) == (0.5, 0.0)


def test_every_question_needs_a_prediction():
    questions = _questions(("cat",), ("dog",), version_2=True)
    with pytest.raises(ValueError, match="no prediction for 1 of 2 questions; the first is 'q1'"):
        evaluate_squad(questions, _predictions("cat"))
    with pytest.raises(ValueError, match="no null difference for 1 of 2 questions"):
        evaluate_squad(questions, _predictions("cat", "dog", differences=(0.0,)))
    with pytest.raises(ValueError, match="no questions"):
        evaluate_squad(questions.take([]), _predictions())


def test_a_gold_as_prediction_is_right_for_all_of_the_real_dev_set(assets: Path):
    dev = read_official(assets / "data" / "squad" / "dev-v1.1.json")
    texts = {id_: golds[0][0] for id_, golds in zip(dev.ids, dev.answers, strict=True)}
    assert evaluate_squad(dev, Predictions(texts)) == {"exact_match": 1.0, "f1": 1.0}
    nothing = dict.fromkeys(texts, "")
    # Three questions have the gold ".", which "" equals; evaluate-v1.1.py says the same.
    assert evaluate_squad(dev, Predictions(nothing)) == {"exact_match": 3 / 10_570, "f1": 0.0}
