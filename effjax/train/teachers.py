"""The teachers of a training: run in every step, or with outputs that are known."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from effjax.data.encode import Encoded
from effjax.data.layouts import Batch
from effjax.data.masking import Masking
from effjax.distill import Needs, Weighted
from effjax.models.base import EncoderConfig, Outputs
from effjax.models.model import Model
from effjax.train.mesh import gathered
from effjax.train.step import Part


@runtime_checkable
class KnownTeacher(Protocol):
    """A teacher that says by itself what its outputs for a batch are, such as `CachedOutputs`, and
    raises a ValueError in `check` for training examples that it has none for.
    """

    @property
    def config(self) -> EncoderConfig: ...

    @property
    def digest(self) -> str:
        """What tells its outputs from others."""
        ...

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Outputs: ...

    def only(self, needs: Needs) -> "KnownTeacher": ...

    def check(self, name: str, encoded: Encoded, *, masked: bool) -> None: ...


def told_apart(
    teachers: Mapping[str, Model | KnownTeacher], objective: Weighted, student: EncoderConfig
) -> tuple[dict[str, Model], dict[str, KnownTeacher]]:
    """The teachers that are run in every step; and those whose outputs are known, with no more of
    them than the objective reads.
    """
    needs = objective.needs(student, {name: x.config for name, x in teachers.items()})
    run = {name: x for name, x in teachers.items() if isinstance(x, Model)}
    known = {name: x for name, x in teachers.items() if not isinstance(x, Model)}
    return run, {name: x.only(needs.get(name, Needs())) for name, x in known.items()}


def learned_from(
    encoded: Encoded, teachers: Mapping[str, Model | KnownTeacher]
) -> dict[str, str | dict[str, str]]:
    """Examples, labels and teachers by digests, to tell a training that goes on from another."""
    whole = {
        name: x.replace(params=gathered(x.params)) if isinstance(x, Model) else x
        for name, x in teachers.items()
    }
    labels = b"" if encoded.labels is None else encoded.labels.tobytes()
    return {
        "examples": encoded.digest,
        "labels": hashlib.sha256(labels).hexdigest(),
        "teachers": {name: x.digest for name, x in whole.items()},
    }


def taught(parts: Iterable[Batch], known: Mapping[str, KnownTeacher]) -> tuple[Part, ...]:
    """Micro-batches with what the known teachers say of them."""
    return tuple((part, {name: teacher(part) for name, teacher in known.items()}) for part in parts)


def check_readers(
    model: Model,
    teachers: Mapping[str, Model | KnownTeacher],
    encoded: Encoded,
    masking: Masking | None,
) -> None:
    """Raises a ValueError for examples that the model or a teacher cannot read, or that a teacher's
    outputs are not of.
    """
    check_reads("this model", model, encoded)
    for name, teacher in teachers.items():
        if isinstance(teacher, Model):
            check_reads(f"teacher {name!r}", teacher, encoded)
        else:
            teacher.check(f"teacher {name!r}", encoded, masked=masking is not None)


def check_reads(name: str, model: Model, encoded: Encoded) -> None:
    """Raises a ValueError for examples with more tokens, or others, than a model can read."""
    if (longest := int(encoded.lengths.max())) > model.config.max_length:
        raise ValueError(
            f"the longest training example has {longest} tokens; {name} has positions for "
            f"{model.config.max_length}"
        )
    if (last := int(encoded.input_ids.max())) >= model.config.vocab_size:
        raise ValueError(
            f"the training examples hold token {last}; the vocabulary of {name} has 0 to "
            f"{model.config.vocab_size - 1}"
        )
