"""Weights that are masked more and more while the model is trained.

pruning = GradualMagnitude(sparsity=0.9)
fitted = fit(model, encoded, objective, training, reparam=pruning, ...)
sparse = masked(fitted.model, pruning.masks(fitted.learned, fitted.model))
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.models.model import Model
from effjax.prune.masks import Masks, maskable, matrices
from effjax.prune.reparam import Reparam
from effjax.prune.sparsity import Within, check_sparsity, compared, strongest
from effjax.table import Table
from effjax.tree import flatten, unflatten
from effjax.types import Array, Aux, Float, Gates, Params


def cubic(
    progress: Array | float | int,
    *,
    initial: float | int = 0.0,
    final: float | int,
    begin: float | int,
    end: float | int,
) -> Float[Array, ""]:
    """s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3 from begin to end, flat before and after.

    Source: arXiv 1710.01878, section 3.

    Args:
        progress: the share of the training that is over.
        initial: s_i.
        final: s_f.
        begin: t_0, a share of the training.
        end: t_1, a share of the training.
    """
    left = 1 - jnp.clip((progress - begin) / (end - begin), 0, 1)
    return jnp.asarray(final + (initial - final) * left**3)


@dataclass(frozen=True, kw_only=True)
class WeightMasks(Reparam):
    """W' = W * M for every kernel inside a layer, with M of zeros and ones in every step anew.

    Where a mask has 0, W keeps its value, has no gradient, and may come back. During the training
    the model is evaluated without masks, as with any `Reparam`; `masks` gives those of its end.

    Attributes:
        begin: share of the training that is over when the first weights go.
        end: share that is over when the last ones have gone.
    """

    begin: float | int = 0.1
    end: float | int = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"{type(self).__name__}: begin is {self.begin}, end is {self.end}; expected "
                "0 <= begin < end <= 1"
            )

    def at(
        self, learned: Aux, arrays: Mapping[str, Array], table: Table, progress: Array | float
    ) -> dict[str, Array]:
        """The masks of one step by the path of the kernel, of 0 and 1."""
        raise NotImplementedError

    def apply(
        self,
        learned: Aux,
        params: Params,
        table: Table,
        *,
        progress: Array | float,
        key: jax.Array,
    ) -> tuple[Params, Gates]:
        del key
        arrays = flatten(params)
        masks = self.at(learned, arrays, table, progress)
        return unflatten(arrays | {path: arrays[path] * x for path, x in masks.items()}), {}

    def masks(self, learned: Aux, model: Model) -> Masks:
        """Those of the trained model."""
        masks = self.at(learned, flatten(model.params), model.table, 1.0)
        return {path: mask != 0 for path, mask in masks.items()}


@dataclass(frozen=True, kw_only=True)
class ScheduledSparsity(WeightMasks):
    """Masks of the highest scores, at a sparsity that rises from 0 as `cubic` says.

    Attributes:
        sparsity: share of the weights that is zero in the end.
        within: what the sparsity holds in; of m weights each whole number of them goes in turn.
    """

    sparsity: float | int
    within: Within = "matrix"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sparsity(type(self).__name__, self.sparsity, self.within)

    def sparsity_at(self, progress: Array | float) -> Float[Array, ""]:
        return cubic(progress, final=self.sparsity, begin=self.begin, end=self.end)

    def kept(
        self, scores: Mapping[str, Float[Array, "_ _ _"]], progress: Array | float
    ) -> dict[str, Float[Array, "_ _ _"]]:
        """1 for the highest scores, 0 for the others; no gradient."""
        fixed = jax.lax.stop_gradient(dict(scores))
        kept = strongest(fixed, self.sparsity_at(progress), self.within)
        return {path: mask.astype(jnp.float32) for path, mask in kept.items()}

    def penalty(
        self, learned: Aux, table: Table, *, progress: Array | float
    ) -> tuple[Array | float, dict[str, Array]]:
        """Nothing; the sparsity is shown."""
        del learned, table
        return 0.0, {"sparsity": self.sparsity_at(progress)}


@dataclass(frozen=True, kw_only=True)
class GradualMagnitude(ScheduledSparsity):
    """Masks of the largest |W|, n of m too: `GradualMagnitude(sparsity=0.5, within=4)`.

    Source: arXiv 1710.01878, section 3. Deviation: masks are chosen in every step.
    """

    def init(self, key: jax.Array, table: Table) -> Aux:
        """Nothing.

        Raises:
            ValueError: m does not divide the inputs of a kernel, which is named.
        """
        del key
        for row in maskable(table):
            compared(row.path, matrices(row), self.within)
        return {}

    def at(
        self, learned: Aux, arrays: Mapping[str, Array], table: Table, progress: Array | float
    ) -> dict[str, Array]:
        del learned
        rows = {row.path: row for row in maskable(table)}
        sizes = {path: jnp.abs(arrays[path]).reshape(matrices(x)) for path, x in rows.items()}
        kept = self.kept(sizes, progress)
        return {path: kept[path].reshape(row.shape) for path, row in rows.items()}
