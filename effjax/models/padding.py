"""The way back from smaller arrays to layers of one size: zeros in place of what was removed."""

import jax.numpy as jnp
import numpy as np

from effjax.models.model import Model
from effjax.table import Axis
from effjax.tree import flatten, unflatten


def padded(model: Model) -> Model:
    """The same function with layers of one size, as large as the largest and with as many heads as
    fill the hidden size: heads and units of zeros add nothing to what reads them.
    """
    config, arrays = model.config.padded(), flatten(model.params)
    specs = model.config.distinct_layers

    def places(small: Axis) -> np.ndarray:
        layer, _, field = (small.instance or "").partition("/")
        there = specs[layer].places(field, small.size) if field else range(small.size)
        return np.asarray(there, int)

    params, rows = {}, model.table.by_path
    for row in model.architecture.table(config):
        params[row.path] = jnp.zeros(row.shape)
        if row.path in arrays:
            index = np.ix_(*map(places, rows[row.path].axes))
            params[row.path] = params[row.path].at[index].set(arrays[row.path])
    return model.replace(config=config, params=unflatten(params))
