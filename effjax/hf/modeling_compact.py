"""A stock model of transformers whose layers have sizes of their own. Written by effjax.

    AutoModel.from_pretrained(folder, trust_remote_code=True)

The class is that of transformers, with smaller arrays: `compact` in config.json has the shape of
every array that is smaller than the stock one, and the rank of every weight that is two factors.
Where a layer has no heads or no units left, there is one of zeros, which is in no file.
"""

from typing import Any

import torch
import transformers
from torch import nn

COUNTS = ("num_attention_heads", "n_heads", "num_heads")
"""What modules of transformers call their number of heads."""


class Zeros(nn.Module):
    """The product with a matrix of zeros, and its bias where it has one."""

    def __init__(self, size: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.size, self.bias = size, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.new_zeros(*x.shape[:-1], self.size)
        return y if self.bias is None else y + self.bias


class TwoFactors(nn.Module):
    """A linear layer or an embedding of weight right @ left, [out, in]; for an embedding left is
    [words, rank].
    """

    def __init__(self, whole: Any, rank: int) -> None:
        super().__init__()
        self.lookup, old = isinstance(whole, nn.Embedding), whole.weight
        rows, columns = old.shape
        shapes = ((rows, rank), (columns, rank)) if self.lookup else ((rank, columns), (rows, rank))
        self.left, self.right = (
            nn.Parameter(torch.empty(shape, dtype=old.dtype, device=old.device)) for shape in shapes
        )
        self.bias = getattr(whole, "bias", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrow = (nn.functional.embedding if self.lookup else nn.functional.linear)(x, self.left)
        return nn.functional.linear(narrow, self.right, self.bias)


def resize(model: nn.Module, compact: dict[str, Any]) -> None:
    """Gives every array its shape, and every attention its number of heads, after the weights that
    are two factors became two.
    """
    for path, rank in compact["factors"].items():
        model.set_submodule(path, TwoFactors(model.get_submodule(path), rank))
    zeros = set(compact["zeros"])
    for name, shape in compact["shapes"].items():
        path, _, kind = name.rpartition(".")
        module = model.get_submodule(path)
        if isinstance(module, Zeros):
            continue
        if name in zeros and isinstance(module, nn.Linear):
            bias = None if f"{path}.bias" in zeros else module.bias
            model.set_submodule(path, Zeros(shape[0], bias))
            continue
        old = getattr(module, kind)
        delattr(module, kind)
        if name in zeros:
            module.register_buffer(kind, torch.zeros(shape, dtype=old.dtype), persistent=False)
        else:
            array = torch.empty(shape, dtype=old.dtype, device=old.device)
            setattr(module, kind, nn.Parameter(array))
        if kind == "weight" and isinstance(module, nn.Linear):
            module.out_features, module.in_features = shape
        if isinstance(module, nn.Conv1d) and len(old) == module.groups:
            module.groups = shape[0]
        if isinstance(module, nn.LayerNorm):
            module.normalized_shape = tuple(shape)
    for path, heads in compact["heads"].items():
        module = model.get_submodule(path)
        for count in COUNTS:
            if hasattr(module, count):
                setattr(module, count, heads)
        if hasattr(module, "all_head_size"):
            module.all_head_size = heads * module.attention_head_size


def __getattr__(name: str) -> type:
    """The compact class of a stock one: CompactBertModel of BertModel."""
    if not name.startswith("Compact"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stock = getattr(transformers, name.removeprefix("Compact"))

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        stock.__init__(self, config, *args, **kwargs)
        resize(self, config.compact)

    made = type(name, (stock,), {"__init__": __init__, "__module__": __name__})
    return globals().setdefault(name, made)
