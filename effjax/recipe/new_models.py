"""New models of any architecture, for what they are to read."""

import jax

from effjax.models import create, registry
from effjax.models.base import Head, Runtime
from effjax.models.model import Model
from effjax.recipe.spec import NewModel


def new_model(
    new: NewModel,
    head: Head | None,
    *,
    vocab_size: int,
    pad_id: int,
    max_length: int,
    labels: tuple[str, ...] = (),
    key: jax.Array,
    runtime: Runtime | None = None,
) -> Model:
    """A model with random weights.

    Args:
        pad_id: the tokenizer's padding id.
        max_length: the longest example in tokens; there are positions for no more.
        labels: of the head, where it has any.
        runtime: `Runtime.auto()` if None.

    Raises:
        ValueError: there is no such architecture, size or field, or its sizes do not fit together.
    """
    architecture = registry.get(new.architecture)
    after_padding = architecture.constants.get("first_position") == "after-padding"
    sizes = {
        "vocab_size": vocab_size,
        "pad_token_id": pad_id,
        "positions": max_length + (pad_id + 1 if after_padding else 0),
        "hidden": new.hidden,
        "depth": new.layers,
        "heads": new.heads,
        "ffn": new.ffn,
        "dropout": new.dropout,
        "attention_dropout": new.dropout,
    }
    sizes = {name: x for name, x in sizes.items() if x is not None}
    if unknown := sorted(set(sizes) - set(architecture.fields)):
        raise ValueError(f"{new.architecture} has no {', '.join(unknown)} to be set")
    fields = {architecture.fields[name]: x for name, x in sizes.items()} | dict(new.fields)
    if labels:
        fields["id2label"] = dict(enumerate(labels))
    return create(new.architecture, size=new.size, head=head, key=key, runtime=runtime, **fields)
