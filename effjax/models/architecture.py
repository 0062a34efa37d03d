"""What an architecture is: module, table, heads, sizes, and the names of its config.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flax import linen as nn

from effjax.models.base import EncoderConfig, Head, Runtime
from effjax.models.layer_fields import uniform_fields, uniform_layers
from effjax.table import Row, Table, in_factors


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A task head of one architecture.

    Attributes:
        hf_class: the class of transformers that has this head, "BertForMaskedLM".
        module: builds the Linen head for a config and a compute dtype; None for the bare encoder.
        rows: the head's rows of the table.
        pooler: whether that class has a pooler; None where it comes with and without.
        decoder: Hugging Face's name of an output projection that may be tied to the word embedding.
    """

    hf_class: str
    module: Callable[[Any, str], nn.Module] | None = None
    rows: Callable[[Any], list[Row]] = lambda config: []
    pooler: bool | None = None
    decoder: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Architecture:
    """One entry of the registry; compared by identity, since there is one of each. What is called
    with a config is called with one of the architecture's own class.

    Attributes:
        name: Hugging Face's model_type.
        hf_prefix: what its parameter names begin with in a checkpoint with a head, "bert.".
        heads: the heads that exist; None is the bare encoder.
        sizes: published configurations by name, as fields of config.json.
        config: the class of its configs.
        fields: Hugging Face's name of each config field, and of what `layers_from` makes the layers
            of, for most `depth`, `heads` and `ffn`.
        layer_fields: types of what `layers_from` reads that is no field of config or layer.
        layers_from: config fields out of the named ones, given also what an error is to begin with.
        layers_to: the way back, given the architecture's name.
        today: an older layout of config.json brought to that of transformers 5.
        constants: config fields that config.json does not have.
        defaults: what Hugging Face takes for fields that a config.json leaves out.
        requires: config.json fields that change the model, with the only value supported.
        unread: tensors of the encoder that checkpoints may hold and no model reads.
        module: builds the encoder from (config, head, runtime), the config being of `config`.
        rows: the rows of the encoder, given the name of a tied output projection.
    """

    name: str
    hf_prefix: str
    heads: Mapping[Head | None, HeadSpec]
    sizes: Mapping[str, Mapping[str, Any]]
    config: type[EncoderConfig] = EncoderConfig
    fields: Mapping[str, str]
    layer_fields: Mapping[str, Any] = field(default_factory=dict)
    layers_from: Callable[[Mapping[str, Any], str], dict[str, Any]] = uniform_layers
    layers_to: Callable[[str, Any], dict[str, Any]] = uniform_fields
    today: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    constants: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any]
    requires: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    module: Callable[[Any, nn.Module | None, Runtime], nn.Module]
    rows: Callable[[Any, str | None], list[Row]]

    def head_spec(self, head: Head | None) -> HeadSpec:
        """The head of that name.

        Raises:
            ValueError: this architecture has none.
        """
        if head not in self.heads:
            known = ", ".join(str(name) for name in self.heads)
            raise ValueError(f"{self.name} has no head {head!r}; heads: {known}")
        return self.heads[head]

    @lru_cache(maxsize=64)  # noqa: B019 (architectures live as long as the program)
    def table(self, config: EncoderConfig) -> Table:
        """The parameter table of a model with this config."""
        spec = self.head_spec(config.head)
        tied = spec.decoder if config.tie_embeddings else None
        rows = [*self.rows(config, tied), *spec.rows(config)]
        return Table(in_factors(rows, dict(config.ranks)))

    def build(self, config: EncoderConfig, runtime: Runtime) -> nn.Module:
        """The Linen module of a model with this config."""
        spec = self.head_spec(config.head)
        head = spec.module(config, runtime.dtype) if spec.module else None
        return self.module(config, head, runtime)
