"""The way back from weights that are stored as two factors."""

import jax.numpy as jnp

from effjax.models.model import Model
from effjax.tree import flatten, unflatten


def multiplied_out(model: Model) -> Model:
    """The same model, to rounding, with every weight in one piece, as large as if none had a rank.

    This is what stock transformers, which has no factors, can load.
    """
    if not model.config.ranks:
        return model
    config, arrays = model.config.replace(ranks=()), flatten(model.params)
    for row in model.architecture.table(config):
        stem = row.path.rpartition("/")[0]
        if row.path not in arrays:
            left, right = (arrays.pop(f"{stem}/{name}") for name in ("left", "right"))
            arrays[row.path] = jnp.tensordot(left, right, 1, precision="highest")
    return model.replace(config=config, params=unflatten(arrays))
