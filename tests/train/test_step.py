"""The step: parts of a batch, moving averages, steps that are left out."""

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.data.layouts import Layout
from effjax.distill import HiddenMSE, Piecewise, SoftTargets, TaskLoss, Weighted
from effjax.distill.objective import Given, Term
from effjax.models import Model, Outputs, Runtime
from effjax.train import fit
from effjax.train.step import KEPT, TrainState, _make_train_step, init_state, make_train_step
from effjax.train.training import Training
from effjax.tree import flatten
from tests.train.small_run import small_data

TASK = Weighted(task=(1.0, TaskLoss()))
MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def still(model: Model) -> Model:
    """Without dropout, so that two ways to one gradient can be compared."""
    return model.replace(config=model.config.replace(dropout=0.0, attention_dropout=0.0))


@pytest.fixture
def encoded() -> Encoded:
    """The last batch of an epoch has 6, so that parts differ in how many they have."""
    return small_data(70)


def first_state(model: Model, training: Training, objective: Weighted = TASK) -> TrainState:
    teachers = {"teacher": model.config}
    return init_state(model, objective, training, steps=10, seed=0, teachers=teachers)


def parts_of(encoded: Encoded, number: int, layout: Layout = "packed") -> Any:
    batches = TrainBatches(
        encoded=encoded, batch_size=32, seed=0, pad_id=0, layout=layout, micro_batches=number
    )
    (last,) = (i for i in range(3) if sum(p["example_mask"].sum() for p in batches[i]) == 6)
    return batches[last]


@pytest.mark.parametrize("layout", ["packed", pytest.param("padded", marks=pytest.mark.slow)])
def test_parts_have_the_gradient_of_the_whole(
    still: Model, encoded: Encoded, layout: Layout
) -> None:
    """One of the four parts has one example where the others have more, and losses are means over
    examples, and over tokens.
    """
    objective = Weighted(
        task=(1.0, TaskLoss()),
        soft=(0.5, SoftTargets(temperature=2.0)),
        hidden=(1.0, HiddenMSE(layers="last", project=False)),
    )
    training = Training(clip_norm=1e9)
    step = make_train_step(still, objective, training)
    other = still.replace(params=jax.tree.map(lambda x: 0.9 * x, still.params))
    found = {}
    for number in (1, 4):
        parts = tuple((b, {"teacher": other.trace(b)}) for b in parts_of(encoded, number, layout))
        found[number] = step(first_state(still, training, objective), parts)
    (whole, metrics), (parted, others) = found[1], found[4]
    assert set(metrics) == {"loss", "task", "soft", "hidden", "grad_norm", "learning_rate"}
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-5, err_msg=name)
    for path, moment in flatten(whole.opt_state[1].mu["params"]).items():
        theirs = flatten(parted.opt_state[1].mu["params"])[path]
        np.testing.assert_allclose(theirs, moment, atol=1e-6, err_msg=path)


def test_a_step_knows_how_much_of_the_training_is_over(still: Model, encoded: Encoded) -> None:
    """Of 10 steps; with parts, where weights are met in another function, too."""
    falling = Piecewise(points=((0.0, 1.0), (0.5, 0.0)))
    objective, training = Weighted(task=(falling, TaskLoss())), Training()
    step = make_train_step(still, objective, training)
    for number in (1, 4):
        parts = tuple((part, {}) for part in parts_of(encoded, number))
        for done, weight in ((0, 1.0), (2, 0.6), (7, 0.0)):
            state = first_state(still, training, objective)
            state = TrainState(**(vars(state) | {"step": jnp.int32(done)}))
            _, metrics = step(state, parts)
            assert float(metrics["loss"]) == pytest.approx(weight * float(metrics["task"]))


def test_the_average_moves_slowly_and_is_the_trained_model(still: Model, encoded: Encoded) -> None:
    training = Training(ema=0.75, learning_rate=1e-2, warmup=0.0)
    parts = tuple((part, {}) for part in parts_of(encoded, 1))
    state = first_state(still, training)
    expected = np.asarray(flatten(still.params)["layer_0/attention/query/kernel"])
    for _ in range(3):
        state, _ = make_train_step(still, TASK, training)(state, parts)
        now = flatten(state.trainables["params"])["layer_0/attention/query/kernel"]
        expected = 0.75 * expected + 0.25 * np.asarray(now)
        average = flatten(state.params)["layer_0/attention/query/kernel"]
        np.testing.assert_allclose(average, expected, rtol=1e-5)
    assert not np.allclose(average, now, rtol=1e-3)


def spoiled(value: float) -> Any:
    """Teacher's logits that make the loss what a test wants."""
    return {"teacher": Outputs(logits=jnp.full((32, 2), value, jnp.float32))}


