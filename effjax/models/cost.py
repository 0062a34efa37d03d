"""What a forward pass costs, from config and parameter table alone: no weights, no compiler.

FLOPs are counted as XLA's cost analysis counts them in the program that JAX hands to it for
`Runtime.plain()`: a multiplication, an addition, a maximum, a comparison and a selection are one
each, and a reduction of n numbers takes n - 1. XLA's count of the compiled program is the same to
0.2% for published sizes; at a hidden size of some thirty and few tokens it is up to a fifth higher,
because the compiler then computes cheap things twice rather than store them.

Not counted: exp, tanh and rsqrt, which XLA lists apart as transcendentals; casts, transposes, and
the arithmetic on token ids and positions; the activation of a pooler or a classifier, once per
sequence; dropout and all else that only training does. Padding is computed, and counts, like any
other token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from effjax.models.base import Activation, EncoderConfig, LayerSpec
from effjax.table import Row, Table, Use

ACTIVATION_FLOPS: Mapping[Activation, int] = {"gelu": 4, "gelu_new": 8, "relu": 1, "silu": 4}
"""Per number; erf, exp and tanh count as transcendentals, not here."""

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one model costs for `batch` sequences of `length` tokens.

    Attributes:
        params: all parameters, embeddings included; an array used twice counts once.
        bytes: what the parameters take in float32.
        flops: of one forward pass, matrix products and element-wise operations.
        product_flops: of its matrix products alone, which is what papers mostly print.
    """

    batch: int
    length: int
    params: int
    bytes: int
    flops: int
    product_flops: int

    def __str__(self) -> str:
        return (
            f"{self.params:,} parameters, {self.bytes / 1e6:,.1f} MB in float32, "
            f"{self.flops / 1e9:,.2f} GFLOPs for {self.batch} x {self.length} tokens "
            f"({self.product_flops / 1e9:,.2f} in matrix products)"
        )


def cost_of(table: Table, config: EncoderConfig, *, batch: int, length: int) -> Cost:
    """The cost of a model with this table and config.

    Args:
        batch: sequences; in multiple choice every choice is one.
        length: tokens in each.
    """
    times = {"token": batch * length, "sequence": batch}
    products = sum(2 * row.size * times[use] for row in table for use in row.uses if use in times)
    products += batch * sum(attention_products(s, config.head_size, length) for s in config.layers)
    elementwise = sum(row_elementwise(row) * times[position(row, table)] for row in table)
    elementwise += times["token"] * sum(layer_elementwise(s, config) for s in config.layers)
    elementwise += times["token"] * around_elementwise(table, config)
    elementwise += batch * sum(attention_elementwise(s, length) for s in config.layers)
    return Cost(
        batch=batch,
        length=length,
        params=table.num_params,
        bytes=FLOAT32_BYTES * table.num_params,
        flops=products + elementwise,
        product_flops=products,
    )


def position(row: Row, table: Table) -> Use:
    """Whether a row acts once per token or once per sequence; a bias acts where its kernel does."""
    kernel = table.by_path.get(row.path.removesuffix("bias") + "kernel", row)
    return "sequence" if "sequence" in kernel.uses else "token"


def row_elementwise(row: Row) -> int:
    """Element-wise operations of one row, each time that it acts.

    A bias is added. A scale stands for its whole norm but the bias: two means of D numbers (D - 1
    additions and a division each), a subtraction, a square, two products, and epsilon added once.
    A lookup checks its index for every number read, and the result is added to the others.
    """
    if row.role == "bias":
        return row.size
    if row.role == "scale":
        return 6 * row.size + 1
    return 2 * row.axes[-1].size if "lookup" in row.uses else 0


def attention_products(spec: LayerSpec, head_size: int, length: int) -> int:
    """FLOPs of Q K^T and of weights times V, for one sequence."""
    return 4 * spec.heads * length * length * head_size


def attention_elementwise(spec: LayerSpec, length: int) -> int:
    """Operations on the scores of one sequence.

    Six per score: the division by sqrt(K), the mask, and the softmax's maximum, subtraction, sum
    and division. In every row of scores maximum and sum take one less, and the maximum is compared
    with -inf once more.
    """
    return spec.heads * length * (6 * length - 1)


def layer_elementwise(spec: LayerSpec, config: EncoderConfig) -> int:
    """Per token: two residual additions, and the activation of the feed-forward network."""
    return 2 * config.hidden + spec.ffn * ACTIVATION_FLOPS[config.activation]


def around_elementwise(table: Table, config: EncoderConfig) -> int:
    """Per token, outside the layers: the first embedding is not added; a masked-LM head activates.

    That head is the one whose square product, D -> Y, acts on every token.
    """
    transforms = [row for row in table if str(row) == "D -> Y" and "token" in row.uses]
    width = sum(row.axes[-1].size for row in transforms)
    return width * ACTIVATION_FLOPS[config.activation] - config.hidden
