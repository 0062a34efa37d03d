"""Movement pruning: weights, or blocks of them, are kept that move away from zero.

    movement = Movement(sparsity=0.9, block=(32, 32))
    fitted = fit(model, encoded, objective, training, reparam=movement, ...)
    sparse = masked(fitted.model, movement.masks(fitted.learned, fitted.model))
    small = shrink(sparse, needed(sparse))

Every block of weights has a score S, and the mask M(S) of the forward pass counts as S on the way
back, so that dL/dS is the sum of dL/dW' * W over the block.

Sources: arXiv 2005.07683, single weights; arXiv 2109.04838, blocks. Deviations: blocks are of one
size in all kernels, where the latter has rows and columns of feed-forward networks beside blocks of
attention; those at the edge of a matrix are smaller.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from effjax.prune.gradual import ScheduledSparsity, WeightMasks, cubic
from effjax.prune.masks import maskable, matrices
from effjax.prune.sparsity import compared
from effjax.table import Row, Table
from effjax.types import Array, Aux, Float

Block = tuple[int, int]
"""Inputs and outputs of a block of a kernel, as the matrix [inputs, outputs]."""


@dataclass(frozen=True, kw_only=True)
class Movement(ScheduledSparsity):
    """Masks of the highest S, which begins at 0.

    Source: arXiv 2005.07683, section 4, "hard" movement pruning: Top_v(S) of every matrix, or with
    `within="model"` of all.

    Attributes:
        block: weights that share a score; the sparsity is that of blocks.
    """

    block: Block = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block(type(self).__name__, self.block)

    def init(self, key: jax.Array, table: Table) -> Aux:
        """The scores of every kernel's blocks.

        Raises:
            ValueError: m does not divide the blocks along the inputs of a kernel, which is named.
        """
        del key
        scores = zero_scores(table, self.block)
        for path, score in scores.items():
            compared(path, score.shape, self.within)
        return scores

    def at(
        self, learned: Aux, arrays: Mapping[str, Array], table: Table, progress: Array | float
    ) -> dict[str, Array]:
        del arrays
        return over_weights(self.kept(learned, progress), learned, table, self.block)


@dataclass(frozen=True, kw_only=True)
class SoftMovement(WeightMasks):
    """Masks of sigma(S) > tau, with lambda sigma(S) in the loss; both tau and lambda rise from 0 as
    `cubic` says. How sparse the model becomes follows from lambda.

    Source: arXiv 2005.07683, section 4, "soft" movement pruning, and the released code for what
    rises and for the mean of sigma(S) over each matrix, then over all, where the paper has a sum.
    Deviation: no share of a matrix is kept whatever its scores.

    Attributes:
        weight: lambda.
        threshold: tau.
        block: weights that share a score.
    """

    weight: float | int
    threshold: float = 0.1
    block: Block = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block("SoftMovement", self.block)
        if not 0 < self.threshold < 1:
            raise ValueError(
                f"SoftMovement: threshold is {self.threshold}; expected above 0, below 1"
            )
        if self.weight < 0:
            raise ValueError(f"SoftMovement: weight is {self.weight}; expected 0 or more")

    def init(self, key: jax.Array, table: Table) -> Aux:
        """The scores of every kernel's blocks."""
        del key
        return zero_scores(table, self.block)

    def at(
        self, learned: Aux, arrays: Mapping[str, Array], table: Table, progress: Array | float
    ) -> dict[str, Array]:
        del arrays
        return over_weights(self.open(learned, progress), learned, table, self.block)

    def open(self, learned: Aux, progress: Array | float) -> dict[str, Array]:
        """1 for every block above the threshold."""
        threshold = self.threshold * self.risen(progress)
        return {
            path: (jax.nn.sigmoid(jax.lax.stop_gradient(x)) > threshold).astype(jnp.float32)
            for path, x in learned.items()
        }

    def risen(self, progress: Array | float) -> Float[Array, ""]:
        """The share of tau and of lambda."""
        return cubic(progress, final=1.0, begin=self.begin, end=self.end)

    def penalty(
        self, learned: Aux, table: Table, *, progress: Array | float
    ) -> tuple[Array | float, dict[str, Array]]:
        """lambda sigma(S), and the share of blocks that is zero."""
        del table
        means = jnp.stack([jax.nn.sigmoid(x).mean() for x in learned.values()])
        blocks = sum(x.size for x in learned.values())
        left = jnp.stack([x.sum() for x in self.open(learned, progress).values()]).sum()
        return self.weight * self.risen(progress) * means.mean(), {"sparsity": 1 - left / blocks}


def check_block(who: str, block: Block) -> None:
    """Raises a ValueError for a block of no weights."""
    if min(block) < 1:
        raise ValueError(f"{who}: block is {block}; expected 1 input and 1 output or more")


def zero_scores(table: Table, block: Block) -> dict[str, Float[Array, "_ _ _"]]:
    """A 0 for every block [groups, inputs / rows, outputs / columns] of every kernel."""
    rows, columns = block
    return {
        row.path: jnp.zeros((groups, -(-inputs // rows), -(-outputs // columns)))
        for row in maskable(table)
        for groups, inputs, outputs in [matrices(row)]
    }


def over_weights(
    masks: Mapping[str, Array], scores: Mapping[str, Array], table: Table, block: Block
) -> dict[str, Array]:
    """The masks of blocks as masks of weights, whose gradient goes to the scores."""
    return {
        path: spread(straight_through(mask, scores[path]), table.by_path[path], block)
        for path, mask in masks.items()
    }


def straight_through(
    mask: Float[Array, "_ _ _"], scores: Float[Array, "_ _ _"]
) -> Float[Array, "_ _ _"]:
    """The mask, with the gradient of the scores. Source: arXiv 1308.3432."""
    return mask + (scores - jax.lax.stop_gradient(scores))


def spread(x_GRC: Float[Array, "G R C"], row: Row, block: Block) -> Float[Array, "..."]:
    """What blocks have, for every weight of a kernel."""
    _, inputs, outputs = matrices(row)
    wide = jnp.repeat(jnp.repeat(x_GRC, block[0], 1), block[1], 2)
    return wide[:, :inputs, :outputs].reshape(row.shape)
