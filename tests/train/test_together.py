"""Students that are trained in one program are what they would be alone."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import HiddenMSE, SoftTargets, TaskLoss, Weighted, cache_outputs
from effjax.distill.objective import Needs
from effjax.models import Model, create
from effjax.train import Training, fit, fit_together
from effjax.train.fitting import Fit, batches_of
from effjax.train.logs import read_history
from effjax.train.loop import Progress
from effjax.train.step import init_state
from effjax.train.together import make_step_together, same_arrays, stacked
from effjax.train.window import Metrics
from effjax.tree import flatten
from effjax.types import Array
from tests.train.small_run import SIZES, small_model

OBJECTIVE = Weighted(
    task=(0.5, TaskLoss()),
    soft=(0.5, SoftTargets(temperature=2.0)),
    hidden=(1.0, HiddenMSE(layers="last")),
)
TRAINING = Training(epochs=2, batch_size=16, learning_rate=1e-2, save_every=3)
SEEDS, RATES = (4, 5, 5), (1e-2, 1e-2, 3e-3)
WEIGHTS = ({"soft": 0.5, "task": 0.5}, {"soft": 0.5, "task": 0.5}, {"soft": 2.0, "task": 0.0})


def student(seed: int) -> Model:
    sizes = SIZES | {"hidden_size": 8, "num_hidden_layers": 1}
    head = "sequence-classification"
    return create("bert", size="tiny", head=head, key=jax.random.key(seed), **sizes)


@pytest.mark.parametrize("kind", ["live", pytest.param("known", marks=pytest.mark.slow)])
def test_students_are_what_they_would_be_alone(
    model: Model, encoded: Encoded, tmp_path: Path, kind: str
) -> None:
    """Dropout, heads, projections, learning rates and weights of their own; batches and teacher
    shared, which runs in the step or has been run before.
    """
    outputs = cache_outputs(model, encoded, Needs(logits=True, hidden=(2,)))
    shared = {"teachers": {"teacher": {"live": model, "known": outputs}[kind]}, "order": 9}
    together = fit_together(
        [student(seed) for seed in SEEDS],
        encoded,
        OBJECTIVE,
        TRAINING,
        seeds=SEEDS,
        learning_rates=RATES,
        weights=WEIGHTS,
        folder=tmp_path / "together",
        **shared,
    )
    looks = read_history(tmp_path / "together")
    for i, (seed, rate, weights) in enumerate(zip(SEEDS, RATES, WEIGHTS, strict=True)):
        training = replace(TRAINING, learning_rate=rate)
        terms = [replace(x, weight=weights.get(x.name, x.weight)) for x in OBJECTIVE.terms]
        objective = Weighted(terms=tuple(terms))
        where = {"seed": seed, "folder": tmp_path / f"alone-{i}"}
        alone = fit(student(seed), encoded, objective, training, **where, **shared)
        assert together[i].steps == alone.steps == 10
        ours, theirs = (flatten({"p": x.model.params, "a": x.aux}) for x in (together[i], alone))
        for path, array in theirs.items():
            np.testing.assert_allclose(ours[path], array, atol=2e-5, err_msg=path)
        own = read_history(where["folder"])[-1]["loss"]
        assert looks[-1][f"loss/{i}"] == pytest.approx(own, abs=1e-4)


def test_unlike_students_may_share_a_seed(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    """And like ones too, where their learning rates or weights differ; all end apart."""
    like = student(0)
    trained = fit_together(
        (like, student(1), like, like),
        encoded,
        OBJECTIVE,
        replace(TRAINING, epochs=1),
        seeds=(1, 1, 1, 1),
        learning_rates=(1e-2, 1e-2, 3e-3, 1e-2),
        weights=({"soft": 0.5}, {"soft": 0.5}, {"soft": 0.5}, {"soft": 2.0}),
        order=0,
        folder=tmp_path,
        teachers={"teacher": model},
        steps=2,
    )
    for one, other in itertools.combinations(trained, 2):
        assert not same_arrays(one.model, other.model)


@pytest.mark.slow
def test_a_shared_teacher_runs_once(model: Model, encoded: Encoded) -> None:
    """Three students take three steps of a student without a teacher, and one teacher."""
    batches = batches_of(model, encoded, TRAINING, seed=0, masking=None)
    parts = tuple((part, {}) for part in batches[0])

    def flops(count: int, objective: Weighted, live: dict[str, Model]) -> float:
        teachers = {name: teacher.config for name, teacher in live.items()}
        given = {"steps": 5, "seed": 0, "teachers": teachers}
        states = [init_state(student(i), objective, TRAINING, **given) for i in range(count)]
        step = make_step_together(student(0), objective, TRAINING)
        leaves, structure = jax.tree.flatten(stacked(states))

        @jax.jit
        def flat(leaves: list[Array]) -> Any:
            new, *rest = step(structure.unflatten(leaves), parts, live, jnp.ones(count))
            return jax.tree.leaves(new), rest

        analysis: Any = flat.lower(leaves).compile().cost_analysis()
        return analysis["flops"]

    task, soft = Weighted(task=(1.0, TaskLoss())), Weighted(soft=(1.0, SoftTargets()))
    teacher = flops(1, soft, {"teacher": model}) - flops(1, task, {})
    added = flops(3, soft, {"teacher": model}) - flops(3, task, {})
    assert teacher > 0.1 * flops(1, task, {})
    assert added == pytest.approx(teacher, rel=0.1)


@pytest.mark.slow
def test_students_go_on_where_they_were_stopped(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """With the same bits."""

    def stop(step: int, steps: int, metrics: Metrics) -> None:
        del steps, metrics
        if step == 9:
            raise KeyboardInterrupt

    def train(name: str, progress: Progress) -> tuple[Fit, ...]:
        where = {"folder": tmp_path / name, "progress": progress}
        given = {"seeds": (1, 2), "order": 0, "teachers": {"teacher": model}}
        students = [student(1), student(2)]
        return fit_together(students, encoded, OBJECTIVE, TRAINING, **where, **given)

    steps: list[int] = []
    whole = train("whole", lambda step, *_: None)
    with pytest.raises(KeyboardInterrupt):
        train("half", stop)
    half = train("half", lambda step, *_: steps.append(step))
    assert 1 < min(steps) <= max(steps) == 10
    for ours, theirs in zip(half, whole, strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours.model.params, theirs.model.params)
    with pytest.raises(ValueError, match=r"begun with other settings: seeds\.0: 1 -> 3"):
        fit_together(
            [student(1), student(2)],
            encoded,
            OBJECTIVE,
            TRAINING,
            seeds=(3, 2),
            order=0,
            folder=tmp_path / "half",
            teachers={"teacher": model},
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": (1,)},
            "2 students, 1 seeds, 1 learning rates, 1 times weights; expected as many",
        ),
        ({"steps": 0}, "steps is 0; it must be above 0"),
        ({"learning_rates": (1e-3, 0.0)}, "a learning rate is 0.0; it must be above 0"),
        (
            {"weights": ({}, {"soft": 1.0})},
            r"weights of no term, another \{'soft': 1\.0\}; expected",
        ),
        ({"weights": ({"sof": 1.0}, {"sof": 2.0})}, "no term 'sof' to weigh; terms: .*soft"),
        ({"weights": ({"soft": 1.0}, {"soft": np.nan})}, "the weights .*nan.* are not all finite"),
        (
            {"models": (student(0), student(0)), "seeds": (1, 1)},
            r"students 0 and 1 have the same arrays, seed 1, learning rate 0\.01 and weights {};",
        ),
        ({"models": (student(0), small_model())}, "differ in shape; expected one config for all"),
        ({"training": replace(TRAINING, patience=1)}, "patience is 1, but students that are"),
    ],
)
def test_students_that_cannot_go_together_are_one_line(
    encoded: Encoded, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = {"models": (student(0), student(1)), "training": TRAINING, "seeds": (1, 2)} | changes
    with pytest.raises(ValueError, match=message) as caught:
        fit_together(encoded=encoded, objective=OBJECTIVE, order=0, folder=tmp_path, **given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    given = {"seeds": (1, 2), "order": 0, "folder": tmp_path}
    with pytest.raises(ValueError, match="there are 2 processes; students that are trained"):
        fit_together([student(1), student(2)], encoded, OBJECTIVE, TRAINING, **given)
