"""What an objective comes to on examples that nothing is learned from."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.data.masking import Masking
from effjax.distill import Weighted
from effjax.models.model import Model, apply
from effjax.train.masked import inputs_of, totals
from effjax.train.mesh import mesh_of, place_model
from effjax.types import Array, Aux, Batch, Float


def evaluate_objective(
    model: Model,
    aux: Aux,
    objective: Weighted,
    teachers: Mapping[str, Model],
    encoded: Encoded,
    *,
    masking: Masking | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, float]:
    """The mean of every term over all examples, and `loss`, their sum by the weights that they have
    at the end of a training.

    Args:
        aux: what the objective has learned.
        masking: hides tokens from student and teachers alike.
        seed: of the masks, which are the same for every model and in every call.
    """
    mesh = mesh_of(model.params)
    live = {name: teacher.for_inference() for name, teacher in teachers.items()}
    if mesh is not None:
        live = {name: place_model(teacher, mesh) for name, teacher in live.items()}

    def sums(model: Model, batch: Batch, key: jax.Array) -> Float[Array, "..."]:
        return term_sums(objective, model, aux, live, batch, key)

    found = iter(totals(sums, model, encoded, masking, seed, batch_size))
    means = {term.name: next(found) / max(next(found), 1e-9) for term in objective.terms}
    weights = {term.name: float(term.weight_at(1.0)) for term in objective.terms}
    return {"loss": sum(weights[name] * x for name, x in means.items()), **means}


def check_objective(
    objective: Weighted,
    model: Model,
    teachers: Mapping[str, Model],
    encoded: Encoded,
    *,
    masking: Masking | None = None,
) -> None:
    """Raises the ValueError of an objective that models of these shapes do not fit; nothing runs.

    Args:
        encoded: training examples; one of them is looked at.
        masking: as of the training.
    """
    configs = {name: teacher.config for name, teacher in teachers.items()}
    key = jax.random.key(0)
    aux = jax.eval_shape(lambda key: objective.init(key, model.config, configs), key)
    how = {"pad_id": model.config.pad_token_id, "masking": masking}
    (batch,) = TrainBatches(encoded=encoded, batch_size=1, seed=0, **how)[0]
    jax.eval_shape(functools.partial(term_sums, objective), model, aux, teachers, batch, key)


@functools.partial(jax.jit, static_argnums=0)
def term_sums(
    objective: Weighted,
    model: Model,
    aux: Aux,
    live: Mapping[str, Model],
    batch: Batch,
    key: jax.Array,
) -> Float[Array, "..."]:
    """Of each term, the weighted sum of its values and that of its weights."""
    inputs = inputs_of(batch)
    student = apply(model.module, model.params, inputs)
    teachers = {name: apply(x.module, x.params, inputs) for name, x in live.items()}
    terms = objective.measure(aux, student, teachers, batch, progress=1.0, key=key).values()
    return jnp.stack([x for term in terms for x in (term.mean(jnp.ones(())), term.total())])
