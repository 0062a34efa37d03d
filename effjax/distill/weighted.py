"""`Weighted`: the sum of named objectives, reduced once, in float32."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp

from effjax.distill.objective import Given, Needs, Objective, Term
from effjax.models.base import EncoderConfig, Outputs
from effjax.types import Array, Aux, Batch, Float

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Piecewise:
    """A weight that changes over training.

        Weighted(hidden=(Piecewise(points=((0.0, 1.0), (0.5, 0.0))), HiddenMSE()), ...)

    Attributes:
        points: (share of the training that is over, weight), shares ascending from 0 to 1; linear
            between two points, constant before the first and after the last.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.points]
        if not shares or shares != sorted(set(shares)) or not 0 <= shares[0] <= shares[-1] <= 1:
            raise ValueError(
                f"Piecewise: points are {self.points}; expected pairs of (share of the training, "
                "weight), shares ascending from 0 to 1"
            )

    def at(self, progress: float | Array) -> Float[Array, ""]:
        """The weight when this share of the training is over."""
        shares, weights = jnp.asarray(self.points, jnp.float32).T
        return jnp.interp(jnp.asarray(progress, jnp.float32), shares, weights)


@dataclass(frozen=True)
class Named:
    """One objective of a sum.

    Attributes:
        name: what its loss is called in metrics and on the command line.
        weight: what its mean is multiplied by, a number or one that changes over training.
        objective: the objective.
    """

    name: str
    weight: float | Piecewise
    objective: Objective

    def __post_init__(self) -> None:
        if isinstance(self.weight, Piecewise):
            numbers = [weight for _, weight in self.weight.points]
        else:
            numbers = [self.weight]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"objective {self.name!r}: the weight is {self.weight}; expected finite numbers"
            )

    def weight_at(self, progress: float | Array) -> float | Array:
        """The weight when this share of the training is over."""
        return self.weight.at(progress) if isinstance(self.weight, Piecewise) else self.weight


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Loss:
    """The weighted sum, and each objective's mean before its weight."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]


@dataclass(frozen=True, init=False)
class Weighted:
    """sum_i weight_i * mean(objective_i).

        Weighted(soft=(5.0, SoftTargets(temperature=2.0)), cos=(1.0, HiddenCosine(layers="last")))

    Attributes:
        terms: the objectives with their names and weights.
    """

    terms: tuple[Named, ...]

    def __init__(
        self, *, terms: tuple[Named, ...] = (), **named: tuple[float | int | Piecewise, Objective]
    ) -> None:
        """Args: named, (weight, objective) by name; `terms` is what `dataclasses.replace` passes.

        Raises:
            ValueError: there is no objective, or two share a name.
        """
        for name, (weight, objective) in named.items():
            number = weight if isinstance(weight, Piecewise) else float(weight)
            terms += (Named(name, number, objective),)
        names = [term.name for term in terms]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"expected one objective or more, each of its own name; names: {', '.join(names)}"
            )
        object.__setattr__(self, "terms", terms)

    def __call__(
        self,
        aux: Aux,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        *,
        progress: float | Array = 0.0,
        key: jax.Array | None = None,
    ) -> Loss:
        """The total and each term's mean; no gradient reaches a teacher.

        Args:
            aux: what `init` returned; `{}` where no objective has parameters.
            progress: the share of the training that is over.
        """
        found = self.measure(aux, student, teachers, batch, progress=progress, key=key)
        return self.reduce(found, progress=progress)

    def measure(
        self,
        aux: Aux,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        *,
        progress: float | Array = 0.0,
        key: jax.Array | None = None,
    ) -> dict[str, Term]:
        """Each term's values before they are reduced; arguments as of a call."""
        teachers = jax.lax.stop_gradient(dict(teachers))
        found = {}
        for term in self.terms:
            given = Given(
                teacher=of_teacher(term, teachers) or Outputs(),
                batch=batch,
                aux=aux.get(term.name, {}),
                progress=progress,
                key=None if key is None else key_of(key, term.name),
            )
            found[term.name] = term.objective(student, given)
        return found

    def reduce(
        self,
        found: Mapping[str, Term],
        totals: Mapping[str, Array] | None = None,
        *,
        progress: float | Array = 0.0,
        weights: Mapping[str, Array] | None = None,
    ) -> Loss:
        """The total and each term's mean.

        Args:
            found: from `measure`.
            totals: each term's sum of weights over a whole batch, of which `found` is a part.
            weights: of some terms, in place of their own.
        """
        of = {name: None if totals is None else totals[name] for name in found}
        means = {name: term.mean(of[name]) for name, term in found.items()}
        own = {term.name: term.weight_at(progress) for term in self.terms} | dict(weights or {})
        return Loss(sum((own[name] * x for name, x in means.items()), jnp.zeros(())), means)

    def init(
        self, key: jax.Array, student: EncoderConfig, teachers: Mapping[str, EncoderConfig]
    ) -> Aux:
        """Each objective's parameters by its name."""
        return {
            term.name: term.objective.init(
                key_of(key, term.name), student, of_teacher(term, teachers)
            )
            for term in self.terms
        }

    def needs(
        self, student: EncoderConfig, teachers: Mapping[str, EncoderConfig]
    ) -> dict[str, Needs]:
        """What is read of each teacher, by the teacher's name."""
        needs: dict[str, Needs] = {}
        for term in self.terms:
            if term.objective.teacher is not None:
                name, found = (
                    term.objective.teacher,
                    term.objective.needs(student, of_teacher(term, teachers)),
                )
                needs[name] = needs.get(name, Needs()) | found
        return needs


def of_teacher(term: Named, teachers: Mapping[str, T]) -> T | None:
    """What there is of the teacher that an objective reads; None for an objective without one.

    Raises:
        ValueError: there is no teacher of that name.
    """
    name = term.objective.teacher
    if name is None:
        return None
    if name not in teachers:
        known = ", ".join(teachers) or "none"
        raise ValueError(f"objective {term.name!r} reads the teacher {name!r}; teachers: {known}")
    return teachers[name]


def key_of(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for each name, whatever the other names are."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
