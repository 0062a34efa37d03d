"""The layout "compact": a stock config.json, small arrays, and the code that torch needs for them.

config.json is that of the padded model, with hidden states that its heads fill; its field `compact`
says what is smaller and which weights are two factors, and `auto_map` that `modeling_compact.py`,
which lies beside it, has the class.
"""

from pathlib import Path
from typing import Any

from effjax.models.architecture import Architecture
from effjax.models.base import EncoderConfig, Head
from effjax.models.model import Model
from effjax.table import Axis, Row, Table

CODE = Path(__file__).with_name("modeling_compact.py")

AUTO: dict[Head | None, str] = {
    None: "AutoModel",
    "masked-lm": "AutoModelForMaskedLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "pretraining": "AutoModelForPreTraining",
    "replaced-token-detection": "AutoModelForPreTraining",
}
"""The class of transformers that loads each head."""


def compact_fields(model: Model) -> dict[str, Any]:
    """The fields of config.json that say how this model differs from the padded one.

    Raises:
        ValueError: what was removed has a place in a table that all layers share, or a weight of
            two factors has no counterpart in torch that could be two.
    """
    architecture, config = model.architecture, with_ranks_of_what_is_there(model)
    for name, spec in config.distinct_layers.items():
        for field in spec.tied:
            if getattr(spec, field) < config.whole_heads:
                raise ValueError(
                    f"{architecture.name} has a table of biases for all {config.whole_heads} "
                    f"{field} of a layer, so that {name} cannot have {getattr(spec, field)} in "
                    'torch; expected layout="dense"'
                )
    whole = architecture.table(whole_config(architecture, config))
    there, small = model.table, architecture.table(with_one_of_each(architecture, config))
    named = {row.path: hf_name(architecture, config, row) for row in small}
    smaller = {
        row.path: row
        for row in small
        if row.shape != whole.by_path[row.path].shape or row.path not in there.by_path
    }
    head_class = architecture.head_spec(config.head).hf_class
    return {
        "auto_map": {AUTO[config.head]: f"{CODE.stem}.Compact{head_class}"},
        "compact": {
            "sizes": {x: n for x, n in sizes(there, whole).items() if n < whole.instances[x]},
            "shapes": {named[path]: list(row.hf_shape) for path, row in smaller.items()},
            "zeros": [named[path] for path in smaller if path not in there.by_path],
            "heads": heads_of_modules(smaller, named),
            "ranks": dict(model.config.ranks),
            "factors": factor_modules(architecture, config),
        },
    }


def with_ranks_of_what_is_there(model: Model) -> EncoderConfig:
    """The config without the ranks of weights of which their layers have nothing left."""
    whole = model.architecture.table(model.config.replace(ranks=())).by_path
    return model.config.replace(ranks=tuple(x for x in model.config.ranks if x[0] in whole))


def factor_modules(architecture: Architecture, config: EncoderConfig) -> dict[str, int]:
    """The rank of every module of torch whose weight is two factors.

    Raises:
        ValueError: the module is a convolution, or its weight is that of another module too.
    """
    rows = architecture.table(config.replace(ranks=())).by_path
    for path, _ in config.ranks:
        reason = ""
        if len(rows[path].hf_shape) > 2:
            reason = "is a convolution in torch"
        if rows[path].role == "embedding" and "token" in rows[path].uses:
            reason = "is the output projection in torch, too"
        if reason:
            raise ValueError(
                f'{path} {reason}, which cannot be two factors; expected layout="dense"'
            )
    return {
        hf_name(architecture, config, rows[path]).removesuffix(".weight"): rank
        for path, rank in config.ranks
    }


def sizes(there: Table, whole: Table) -> dict[str, int]:
    """The size of hidden states and all that layers can lose; 0 for what has no arrays left."""
    names = [name for name in whole.instances if "/" in name or name == "hidden"]
    return {name: there.instances.get(name, 0) for name in names}


def whole_config(architecture: Architecture, config: EncoderConfig) -> EncoderConfig:
    """The config of layers of one size, and of hidden states that their heads fill; or divide,
    where config.json has the size of a head.
    """
    heads = config.padded().layers[0].heads
    if "head_size" in architecture.fields:
        hidden = -(-config.hidden // heads) * heads
    else:
        while config.filled_by(heads) < config.hidden:
            heads += 1
        hidden = config.filled_by(heads)
    if hidden == config.hidden:
        return config.padded()
    wide = config.replace(hidden=hidden, embedding=config.embedding if config.factorised else None)
    if wide.factorised != config.factorised:  # one head more
        wide = wide.replace(hidden=config.filled_by(heads + 1))
    return wide.padded()


def with_one_of_each(architecture: Architecture, config: EncoderConfig) -> EncoderConfig:
    """The config with one of everything that layers have lost wholly."""
    wide = whole_config(architecture, config)
    left = sizes(architecture.table(config), architecture.table(wide))
    return wide.shrunk({name: range(max(count, 1)) for name, count in left.items()})


def heads_of_modules(smaller: dict[str, Row], named: dict[str, str]) -> dict[str, int]:
    """How many heads there are in the module of torch that holds the queries' product."""

    def is_heads(axis: Axis) -> bool:
        return bool(axis.instance) and axis.instance.partition("/")[2] == "heads"

    return {
        named[path].rsplit(".", 2)[0]: axis.size
        for path, row in smaller.items()
        for axis in row.axes[row.contracts :]
        if row.role == "kernel" and is_heads(axis)
    }


def hf_name(architecture: Architecture, config: EncoderConfig, row: Row) -> str:
    """What torch calls an array in the class that has the model's head."""
    return row.hf[0].removeprefix("" if config.head else architecture.hf_prefix)


def with_sizes(config: EncoderConfig, compact: Any, where: str) -> EncoderConfig:
    """The config of the smaller model, given that of the padded one and what `compact` says.

    Raises:
        ValueError: it says nothing of this kind.
    """
    sizes = counts(compact, "sizes", "axis instance", where, least=0)
    ranks = counts({"ranks": {}} | compact, "ranks", "path", where, least=1)
    small = config.shrunk({name: range(size) for name, size in sizes.items()})
    return small.replace(ranks=tuple(ranks.items()))


def counts(compact: Any, name: str, by: str, where: str, *, least: int) -> dict[str, int]:
    """Whole numbers in `compact`. Raises a ValueError where there are none."""
    found = compact.get(name) if isinstance(compact, dict) else None
    if not isinstance(found, dict) or not all(
        type(n) is int and n >= least for n in found.values()
    ):
        raise ValueError(f"{where}: compact is {compact!r}; expected {name} by {by}")
    return found
