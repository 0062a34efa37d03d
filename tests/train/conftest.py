"""A tiny classifier and a tiny data set that it can learn."""

import pytest

from effjax.data.encode import Encoded
from effjax.models import Model
from tests.train.small_run import small_data, small_model


@pytest.fixture(scope="session")
def model() -> Model:
    return small_model()


@pytest.fixture(scope="session")
def encoded() -> Encoded:
    return small_data()
