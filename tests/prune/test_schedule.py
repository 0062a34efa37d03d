"""Pruning in steps: the targets by their formulas, and that every model recovers."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from effjax.data.encode import Encoded
from effjax.distill import SoftTargets, TaskLoss, Weighted
from effjax.measure import flop_costs, parameter_costs
from effjax.models import Model
from effjax.prune import cubic_targets, even_targets, iterative, magnitude, select, shrink
from effjax.train import Training, fit, predict


def test_cubic_targets_are_the_paper_s_sparsities() -> None:
    """s_t = s_f + (s_i - s_f) (1 - t / n)^3, with s_i = 0."""
    whole, final, steps = 200, 50, 4
    found, share = cubic_targets(whole, final, steps), 1 - final / whole
    sparsities = [share - share * (1 - t / steps) ** 3 for t in range(1, steps + 1)]
    np.testing.assert_allclose(found, [whole * (1 - s) for s in sparsities], rtol=1e-12)
    assert found[-1] == final
    np.testing.assert_allclose(found, [113.28125, 68.75, 52.34375, 50])


def test_even_targets_are_equally_far_apart() -> None:
    assert even_targets(200, 50, 3) == pytest.approx((150, 100, 50))
    assert even_targets(200.0, 50.0, 1) == cubic_targets(200, 50, 1) == (50,)


@pytest.mark.parametrize("targets", [cubic_targets, even_targets])
@pytest.mark.parametrize(
    ("whole", "final", "steps", "message"),
    [
        (10, 5, 0, "targets: 0 steps; expected 1 at least"),
        (10, 10, 3, "targets: from 10 to 10; expected to end at 0 or more, and below"),
        (10.0, -1.0, 3, "targets: from 10 to -1"),
    ],
)
def test_targets_that_lead_nowhere_are_one_line(
    targets: Callable, whole: float, final: float, steps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        targets(whole, final, steps)
    assert "\n" not in str(caught.value)


def test_every_model_recovers_and_the_next_begins_there(
    model: Model, encoded: Encoded, loss: Callable
) -> None:
    """Recovery doubles the weights here, so that the next step can be told to begin with them."""
    costs = parameter_costs(model)
    targets = cubic_targets(costs.whole, 0.6 * costs.whole, steps=3)
    asked: list[tuple[float | int, Model]] = []
    recovered: list[Model] = []

    def smaller(model: Model, target: float | int) -> Model:
        asked.append((target, model))
        scores = magnitude(model, encoded, loss)
        return shrink(model, select(scores, parameter_costs(model), at_most=target))

    def recover(model: Model, step: int) -> Model:
        assert step == len(recovered) + 1
        recovered.append(model.replace(params=jax.tree.map(lambda x: 2 * x, model.params)))
        return recovered[-1]

    steps = list(iterative(model, targets, smaller=smaller, recover=recover))
    assert [step for step, _ in steps] == [1, 2, 3]
    assert [small for _, small in steps] == recovered
    assert tuple(target for target, _ in asked) == targets
    begun = [before for _, before in asked]
    assert begun[0] is model and begun[1] is recovered[0] and begun[2] is recovered[1]
    sizes = [small.num_params for small in recovered]
    assert all(size <= target for size, target in zip(sizes, targets, strict=True))
    assert sizes[0] > sizes[-1] and sizes[-1] <= 0.6 * costs.whole
    word = recovered[-1].params["embedding"]["word"]["embedding"]
    np.testing.assert_array_equal(word, 8 * model.params["embedding"]["word"]["embedding"])


@pytest.mark.slow
def test_distillation_makes_up_for_what_is_pruned(
    model: Model, encoded: Encoded, loss: Callable, tmp_path: Path
) -> None:
    """As the docstring of the module shows it."""
    training = Training(epochs=60, batch_size=16, learning_rate=3e-3)
    task = Weighted(task=(1.0, TaskLoss()))
    whole = fit(model, encoded, task, training, seed=0, folder=tmp_path / "teacher").model
    objective = Weighted(soft=(1.0, SoftTargets(temperature=2.0)), task=(0.5, TaskLoss()))

    def smaller(model: Model, target: float | int) -> Model:
        costs = flop_costs(model, length=8)
        if costs.whole <= target:
            return model
        return shrink(model, select(magnitude(model, encoded, loss), costs, at_most=target))

    def recover(model: Model, step: int) -> Model:
        folder, teachers = tmp_path / f"step-{step}", {"teacher": whole}
        given = {"seed": 0, "folder": folder, "teachers": teachers}
        return fit(model, encoded, objective, training, **given).model

    def apart(model: Model) -> float:
        """How far its probabilities are from the teacher's."""
        ours, theirs = (jax.nn.softmax(predict(x, encoded)) for x in (model, whole))
        return float(np.abs(ours - theirs).mean())

    flops = flop_costs(whole, length=8).whole
    targets = cubic_targets(flops, 0.4 * flops, steps=2)
    found = [small for _, small in iterative(whole, targets, smaller=smaller, recover=recover)]
    assert flop_costs(found[-1], length=8).whole <= 0.4 * flops
    assert apart(found[-1]) < 0.5 * apart(smaller(whole, 0.4 * flops))
    assert (predict(found[-1], encoded).argmax(-1) == encoded.labels).mean() > 0.9
