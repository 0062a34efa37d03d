"""Students that begin as some of their teacher's layers."""

from collections.abc import Sequence

from effjax.models.depth import with_layers
from effjax.models.model import Model


def init_student(model: Model, layers: Sequence[int]) -> Model:
    """A model of the given layers of the teacher, in order, with its embedding, pooler and head.

    Arrays are shared with the teacher, not copied.

    Source: arXiv 1910.01108, section 3 ("Student initialization").

    Args:
        layers: the teacher's layers to keep, ascending, counted from 0.

    Raises:
        ValueError: as of `effjax.models.depth.with_layers`.
    """
    return with_layers(model, layers)
