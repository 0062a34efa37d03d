"""The alphabet of dimensions and the array types that every other module speaks.

One letter means one thing everywhere: in the suffixes of tensor names (`scores_BHLM`), in jaxtyping
annotations (`Float[Array, "B L D"]`) and in the parameter tables (`D -> H K`)."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, Shaped, UInt8, UInt32

Array = jax.Array | np.ndarray

DIMENSIONS: Mapping[str, str] = {
    "B": "batch",
    "L": "query length",
    "M": "key length",
    "D": "hidden",
    "Y": "hidden, as the output of a square product",
    "E": "embedding",
    "V": "vocabulary",
    "P": "positions",
    "T": "token types",
    "H": "heads",
    "K": "head size",
    "F": "feed-forward width",
    "S": "fused slots (query/key/value or gate/up)",
    "G": "groups",
    "W": "window or kernel width",
    "N": "layers",
    "C": "classes",
    "R": "relative positions",
    "U": "width within a bottleneck",
    "X": "what the hidden vector has beyond a word vector",
    "Z": "rank of a weight that is stored as two factors",
}

Params = dict[str, Any]
"""A nested dict of parameter arrays; its "/"-joined paths are the rows of the architecture's table.
"""

Batch = Mapping[str, Array]
"""Arrays under Hugging Face's names: `input_ids`, `attention_mask`, `token_type_ids`,
`position_ids`, `labels`.
"""

Gates = Mapping[str, Array]
"""Soft multipliers by axis instance, for example `{"layer_3/heads": [H], "layer_3/ffn": [F]}`,
and of whole layers by name, `{"layer_3": []}`; absent means ones.
"""

Shared = Mapping[str, Array]
"""What all layers of an encoder read and is computed once: who may attend to whom, "mask", and the
like of rotation tables or distances.
"""

Words = Float[Array, "V E"] | tuple[Float[Array, "V Z"], Float[Array, "Z E"]]
"""The vectors of all words, or two factors whose product they are."""

Scores = Mapping[str, Array]
"""Importance by axis instance, shaped like `Gates`."""

Keep = Mapping[str, np.ndarray]
"""Indices kept by axis instance, sorted; an absent instance is kept whole."""

Aux = PyTree
"""What an objective learns besides the student (projections); `{}` for most."""

__all__ = [
    "DIMENSIONS",
    "Array",
    "Aux",
    "Batch",
    "Bool",
    "Float",
    "Gates",
    "Int",
    "Keep",
    "Params",
    "PyTree",
    "Scores",
    "Shaped",
    "Shared",
    "UInt8",
    "UInt32",
    "Words",
]
