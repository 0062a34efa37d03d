"""What a distillation objective is: a pure function from outputs to un-reduced, weighted values."""

import abc
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from effjax.layers.local import full_mask
from effjax.models.base import EncoderConfig, Outputs
from effjax.models.encoder import attention_mask, is_token
from effjax.types import Array, Aux, Batch, Bool, Float, Shaped

EXAMPLE_MASK = "example_mask"
"""The batch's field with a weight per example, [B]; 0 for rows that only fill up a batch."""

EXCLUDED = -1e30
"""The logit of what a distribution leaves out: its probability is exactly 0."""

PER_TOKEN = ("hidden", "q", "k", "v", "scores")
"""What of a teacher's outputs there is one of for every token, or pair of them."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """Losses per example, token or layer pair, and how much each counts; both of one shape."""

    values: Float[Array, "..."]
    weights: Float[Array, "..."]

    def mean(self, total: Array | None = None) -> Float[Array, ""]:
        """sum(w v) / sum(w) in float32; 0 where every weight is 0.

        Args:
            total: sum(w), where it is not of these values alone: over the parts of a batch, the
                results then add up to the mean of the whole.
        """
        weights = self.weights.astype(jnp.float32)
        # A weight of 0 must win over a value that is infinite or not a number.
        weighted = jnp.where(weights > 0, self.values.astype(jnp.float32), 0.0) * weights
        total = self.total() if total is None else total
        return weighted.sum() / jnp.where(total > 0, total, 1.0)

    def total(self) -> Float[Array, ""]:
        """sum(w) in float32."""
        return self.weights.astype(jnp.float32).sum()


@dataclass(frozen=True)
class Needs:
    """What an objective reads of its teacher, so that a cached teacher keeps no more.

    Attributes:
        logits: whether the logits are read.
        sentence: whether the mean of the last hidden states is read.
        hidden: hidden states read, numbered as in `Outputs.hidden`; ascending.
        q, k, v, scores: layers whose queries, keys, values or scores are read, numbered as in
            `Outputs.of_layer`; ascending.
    """

    logits: bool = False
    sentence: bool = False
    hidden: tuple[int, ...] = ()
    q: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    v: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()

    def __or__(self, other: "Needs") -> "Needs":
        def union(name: str) -> tuple[int, ...]:
            return tuple(sorted({*getattr(self, name), *getattr(other, name)}))

        return Needs(
            self.logits or other.logits,
            self.sentence or other.sentence,
            **{name: union(name) for name in PER_TOKEN},
        )

    def reads(self, name: str, layer: int) -> bool:
        """Whether this is among it; of logits and sentence embeddings there is layer 0 alone."""
        if name in PER_TOKEN:
            return layer in getattr(self, name)
        return {"logits": self.logits, "sentence": self.sentence}[name]

    @property
    def per_token(self) -> tuple[str, ...]:
        """What is read token by token, for which both models have to read the same tokens."""
        return tuple(name for name in PER_TOKEN if getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an objective reads besides the student's outputs.

    Attributes:
        teacher: the outputs of its teacher; empty for an objective without one.
        batch: what both were run on; `example_mask` [B], where present, weighs the examples.
        aux: what its `init` returned, or what training made of it.
        progress: the share of the training that is over, from 0 to 1.
        key: for objectives that draw random numbers.
    """

    teacher: Outputs = field(default_factory=Outputs)
    batch: Batch = field(default_factory=dict)
    aux: Aux = field(default_factory=dict)
    progress: float | Array = 0.0
    key: jax.Array | None = None


class Objective(abc.ABC):
    """A loss of the student; a frozen dataclass that prints as its hyper-parameters.

    Attributes:
        teacher: the name of the teacher that it reads, None for an objective without one.
    """

    teacher: str | None = None

    @abc.abstractmethod
    def __call__(self, student: Outputs, given: Given) -> Term:
        """The un-reduced values and their weights, of the student's outputs with traces."""

    def init(self, key: jax.Array, student: EncoderConfig, teacher: EncoderConfig | None) -> Aux:
        """The objective's own parameters; most have none."""
        del key, student, teacher
        return {}

    def needs(self, student: EncoderConfig, teacher: EncoderConfig | None) -> Needs:
        """What it reads of its teacher; nothing, unless a subclass says so."""
        del student, teacher
        return Needs()


def known(teacher: EncoderConfig | None) -> EncoderConfig:
    """The teacher's config; a ValueError where there is none."""
    if teacher is None:
        raise ValueError("an objective over hidden states needs the teacher's config")
    return teacher


def check_widths(who: str, ours: int, theirs: int) -> None:
    """Raises a ValueError for hidden states of two widths."""
    if ours != theirs:
        raise ValueError(
            f"{who}: the student's hidden states have {ours} numbers, the teacher's {theirs}; "
            "an objective with a projection, such as HiddenMSE(project=True), takes both"
        )


def logits(outputs: Outputs, whose: str) -> Float[Array, "..."]:
    """The logits in float32.

    Raises:
        ValueError: the outputs have none.
    """
    if outputs.logits is None:
        raise ValueError(f"the {whose} has no logits: it has no head, or they were not kept")
    return outputs.logits.astype(jnp.float32)


def example_weights(batch: Batch, rows: int) -> Float[Array, "B"]:
    """One weight per example of the outputs; in multiple choice every choice is one."""
    if EXAMPLE_MASK not in batch:
        return jnp.ones(rows)
    weights = jnp.asarray(batch[EXAMPLE_MASK], jnp.float32)
    if not weights.size or rows % weights.size:
        raise ValueError(
            f"{EXAMPLE_MASK} has {weights.size} examples, the outputs have {rows} rows"
        )
    return jnp.repeat(weights, rows // weights.size)


def at_predicted(
    x_BL: Shaped[Array, "B L"], batch: Batch, fill: int | float
) -> Shaped[Array, "B P"]:
    """What there is at the tokens that the batch asks to predict; at all, if it names none."""
    if "predicted" not in batch:
        return x_BL
    return jnp.take_along_axis(x_BL, batch["predicted"], axis=1, mode="fill", fill_value=fill)


def neighbours(student: Outputs, batch: Batch, reach: int | None = None) -> Bool[Array, "B 1 #L L"]:
    """Which keys each query may see: the tokens of its own example.

    Args:
        reach: of a local layer, which sees only those at most so many places away.

    Raises:
        ValueError: nothing says where there are tokens.
    """
    if "segment_ids" in batch:
        fields = {"segment_ids": jnp.asarray(batch["segment_ids"])}
    elif student.mask is not None:
        fields = {"attention_mask": student.mask}
    else:
        raise ValueError("attention is compared within a mask, and the student's outputs lack it")
    if reach is None:
        return attention_mask(fields)
    return full_mask(is_token(fields), fields.get("segment_ids"), reach)


def token_weights(outputs: Outputs, batch: Batch, shape: tuple[int, ...]) -> Float[Array, "B L"]:
    """The weight of every token of outputs of shape [B, L]: 0 for padding, else its example's."""
    if "segment_ids" in batch:
        segments = jnp.asarray(batch["segment_ids"])
        weights = example_weights(batch, len(batch["starts"]))
        return jnp.where(segments > 0, weights[jnp.maximum(segments - 1, 0)], 0.0)
    rows, length = shape
    examples = jnp.broadcast_to(example_weights(batch, rows)[:, None], (rows, length))
    return examples if outputs.mask is None else examples * outputs.mask.astype(jnp.float32)
