"""Pruning in steps, each followed by a recovery.

    def smaller(model: Model, target: float) -> Model:
        costs = flop_costs(model)  # of what is left by now
        if costs.whole <= target:
            return model
        return shrink(model, select(fisher(model, encoded, loss), costs, at_most=target))

    def recover(model: Model, step: int) -> Model:
        objective = Weighted(soft=(1.0, SoftTargets(temperature=2.0)), task=(0.5, TaskLoss()))
        teachers, folder = {"teacher": whole}, runs / f"step-{step}"
        return fit(
            model, encoded, objective, training, seed=0, folder=folder, teachers=teachers
        ).model

    flops = flop_costs(whole).whole
    targets = cubic_targets(flops, 0.4 * flops, steps=5)
    for step, small in iterative(whole, targets, smaller=smaller, recover=recover):
        print(step, accuracy(small))

Killed and started again, that goes on where it was: what is pruned does not depend on chance, and
each training goes on from its folder. Pruning at once is one target, `(0.4 * flops,)`.
"""

from collections.abc import Callable, Iterable, Iterator

from effjax.models.model import Model


def cubic_targets(whole: float | int, final: float | int, steps: int) -> tuple[float, ...]:
    """What a model may cost after each step, so that most of it goes in the first ones: a share
    s_t = s_f + (0 - s_f) (1 - t / n)^3 is gone after step t of n.

    Source: arXiv 1710.01878, section 3, from a sparsity of 0. Deviation: of any cost, in place of
    the number of weights.

    Args:
        whole: what the model costs.
        final: what it may cost in the end.

    Raises:
        ValueError: there is no step, or nothing to go.
    """
    check_ends(whole, final, steps)
    return tuple(final + (whole - final) * (1 - t / steps) ** 3 for t in range(1, steps + 1))


def even_targets(whole: float | int, final: float | int, steps: int) -> tuple[float, ...]:
    """The same with as much to go in every step. Raises as `cubic_targets` does."""
    check_ends(whole, final, steps)
    return tuple(final + (whole - final) * (1 - t / steps) for t in range(1, steps + 1))


def iterative(
    model: Model,
    targets: Iterable[float | int],
    *,
    smaller: Callable[[Model, float | int], Model],
    recover: Callable[[Model, int], Model],
) -> Iterator[tuple[int, Model]]:
    """Makes a model smaller, target by target, and has it recover each time.

    Args:
        smaller: (model, what it may cost) -> the smaller model.
        recover: (smaller model, step) -> the same, trained; the first step is 1.

    Yields:
        Each step and the model that has recovered, from which the next one goes on.
    """
    for step, target in enumerate(targets, start=1):
        model = recover(smaller(model, target), step)
        yield step, model


def check_ends(whole: float | int, final: float | int, steps: int) -> None:
    """Raises a ValueError for targets that lead nowhere."""
    if steps < 1:
        raise ValueError(f"targets: {steps} steps; expected 1 at least")
    if not 0 <= final < whole:
        raise ValueError(
            f"targets: from {whole:,.4g} to {final:,.4g}; expected to end at 0 or more, and below "
            "where they begin"
        )
