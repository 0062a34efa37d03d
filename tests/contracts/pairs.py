"""One tiny random torch model per architecture and head, and the same weights here.

Sizes are odd and all different, so that no two axes can be mistaken for one another. Weights are
carried over by the parameter table alone, not by `effjax.hf`: a wrong row shows here.
"""

import copy
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import einops
import jax
import numpy as np
import torch
import transformers

from effjax.models import registry
from effjax.models.base import Head, Runtime
from effjax.models.hf_config import config_from_hf
from effjax.models.model import Model, apply_gated
from effjax.table import Row
from effjax.tree import unflatten
from effjax.types import Gates
from tests.contracts.rows import CONTRACTS, SIZES


@dataclass(frozen=True)
class Pair:
    """A torch model, the same model here, and a ragged batch of inputs for both."""

    torch: Any
    model: Model
    batch: dict[str, np.ndarray]

    @functools.cached_property
    def theirs(self) -> Any:
        """What torch computes."""
        return self.run()

    @functools.cached_property
    def theirs_in_bfloat16(self) -> np.ndarray:
        """The last hidden states that torch computes with weights and arithmetic in bfloat16."""
        light = dataclasses.replace(self, torch=copy.deepcopy(self.torch).to(torch.bfloat16))
        return light.theirs.hidden_states[-1].float().numpy()

    @functools.cached_property
    def ours(self) -> Any:
        """What the plain runtime computes."""
        return self.apply(self.model, self.batch)

    def apply(self, model: Model, batch: dict[str, np.ndarray], gates: Gates | None = None) -> Any:
        """Plain Linen, operation by operation: nothing is compiled per model, which is fast."""
        with jax.disable_jit():
            return apply_gated(model.module, model.table, model.params, batch, gates)

    @functools.cached_property
    def modules(self) -> dict[str, list[np.ndarray]]:
        """What every torch module that has parameters returned each time, by its name."""
        found: dict[str, list[np.ndarray]] = {}
        hooks = [
            module.register_forward_hook(
                lambda _, __, result, name=name: found.setdefault(name, []).append(result.numpy())
            )
            for name, module in self.torch.named_modules()
            if list(module.parameters(recurse=False)) and not list(module.children())
        ]
        self.run()
        for hook in hooks:
            hook.remove()
        return found

    def run(self) -> Any:
        """Runs torch with everything it can return."""
        inputs = {name: torch.from_numpy(value) for name, value in self.batch.items()}
        with torch.no_grad():
            return self.torch(**inputs, output_hidden_states=True, output_attentions=True)

    def returned(self, layer: int, path: str) -> np.ndarray:
        """What the torch module of a parameter of that layer returned there; one that layers share
        has returned something for each.
        """
        names = self.model.config.layer_names
        calls = self.modules[self.module_of(f"{names[layer]}/{path}")]
        found = calls[names[:layer].count(names[layer])]
        first = CONTRACTS[self.model.architecture.name].channels_first
        return found.swapaxes(1, 2) if first else found

    def module_of(self, path: str) -> str:
        """The torch module that the parameter at a path of ours belongs to."""
        name = self.model.table.by_path[path].hf[0].rpartition(".")[0]
        known = dict(self.torch.named_modules())
        return name if name in known else name.removeprefix(self.model.architecture.hf_prefix)

    @property
    def mask(self) -> np.ndarray:
        """Where the batch has tokens, as rows of the encoder: [B, L], or [B * choices, L]."""
        mask = self.batch["attention_mask"]
        return mask.reshape(-1, mask.shape[-1]).astype(bool)


def hf_config(name: str, head: Head | None, **changes: Any) -> Any:
    """transformers' config of the tiny model, with changes of its fields."""
    fields = registry.get(name).fields
    sizes = {fields[ours]: size for ours, size in SIZES.items() if ours in fields}
    labels = 2 if head == "question-answering" else 5
    return transformers.AutoConfig.for_model(
        name,
        **{**sizes, **CONTRACTS[name].fields, **changes},
        num_labels=labels,
        pad_token_id=1,
        attn_implementation="eager",
    )


def torch_model(name: str, head: Head | None, **changes: Any) -> Any:
    """A torch model in which every parameter is random, norms and biases too, and the same each
    time.
    """
    hf_class = getattr(transformers, registry.get(name).heads[head].hf_class)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = hf_class(hf_config(name, head, **changes))
        for parameter in made.parameters():
            parameter.add_(CONTRACTS[name].noise * torch.randn(parameter.shape))
    return made.eval()


def array(row: Row, state: dict[str, Any], prefix: str) -> np.ndarray:
    """One parameter of ours out of a torch state dict, by its row alone."""
    (name,) = {
        hf for given in row.hf[:1] for hf in (given, given.removeprefix(prefix)) if hf in state
    }
    return einops.rearrange(state[name].numpy(), f"{row.hf_axes} -> {row.letters}", **row.sizes)


def random_batch(
    lengths: tuple[int, ...], choices: int | None, has_types: bool
) -> dict[str, np.ndarray]:
    """Ragged rows: token 1 pads, the others are never padding."""
    rng, length = np.random.default_rng(0), max(lengths)
    mask = (np.arange(length) < np.array(lengths)[:, None]).astype(np.int64)
    if choices:
        mask = np.stack([mask] * choices, axis=1)
    batch = {
        "input_ids": np.where(mask == 1, rng.integers(2, SIZES["vocab_size"], mask.shape), 1),
        "attention_mask": mask,
    }
    if has_types:
        batch["token_type_ids"] = rng.integers(0, SIZES["token_types"], mask.shape)
    return batch


def make_pair(name: str, head: Head | None, lengths: tuple[int, ...], **changes: Any) -> Pair:
    """A pair with these lengths of its rows, and changes of the tiny config's fields."""
    return paired(name, head, torch_model(name, head, **changes), lengths)


def paired(name: str, head: Head | None, theirs: Any, lengths: tuple[int, ...]) -> Pair:
    """A torch model and its like here."""
    architecture = registry.get(name)
    config = config_from_hf(architecture, theirs.config.to_dict(), head=head)
    state = theirs.state_dict()
    rows = architecture.table(config)
    params = unflatten({row.path: array(row, state, architecture.hf_prefix) for row in rows})
    model = Model(architecture, config, params, Runtime.plain())
    choices = 2 if head == "multiple-choice" else None
    batch = random_batch(lengths, choices, bool(config.token_types))
    return Pair(theirs, model, batch)


@functools.cache
def build(name: str, head: Head | None) -> Pair:
    """The pair of one architecture and head, made once."""
    return make_pair(name, head, CONTRACTS[name].lengths)
