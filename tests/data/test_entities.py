"""Entity F1 equal to seqeval's and to values worked out by hand; IOB1 and IOB2 told apart."""

from typing import Any

import numpy as np
import pytest
from seqeval.metrics import sequence_labeling

from effjax.data.entities import beginnings, entity_f1, scheme, to_iob2

seqeval: Any = sequence_labeling  # its annotations are of other types than its defaults
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")


def _ids(*sentences: str) -> list[np.ndarray]:
    return [np.array([LABELS.index(t) for t in tags.split()], np.int32) for tags in sentences]


def test_scores_by_hand():
    gold = _ids("B-PER I-PER O B-LOC", "B-ORG O B-LOC", "O O")
    # PER too short, one LOC right, ORG taken for MISC, the second LOC missed, one LOC made up.
    guess = _ids("B-PER O O B-LOC", "B-MISC O O", "O B-LOC")
    assert entity_f1(gold, guess, LABELS) == {
        "f1": pytest.approx(2 * 1 / (4 + 4)),
        "precision": pytest.approx(1 / 4),
        "recall": pytest.approx(1 / 4),
        "f1_PER": 0.0,
        "f1_ORG": 0.0,
        "f1_LOC": pytest.approx(2 * 1 / (2 + 2)),
        "f1_MISC": 0.0,
    }


@pytest.mark.parametrize(
    ("well_formed", "same"),
    [
        ("O B-PER I-PER", "O I-PER I-PER"),  # I- after O begins
        ("B-PER I-PER O", "I-PER I-PER O"),  # and so it does first in a sentence
        ("B-PER B-LOC I-LOC", "B-PER I-LOC I-LOC"),  # and after another type
    ],
)
def test_malformed_predictions_are_read_as_conlleval_reads_them(well_formed: str, same: str):
    scores = entity_f1(_ids(well_formed), _ids(same), LABELS)
    assert scores["precision"] == scores["recall"] == scores["f1"] == 1.0


def test_neighbours_of_one_type_and_of_one_sentence_are_kept_apart():
    assert entity_f1(_ids("B-PER B-PER"), _ids("B-PER I-PER"), LABELS)["f1"] == 0.0
    # The same words in one sentence would be one entity.
    assert entity_f1(_ids("B-PER", "I-PER"), _ids("B-PER", "B-PER"), LABELS)["f1"] == 1.0
    assert entity_f1(_ids("B-PER I-PER"), _ids("B-PER B-PER"), LABELS)["f1"] == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_any_tags_score_as_in_seqeval(seed: int, noise: float):
    """Uniformly random tags, most of them malformed, on both sides."""
    rng = np.random.default_rng((seed, int(10 * noise)))
    classes = len(LABELS) - 2 * (seed % 3)  # some types on neither side
    gold = [rng.integers(0, classes, n).astype(np.int32) for n in rng.integers(1, 30, 60)]
    guess = [np.where(rng.random(len(t)) < noise, rng.permutation(t), t) for t in gold]
    names = [[[LABELS[i] for i in tags] for tags in side] for side in (gold, guess)]
    scores = entity_f1(gold, guess, LABELS)
    micro = seqeval.precision_recall_fscore_support(*names, average="micro", zero_division=0)
    ours = (scores["precision"], scores["recall"], scores["f1"])
    assert ours == pytest.approx(micro[:3], abs=1e-12)
    report: Any = seqeval.classification_report(*names, output_dict=True, zero_division=0)
    types = dict.fromkeys(name[2:] for name in LABELS[1:])
    for name in types:
        expected = report[name]["f1-score"] if name in report else 0.0
        assert scores[f"f1_{name}"] == pytest.approx(expected, abs=1e-12)


def test_no_entities_anywhere_scores_zero():
    assert set(entity_f1(_ids("O O"), _ids("O O"), LABELS).values()) == {0.0}


@pytest.mark.parametrize(
    ("gold", "guess", "labels", "message"),
    [
        ([[0, 1]], [[0]], LABELS, "sentence 0 has 2 gold and 1 predicted tags"),
        ([[0]], [[0], [0]], LABELS, "1 gold and 2 predicted sentences"),
        ([], [], LABELS, "at least one"),
        ([[0]], [[9]], LABELS, r"predicted tag ids are not all within 0\.\.8"),
        ([[-100]], [[0]], LABELS, "gold tag ids are not all within"),
        ([[0]], [[0]], ("O", "S-PER"), "label 'S-PER'; allowed: O, B-type and I-type"),
        ([[0]], [[0]], ("O", "B-"), "label 'B-'"),
    ],
)
def test_what_cannot_be_scored_is_refused(gold, guess, labels, message):
    expected, found = ([np.array(tags, np.int32) for tags in side] for side in (gold, guess))
    with pytest.raises(ValueError, match=message):
        entity_f1(expected, found, labels)


def test_the_two_schemes_are_told_apart_and_iob1_becomes_iob2():
    iob1 = [["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG"], ["O"], ["I-LOC", "O"]]
    iob2 = [["B-PER", "I-PER", "B-PER", "O", "B-LOC", "B-ORG"], ["O"], ["B-LOC", "O"]]
    assert scheme(iob1) == "IOB1" and scheme(iob2) == "IOB2"
    assert [to_iob2(tags) for tags in iob1] == iob2
    assert [to_iob2(tags) for tags in iob2] == iob2
    assert beginnings(iob1[0], "I-") == [0, 4, 5] and beginnings(iob1[0], "B-") == []
    assert beginnings(iob2[0], "I-") == [] and beginnings(iob2[0], "B-") == [0, 4, 5]


def test_a_few_broken_sentences_do_not_change_the_scheme():
    assert scheme([["B-PER"], ["B-PER"], ["I-PER"]]) == "IOB2"
    assert scheme([["I-PER"], ["I-PER"], ["B-PER"]]) == "IOB1"
    assert scheme([["NN", "VB"], ["O"]]) == "IOB2"
