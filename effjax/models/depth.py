"""Models of some of another's layers."""

from collections.abc import Mapping, Sequence

from effjax.models.base import EncoderConfig
from effjax.models.model import Model
from effjax.tree import flatten, unflatten


def with_layers(model: Model, layers: Sequence[int]) -> Model:
    """A model of the given layers of another, in order, with its embedding, pooler and head.

    Arrays are shared with the other model, not copied.

    Args:
        layers: those to keep, ascending, counted from 0.

    Raises:
        ValueError: there is no such layer, or the layers are not ascending.
    """
    depth, layers = model.config.num_layers, tuple(layers)
    if not layers or any(not 0 <= i < depth for i in layers):
        raise ValueError(f"layers {layers}: expected one at least, each from 0 to {depth - 1}")
    if list(layers) != sorted(set(layers)):
        raise ValueError(f"layers {layers}: expected ascending numbers without duplicates")
    config = model.config.replace(layers=tuple(model.config.layers[i] for i in layers))
    taken = [model.config.layer_names[i] for i in layers]
    source = dict(zip(config.layer_names, taken, strict=True))
    config = config.replace(ranks=moved_ranks(model.config, source))
    arrays, params = flatten(model.params), {}
    for row in model.architecture.table(config):
        first, slash, rest = row.path.partition("/")
        params[row.path] = arrays[source.get(first, first) + slash + rest]
    return model.replace(config=config, params=unflatten(params))


def moved_ranks(config: EncoderConfig, source: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """The ranks of a model whose layers are these of another's: the old name by the new one."""
    shared = [
        (path, rank)
        for path, rank in config.ranks
        if path.partition("/")[0] not in config.layer_names
    ]
    own = [
        (f"{new}/{rest}", rank)
        for new, old in source.items()
        for rest, rank in config.ranks_below(old).items()
    ]
    return tuple(sorted([*shared, *own]))
