"""config.json to `EncoderConfig` and back, driven by the names that the architecture declares."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Head, json_fields

TASK_FIELDS = (
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "architectures",
    "model_type",
    "dtype",
    "torch_dtype",
)
"""Fields of any config.json that are derived on the way back."""

PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
MAX_DEPTH = 1000
"""Layers; a config.json that asks for more is taken to be damaged, not to be tried."""

MAY_BE_ZERO = ("token_types", "pad_token_id")
"""Whole numbers that are not positive only."""


def config_from_hf(
    architecture: Architecture,
    fields: Mapping[str, Any],
    *,
    head: Head | None = None,
    where: str = "config.json",
) -> EncoderConfig:
    """The config that the fields of a config.json describe, with the given head.

    Raises:
        ValueError: fields are missing, of the wrong type, or ask for what is not supported.
    """
    fields = architecture.today({**architecture.defaults, **fields})
    for name, value in architecture.requires.items():
        if fields.get(name, value) != value:
            raise ValueError(
                f"{where}: {name} is {fields[name]!r}; "
                f"{architecture.name} is supported with {value!r} only"
            )
    missing = sorted(set(architecture.fields.values()) - set(fields))
    if missing:
        raise ValueError(f"{where}: {architecture.name} needs {', '.join(missing)}")
    kinds = field_kinds(architecture)
    for ours, theirs in architecture.fields.items():
        check_field(ours, fields[theirs], kinds.get(ours), f"{where}: {theirs}")
    problem_type = fields.get("problem_type")
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"{where}: problem_type is {problem_type!r}; allowed: {PROBLEM_TYPES}")
    given = {
        ours: in_kind(fields[theirs], kinds.get(ours))
        for ours, theirs in architecture.fields.items()
    }
    sizes = {**given, **architecture.constants}
    pooler = architecture.head_spec(head).pooler
    read = {*architecture.fields.values(), *TASK_FIELDS}
    return architecture.config(
        **architecture.layers_from(sizes, where),
        head=head,
        pooler=True if pooler is None else pooler,
        # Start and end: transformers gives question answering as many outputs as there are labels.
        labels=numbered_labels(2)
        if head == "question-answering"
        else labels_from_hf(fields, where),
        problem_type=problem_type,
        extra=json_fields({name: value for name, value in fields.items() if name not in read}),
    )


@cache
def field_kinds(architecture: Architecture) -> dict[str, Any]:
    """The type of every field that an architecture can name, those of its layers too."""
    own = get_type_hints(architecture.config)
    layer, _ = get_args(own["layers"])
    # Where config.json has a size of heads, it may be null: then heads share out the hidden size.
    kinds = {"depth": int, **get_type_hints(layer), **own, "head_size": int | None}
    return {**kinds, **architecture.layer_fields}


def check_field(name: str, value: Any, kind: Any, where: str) -> None:
    """Raises a ValueError for a value that no model can have; a kind of None is not checked."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where} is {value!r}; allowed: {', '.join(get_args(kind))}")
        return
    kinds = get_args(kind) or (kind or object,)
    allowed = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = ", ".join(one.__name__ for one in kinds)
        raise ValueError(f"{where} is {value!r}; expected {names}")
    if int in kinds and isinstance(value, int) and value < (name not in MAY_BE_ZERO):
        raise ValueError(f"{where} is {value}; expected a positive number")
    if name == "depth" and isinstance(value, int) and value > MAX_DEPTH:
        raise ValueError(f"{where} is {value}; expected at most {MAX_DEPTH} layers")


def in_kind(value: Any, kind: Any) -> Any:
    """A checked value, as a float where one is meant: JSON may have 0 for 0.0."""
    return float(value) if type(value) is int and float in (get_args(kind) or (kind,)) else value


def labels_from_hf(fields: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Label names in the order of their ids; "LABEL_0", ... where only their number is known."""
    names, count = fields.get("id2label"), fields.get("num_labels", 2)
    if names is None:
        check_field("num_labels", count, int, f"{where}: num_labels")
        return numbered_labels(count)
    try:
        ordered = {int(index): str(name) for index, name in names.items()}
        return tuple(ordered[i] for i in range(len(ordered) or 1))
    except (AttributeError, KeyError, ValueError, TypeError):
        raise ValueError(
            f"{where}: id2label is {names!r}; expected names for 0, 1, 2, ..."
        ) from None


def numbered_labels(count: int) -> tuple[str, ...]:
    """LABEL_0, LABEL_1, ..., the names that transformers gives."""
    return tuple(f"LABEL_{i}" for i in range(count))


def config_to_hf(architecture: Architecture, config: EncoderConfig) -> dict[str, Any]:
    """The fields of a config.json that stock transformers reads as this model.

    Raises:
        ValueError: Hugging Face cannot express the model: its layers differ, or its heads do not
            fill the hidden size.
    """
    ours = {**vars(config), **architecture.layers_to(architecture.name, config)}
    fields = {
        "model_type": architecture.name,
        "architectures": [architecture.head_spec(config.head).hf_class],
        **{theirs: ours[name] for name, theirs in architecture.fields.items()},
        "id2label": {str(i): label for i, label in enumerate(config.labels)},
        "label2id": {label: i for i, label in enumerate(config.labels)},
        "dtype": "float32",
    }
    if config.problem_type:
        fields["problem_type"] = config.problem_type
    return fields | config.extra_fields
