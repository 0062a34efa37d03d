"""Examples: row-wise selection and rows set aside."""

import numpy as np
import pytest

from effjax.data import Examples, split_off


def _numbered(n: int) -> Examples:
    texts = ([f"a{i}" for i in range(n)], [f"b{i}" for i in range(n)])
    return Examples(texts, np.arange(n, dtype=np.int32) % 2, np.arange(n, dtype=np.int32))


def test_take_keeps_rows_together_and_in_order():
    taken = _numbered(5).take([3, 0, 3])
    assert taken.texts == (["a3", "a0", "a3"], ["b3", "b0", "b3"])
    assert taken.labels is not None and taken.labels.tolist() == [1, 0, 1]
    assert taken.idx.tolist() == [3, 0, 3]


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"differ in length: \[2, 1\]"):
        Examples((["a", "b"],), None, np.zeros(1, np.int32))


def test_split_off_partitions_and_depends_on_the_seed_alone():
    rows = _numbered(50)
    rest, held_out = split_off(rows, 20, seed=3)
    assert len(rest) == 30 and len(held_out) == 20
    assert sorted([*rest.idx, *held_out.idx]) == list(range(50))
    assert held_out.idx.tolist() == sorted(held_out.idx.tolist())
    assert np.array_equal(split_off(rows, 20, seed=3)[1].idx, held_out.idx)
    assert not np.array_equal(split_off(rows, 20, seed=4)[1].idx, held_out.idx)


@pytest.mark.parametrize("count", [0, 50, 51])
def test_split_off_needs_rows_on_both_sides(count: int):
    with pytest.raises(ValueError, match=f"{count} of 50 examples cannot be set aside"):
        split_off(_numbered(50), count, seed=0)
