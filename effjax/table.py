"""The parameter table: one row per array of a model, from which everything structural is read.

Conversion from and to Hugging Face, structural shrinking, initialisation, weight-decay masks,
parameter counts and FLOPs all come from the rows; none of them knows an architecture. An
architecture writes its table with `linear`,
`norm` and `embedding`, which read like the layers they describe:

    D, H, K = Axis("D", 768, "hidden"), Axis("H", 12, "layer_0/heads"), Axis("K", 64)
    linear("layer_0/attention/query", (D,), (H, K), hf="encoder.layer.0.attention.self.query")
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

Role = Literal["kernel", "bias", "scale", "embedding"]
Use = Literal["token", "sequence", "relative", "lookup", "none"]


@dataclass(frozen=True)
class Axis:
    """One axis of an array: its letter, its size, and which prunable thing it is an instance of.

    Rows that share an `instance` ("hidden", "layer_3/heads", "layer_3/ffn", "vocabulary") shrink
    together; None is an axis of which nobody would ask that. `fixed` says why one cannot shrink."""

    letter: str
    size: int
    instance: str | None = None
    fixed: str = ""


@dataclass(frozen=True)
class Row:
    """One parameter: where it lives here and in Hugging Face, what its axes mean, how often it is
    used.

    Attributes:
        path: its path in the params, joined by "/".
        role: what it does; only kernels and embeddings decay.
        axes: its axes, in the order of the array.
        contracts: how many leading axes a product sums over; 0 for anything but a kernel.
        hf: its Hugging Face name with the base prefix ("bert."), then other names accepted on
            reading.
        hf_axes: the axes as Hugging Face stores them, an einops pattern such as "(H K) D".
        copies: names under which Hugging Face stores the same array once more; written too.
        uses: for each matrix product it takes part in "token", "sequence" or "relative": once per
            token, per sequence, or per relative position whatever the batch; "lookup" for an
            embedding read by index; "none" for what is added or scaled.
        whole: why a kernel cannot be stored as two factors, where it cannot.
    """

    path: str
    role: Role
    axes: tuple[Axis, ...]
    contracts: int
    hf: tuple[str, ...]
    hf_axes: str
    uses: tuple[Use, ...]
    copies: tuple[str, ...] = ()
    whole: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """The shape that Hugging Face stores: "(H K) D" is [heads x head size, hidden], and "D 1"
        is [hidden, 1].
        """
        groups, sizes = re.findall(r"\(([^)]*)\)|(\S+)", self.hf_axes), {**self.sizes, "1": 1}
        return tuple(math.prod(sizes[a] for a in (many or one).split()) for many, one in groups)

    @property
    def rank(self) -> int:
        """That of the weight that this is a factor of; 0 for one that is whole."""
        return self.sizes.get("Z", 0)

    @property
    def letters(self) -> str:
        """The axes as an einops pattern in the order of the array, "D H K"."""
        return " ".join(axis.letter for axis in self.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """The size behind each letter, as einops wants them."""
        return {axis.letter: axis.size for axis in self.axes}

    def __str__(self) -> str:
        left, right = self.axes[: self.contracts], self.axes[self.contracts :]
        text = " ".join(axis.letter for axis in right)
        return f"{' '.join(axis.letter for axis in left)} -> {text}" if left else text


class Table:
    """The rows of one model, in the order in which the model is read."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Rows with an empty axis are left out: there is no array.

        Raises:
            ValueError: two rows share a path.
        """
        self.rows = tuple(row for row in rows if row.size)
        paths = [row.path for row in self.rows]
        if len(set(paths)) != len(paths):
            raise ValueError(
                f"parameter paths are not unique: {sorted(p for p in paths if paths.count(p) > 1)}"
            )

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def by_path(self) -> dict[str, Row]:
        return {row.path: row for row in self.rows}

    @cached_property
    def instances(self) -> dict[str, int]:
        """Every axis instance that can be shrunk, with its size."""
        return {
            axis.instance: axis.size
            for row in self.rows
            for axis in row.axes
            if axis.instance is not None and axis.instance not in self.fixed
        }

    @cached_property
    def fixed(self) -> dict[str, str]:
        """Why every other axis instance cannot."""
        fixed = (axis for row in self.rows for axis in row.axes if axis.fixed)
        return {axis.instance: axis.fixed for axis in fixed if axis.instance is not None}

    @property
    def num_params(self) -> int:
        return sum(row.size for row in self.rows)


def linear(
    path: str,
    inputs: tuple[Axis, ...],
    outputs: tuple[Axis, ...],
    *,
    hf: str,
    use: Use = "token",
    bias: bool = True,
    hf_axes: str | None = None,
) -> list[Row]:
    """The kernel `inputs -> outputs` and the bias of a linear layer.

    Args:
        hf_axes: how Hugging Face stores the kernel, where that is not torch's [out, in].
    """
    source = " ".join(axis.letter for axis in inputs)
    target = " ".join(axis.letter for axis in outputs)
    pattern = hf_axes or f"({target}) ({source})"
    kernel = Row(
        f"{path}/kernel",
        "kernel",
        inputs + outputs,
        len(inputs),
        (f"{hf}.weight",),
        pattern,
        (use,),
    )
    return [kernel, *(vector(f"{path}/bias", "bias", outputs, hf=f"{hf}.bias") if bias else [])]


def grouped(
    path: str, inputs: Axis, outputs: Axis, groups: int, *, hf: str, hf_axes: str
) -> list[Row]:
    """The kernel [groups, inputs / groups, outputs / groups] and the bias of a `GroupedLinear`.

    Args:
        hf_axes: how Hugging Face stores the kernel, with the letters G, I and O.
    """
    fixed = f"its {groups} groups tie what it reads to what it gives"
    axes = tuple(
        Axis(letter, size, axis.instance, axis.fixed or fixed)
        for letter, size, axis in (
            ("I", inputs.size // groups, inputs),
            ("O", outputs.size // groups, outputs),
        )
    )
    kernel = (Axis("G", groups), *axes)
    name = (f"{hf}.weight",)
    return [
        Row(f"{path}/kernel", "kernel", kernel, 2, name, hf_axes, ("token",), whole=fixed),
        *vector(f"{path}/bias", "bias", (outputs,), hf=f"{hf}.bias"),
    ]


def vector(
    path: str,
    role: Role,
    axes: tuple[Axis, ...],
    *,
    hf: str,
    aliases: tuple[str, ...] = (),
    copies: tuple[str, ...] = (),
) -> list[Row]:
    """A bias or a scale, one-dimensional in Hugging Face."""
    letters = " ".join(axis.letter for axis in axes)
    return [Row(path, role, axes, 0, (hf, *aliases), f"({letters})", ("none",), copies)]


def norm(path: str, axis: Axis, *, hf: str, bias: bool = True) -> list[Row]:
    """Scale and, where it has one, bias of a norm; checkpoints of TensorFlow's days name them gamma
    and beta.
    """
    scale = vector(f"{path}/scale", "scale", (axis,), hf=f"{hf}.weight", aliases=(f"{hf}.gamma",))
    if not bias:
        return scale
    beta = (f"{hf}.beta",)
    return [*scale, *vector(f"{path}/bias", "bias", (axis,), hf=f"{hf}.bias", aliases=beta)]


def embedding(
    path: str,
    index: Axis,
    width: Axis,
    *,
    hf: str,
    aliases: tuple[str, ...] = (),
    uses: tuple[Use, ...] = ("lookup",),
) -> list[Row]:
    """An embedding table [index, width]; `uses` gains "token" where it is also an output
    projection.
    """
    axes = (index, width)
    return [Row(path, "embedding", axes, 0, (hf, *aliases), f"{index.letter} {width.letter}", uses)]


def in_factors(rows: Iterable[Row], ranks: Mapping[str, int]) -> list[Row]:
    """The rows with two factors in place of each weight that has a rank, by its path. One of which
    no axis is left has none.
    """
    return [
        part
        for row in rows
        for part in (factors(row, ranks[row.path]) if row.size and row.path in ranks else (row,))
    ]


def factors(row: Row, rank: int) -> tuple[Row, Row]:
    """W = L R: the rows of L [inputs, Z] and R [Z, outputs].

    Hugging Face has no names for them; these are those of effjax's own code for torch, in torch's
    [out, in].

    Raises:
        ValueError: the row cannot be stored so.
    """
    if why := undivided(row):
        raise ValueError(f"{row.path} cannot be two factors: {why}")
    count, Z = row.contracts or 1, Axis("Z", rank)
    inputs, outputs = row.axes[:count], row.axes[count:]
    order = re.findall(r"[A-Z]", row.hf_axes)
    source, target = (
        " ".join(letter for letter in order if letter in [axis.letter for axis in axes])
        for axes in (inputs, outputs)
    )
    stem, hf = row.path.rpartition("/")[0], row.hf[0].removesuffix(".weight")
    pattern = f"{source} Z" if row.role == "embedding" else f"Z ({source})"
    left = replace(row, path=f"{stem}/left", axes=(*inputs, Z), hf=(f"{hf}.left",), hf_axes=pattern)
    right = Row(
        f"{stem}/right", "kernel", (Z, *outputs), 1, (f"{hf}.right",), f"({target}) Z", row.uses
    )
    return left, right


def undivided(row: Row) -> str:
    """Why a row cannot be stored as two factors; nothing where it can."""
    words = row.role == "embedding" and row.axes[0].instance == "vocabulary"
    if row.rank:
        return f"it is one already, of rank {row.rank}"
    if row.role == "kernel" or (words and "lookup" in row.uses):
        return row.whole
    return "it is no kernel and no word embedding"
