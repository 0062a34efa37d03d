"""The task table against TFDS's own descriptions, and its contract row by row."""

import subprocess
import sys
from typing import Any

import pytest
import tensorflow_datasets as tfds

from effjax.data import TASKS, get_task
from effjax.data.metrics import METRICS

GLUE = [name for name in TASKS if name.startswith("glue/")]


def test_all_nine_glue_tasks_and_the_generated_one_are_there():
    nine = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    assert {name.removeprefix("glue/") for name in GLUE} == nine
    assert TASKS["toy/sentiment"].source == "generated"


@pytest.mark.parametrize("name", [*GLUE, "similarity/stsb"])
def test_columns_and_labels_are_those_of_tfds(name: str, tmp_path):
    task = TASKS[name]
    features: Any = tfds.builder(task.tfds_name, data_dir=tmp_path).info.features
    assert set(features) == {*task.text, "label", "idx"}
    assert tuple(getattr(features["label"], "names", ())) == task.labels


@pytest.mark.parametrize("name", TASKS)
def test_every_record_is_complete(name: str):
    task = TASKS[name]
    assert task.name == name and task.metrics
    assert task.kind != "text" or set(task.metrics) <= set(METRICS)
    assert task.regression == (task.score_range is not None)
    assert len(set(task.splits)) == len(task.splits) and task.splits[0] == "train"
    assert task.files == () or len(task.files) == len(task.splits)
    if task.source == "tfds" and task.format == "glue":
        assert len(task.columns) == len(task.text)
        assert len(task.spelling) == len(task.labels)
        assert len(task.submission) == (0 if task.dataset else len(task.test))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("glue/sst-2", "did you mean glue/sst2"),
        ("sentiment", "did you mean toy/sentiment"),
        ("zzz", "known: glue/cola, glue/sst2, .*toy/sentiment"),
    ],
)
def test_an_unknown_name_gets_the_closest_ones(name: str, hint: str):
    with pytest.raises(ValueError, match=hint):
        get_task(name)


def test_an_unknown_split_names_the_allowed_ones():
    with pytest.raises(ValueError, match=r"no split 'dev'; it has train, validation_matched"):
        get_task("glue/mnli").check_split("dev")


def test_importing_the_package_loads_nothing_heavy():
    heavy = "('jax', 'tensorflow_datasets', 'sklearn', 'scipy', 'transformers', 'tensorflow')"
    code = f"import sys, effjax.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labels_of_test_splits_are_public_in_generated_data_alone():
    assert get_task("toy/sentiment").has_labels("test")
    assert not get_task("glue/sst2").has_labels("test")
    assert get_task("glue/sst2").has_labels("validation")
