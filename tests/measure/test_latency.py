"""Timing: one model, several in turns."""

from collections.abc import Callable

import jax
import pytest

from effjax import measure
from effjax.measure.latency import Comparison, Latency, in_turns
from effjax.models.model import Model, create


@pytest.fixture(scope="module")
def model() -> Model:
    return create("bert", size="tiny", key=jax.random.key(0), vocab_size=50)


@pytest.fixture(scope="module")
def comparison(model: Model) -> Comparison:
    deeper = create("bert", size="tiny", key=jax.random.key(0), vocab_size=50, num_hidden_layers=12)
    return measure.compare({"deeper": deeper, "model": model}, batch=2, length=64, samples=12)


def made_up(*seconds: float, other_cores: float | None = 0.0) -> Latency:
    where = {"cpu": "a CPU", "cores": 2, "device": "cpu", "jax": "0.10.2"}
    return Latency(
        batch=2,
        length=100,
        seconds=seconds,
        compile_seconds=3.0,
        other_cores=other_cores,
        machine=where,
    )


def test_one_model_is_timed(model: Model) -> None:
    latency = measure.latency(model, batch=2, length=16, samples=5)
    assert len(latency.seconds) == 5
    assert 0 < latency.minimum <= latency.quartiles[0] <= latency.median <= latency.quartiles[1]
    assert latency.compile_seconds > latency.minimum
    assert latency.machine == measure.machine()


def test_six_times_the_layers_take_clearly_longer(comparison: Comparison) -> None:
    speedup = comparison.speedup("model")
    assert 2 < speedup.ratio < 12
    assert speedup.quartiles[0] <= speedup.quartiles[1]
    assert comparison.speedup("deeper").ratio == 1
    assert "model is " in str(comparison)
    assert "times as fast as deeper" in str(comparison)


def test_medians_and_ratios_are_what_they_say() -> None:
    slow, fast = made_up(1.0, 8.0, 3.0, 2.0, 4.0), made_up(1.0, 1.0, 1.0, 4.0, 1.0)
    assert slow.median == 3.0
    assert slow.quartiles == (2.0, 4.0)
    assert slow.tokens_per_second == pytest.approx(200 / 3)
    speedup = Comparison(latencies={"slow": slow, "fast": fast}).speedup("fast")
    assert speedup.ratio == 3.0
    assert speedup.quartiles == (1.0, 4.0)  # of 1, 8, 3, 0.5, 4


def test_a_machine_that_changes_its_speed_changes_no_ratio() -> None:
    """It became half as fast within the third round, so that both medians are 1."""
    slow, fast = made_up(1.0, 1.0, 1.0, 2.0, 2.0), made_up(0.5, 0.5, 1.0, 1.0, 1.0)
    assert slow.median == fast.median
    assert Comparison(latencies={"slow": slow, "fast": fast}).speedup("fast").ratio == 2.0


def test_a_busy_machine_is_named_in_the_line() -> None:
    assert "measure again" in str(made_up(1.0, other_cores=0.7))
    assert "measure again" not in str(made_up(1.0))
    assert "measure again" not in str(made_up(1.0, other_cores=None))


def test_every_round_begins_with_the_next_model() -> None:
    order: list[str] = []

    def call(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    times = in_turns({"a": call("a"), "b": call("b"), "c": call("c")}, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_what_cannot_be_measured_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="samples is 0"):
        measure.latency(model, samples=0)
    with pytest.raises(ValueError, match="no model to measure"):
        measure.compare({})
    with pytest.raises(ValueError, match="length is 513"):
        measure.latency(model, length=513)
