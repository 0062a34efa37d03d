"""What students are before they are trained."""

import jax
import numpy as np

from effjax.recipe import Student
from effjax.recipe.arms import made, start
from effjax.recipe.spec import CONTROL, RANDOM
from effjax.tree import flatten
from tests.train.small_run import small_model


def test_a_narrow_student_is_cut_from_the_layers_that_it_names() -> None:
    """Every number of it is one of the teacher's; of a random start none is."""
    teacher, narrow = small_model(), Student(name="narrow", layers=(1,), hidden=8)
    whole = made(teacher, Student(name="whole", layers=(1,)), jax.random.key(0))
    begun = start(teacher, narrow, CONTROL, seed=0)
    assert (whole.config.hidden, whole.config.num_layers) == (16, 1)
    assert (begun.config.hidden, begun.config.num_layers) == (8, 1)
    assert (begun.config.head, begun.config.labels) == (teacher.config.head, teacher.config.labels)
    ours, theirs = flatten(begun.params), flatten(whole.params)
    for path, array in ours.items():
        assert np.isin(array, theirs[path]).all(), path
    random = start(teacher, narrow, RANDOM, seed=0)
    assert random.config == begun.config
    kernel = "layer_0/feedforward/up/kernel"
    others = {
        "the layer that it leaves out": flatten(teacher.params)[kernel],
        "random arrays": flatten(random.params)[kernel],
    }
    for name, array in others.items():
        assert not np.isin(ours[kernel], array).any(), name
