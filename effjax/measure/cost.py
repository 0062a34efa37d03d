"""What a forward pass costs, counted in its program; nothing is compiled and no weight is read.

The program is that of `Runtime.plain()`, as JAX hands it to XLA, without what its outputs do not
need. FLOPs are counted as XLA's cost analysis does: a multiplication, an addition, a maximum, a
comparison and a selection are one each, and a reduction of n numbers takes n - 1; exp, tanh and
rsqrt are transcendentals, listed apart and not counted. XLA's count of the compiled program is the
same to 2% for published sizes. Padding is computed, and counts, like any other token. Positions
are given; dropout and all else that only training does is not there.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.interpreters import partial_eval

from effjax.measure.batch import check_shape, full_batch
from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Runtime
from effjax.models.model import Model, apply
from effjax.tree import unflatten

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


def cost(model: Model, *, batch: int = 1, length: int = 128) -> Cost:
    """Parameters, bytes and FLOPs of one forward pass.

    Args:
        batch: sequences; in multiple choice every choice is one.
        length: tokens in each.

    Raises:
        ValueError: the model cannot run that shape.
    """
    check_shape(model.config, batch, length)
    forward = program(model.architecture, model.config, batch=batch, length=length)
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in forward.in_avals]
    analysis = jax.jit(jaxpr_as_fun(forward)).lower(*given).cost_analysis()
    assert isinstance(analysis, dict)  # one device, one analysis
    return Cost(
        batch=batch,
        length=length,
        params=model.num_params,
        bytes=FLOAT32_BYTES * model.num_params,
        flops=int(analysis["flops"]),
        product_flops=products(forward.jaxpr),
    )


def program(
    architecture: Architecture, config: EncoderConfig, *, batch: int, length: int
) -> ClosedJaxpr:
    """The plain forward pass from parameters and a batch to the light outputs."""
    module = architecture.build(config, Runtime.plain())
    rows = architecture.table(config)
    params = unflatten({row.path: jax.ShapeDtypeStruct(row.shape, jnp.float32) for row in rows})
    inputs = full_batch(config, batch=batch, length=length)
    inputs = {**inputs, "position_ids": inputs["input_ids"]}
    traced = jax.make_jaxpr(lambda params, batch: apply(module, params, batch).light())
    whole = traced(params, inputs)
    needed, _ = partial_eval.dce_jaxpr(whole.jaxpr, [True] * len(whole.out_avals), instantiate=True)
    return ClosedJaxpr(needed, whole.consts)


def products(jaxpr: Jaxpr) -> int:
    """The FLOPs of all matrix products and convolutions: two per multiplication."""
    return sum(map(flops_of, jaxpr.eqns))


def flops_of(equation: JaxprEqn) -> int:
    """Those of one operation of a program, or of the programs inside it."""
    params, name = equation.params, equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        into_one = math.prod(shape(equation.invars[0])[i] for i in contracted)
        return 2 * math.prod(shape(equation.outvars[0])) * into_one
    if name == "conv_general_dilated":
        kernel, outputs = shape(equation.invars[1]), params["dimension_numbers"].rhs_spec[0]
        into_one = math.prod(kernel) // kernel[outputs]
        return 2 * math.prod(shape(equation.outvars[0])) * into_one
    inner = sum(map(products, jaxprs_in(params)))
    return inner * params["length"] if name == "scan" else inner


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of what an operation reads or gives."""
    return variable.aval.shape


def jaxprs_in(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs that an operation runs."""
    closed = [value.jaxpr for value in params.values() if isinstance(value, ClosedJaxpr)]
    return closed + [value for value in params.values() if isinstance(value, Jaxpr)]


def file_size(model: Model) -> int:
    """Bytes of the model as one float32 safetensors file: a header, then the arrays."""
    prefix = "" if model.config.head else model.architecture.hf_prefix
    names = {name: row for row in model.table for name in (row.hf[0], *row.copies)}
    end, header = 0, dict[str, Any](__metadata__={"format": "pt"})
    for name, row in sorted(names.items()):
        begin, end = end, end + FLOAT32_BYTES * row.size
        entry = {"dtype": "F32", "shape": list(row.hf_shape), "data_offsets": [begin, end]}
        header[name.removeprefix(prefix)] = entry
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + end  # the header's length comes first; it is padded to eights