def test_a_step_with_a_gradient_that_is_not_finite_is_left_out(
    still: Model, encoded: Encoded
) -> None:
    """And what is usual begins with the first step that is not."""
    objective = Weighted(soft=(1.0, SoftTargets(temperature=1.0)))
    training = Training(skip_spikes=10.0, learning_rate=1e-2, warmup=0.0)
    step = make_train_step(still, objective, training)
    (part,) = parts_of(encoded, 1)
    state, metrics = step(first_state(still, training, objective), ((part, spoiled(np.nan)),))
    assert float(metrics["skipped"]) == 1 and float(state.usual_norm) == 0
    state, metrics = step(state, ((part, spoiled(0.0)),))
    assert float(metrics["skipped"]) == 0
    assert float(state.usual_norm) == float(metrics["grad_norm"]) > 0
    kept = jax.tree.map(np.asarray, (state.trainables, state.opt_state, state.usual_norm))
    state, metrics = step(state, ((part, spoiled(np.nan)),))
    assert float(metrics["skipped"]) == 1 and int(state.step) == 3
    now = (state.trainables, state.opt_state, state.usual_norm)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, kept, now)))


@pytest.mark.parametrize(
    ("times", "skipped"), [(2.0, 1.0), pytest.param(1e6, 0.0, marks=pytest.mark.slow)]
)
def test_a_spike_is_left_out_once_norms_have_settled(
    still: Model, encoded: Encoded, times: float, skipped: float
) -> None:
    training = Training(skip_spikes=times, warmup=0.0)
    step = make_train_step(still, TASK, training)
    parts = tuple((part, {}) for part in parts_of(encoded, 1))
    norm = float(step(first_state(still, training), parts)[1]["grad_norm"])
    for done, expected in ((99, 0.0), (100, skipped)):
        state = first_state(still, training)
        fields = vars(state) | {"step": jnp.int32(done), "usual_norm": jnp.float32(norm / 3)}
        assert float(step(TrainState(**fields), parts)[1]["skipped"]) == expected


@pytest.mark.parametrize("remat", ["layers", pytest.param("products", marks=pytest.mark.slow)])
def test_what_is_computed_again_is_the_same(model: Model, encoded: Encoded, remat: Any) -> None:
    """With dropout, whose masks have to come again too."""
    parts = tuple((part, {}) for part in parts_of(encoded, 1))
    training = Training(weight_decay=0.0)
    found = {}
    for name in ("none", remat):
        run = model.replace(runtime=replace(model.runtime, remat=name))
        step = make_train_step(run, TASK, training)
        state, metrics = step(first_state(run, training), parts)
        found[name] = (float(metrics["loss"]), flatten(state.opt_state[1].mu["params"]))
    assert found["none"][0] == pytest.approx(found[remat][0], rel=1e-6)
    for path, moment in found["none"][1].items():
        np.testing.assert_allclose(found[remat][1][path], moment, atol=1e-7, err_msg=path)


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.exists(), reason="memory maps are counted as Linux has them")
def test_steps_that_are_not_kept_give_their_memory_back(still: Model, encoded: Encoded) -> None:
    """Of an experiment with many arms each compiles a step of its own."""
    parts = tuple((part, {}) for part in parts_of(encoded, 1))
    found = []
    _make_train_step.cache_clear()
    for i in range(2 * KEPT + 1):
        training = Training(weight_decay=0.1 + i)
        make_train_step(still, TASK, training)(first_state(still, training), parts)
        gc.collect()
        found.append(len(MAPS.read_text().splitlines()))
    begun, full, end = found[0], found[KEPT - 1], found[-1]
    assert full - begun > 100 * (KEPT - 1)
    assert end - full < 0.5 * (full - begun)


def test_a_model_for_inference_is_not_trained(model: Model) -> None:
    low = model.replace(runtime=Runtime(dtype="bfloat16")).for_inference()
    with pytest.raises(ValueError, match="training needs float32 parameters"):
        init_state(low, TASK, Training(), steps=1, seed=0, teachers={})


@dataclass(frozen=True, kw_only=True)
class Seen(TaskLoss):
    """Says for which shapes it was traced."""

    shapes: ClassVar[list[tuple[int, ...]]] = []

    def __call__(self, student: Outputs, given: Given) -> Term:
        self.shapes.append(given.batch["input_ids"].shape)
        return super().__call__(student, given)


def test_a_step_is_compiled_once_for_each_shape_of_batches(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """In two epochs, whose batches are others, and in a second training."""
    what = (model, encoded, Weighted(task=(1.0, Seen())), Training(epochs=2))
    fits = [fit(*what, seed=seed, folder=tmp_path / str(seed)) for seed in (0, 1)]
    assert [x.steps for x in fits] == [6, 6]
    made: Any = {"encoded": encoded, "batch_size": 32, "pad_id": 0}
    orders = [TrainBatches(seed=seed, **made) for seed in (0, 1)]
    shapes = {part["input_ids"].shape for x in orders for i in range(6) for part in x[i]}
    assert sorted(Seen.shapes) == sorted(shapes)


def test_the_second_step_is_the_program_of_the_first(still: Model, encoded: Encoded) -> None:
    """Also for a state that is bound to no device, as a loop of one's own has it."""
    found: list[str] = []

    def heard(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    training = Training(clip_norm=0.7)
    step, parts = make_train_step(still, TASK, training), ((parts_of(encoded, 1)[0], {}),)
    state = first_state(still, training)
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        state, _ = step(state, parts)
        first = len(found)
        step(state, parts)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert first > 0
    assert len(found) == first
