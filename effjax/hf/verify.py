"""A folder in stock transformers against the same folder in effjax, layer by layer.

The only module of effjax that imports torch, and only when it runs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effjax.hf.compact import AUTO, CODE
from effjax.hf.read import from_pretrained
from effjax.hf.source import local_folder, model_folder
from effjax.models.base import EncoderConfig, Outputs, Runtime
from effjax.models.model import Model

TOLERANCE = 1e-4
"""The largest difference between two float32 implementations that counts as none."""

LENGTHS = (9, 33)
"""Tokens in the two batches, where the model has positions for so many."""

ANSWERS = {
    "last hidden": ("last_hidden_state", "last_hidden"),
    "pooled": ("pooler_output", "pooled"),
    "logits": ("logits", "logits"),
    "masked-lm logits": ("prediction_logits", "logits"),
    "next-sentence logits": ("seq_relationship_logits", "next_sentence_logits"),
    "sentence-order logits": ("sop_logits", "next_sentence_logits"),
}
"""What is compared besides hidden states: its name in transformers and in `Outputs`."""


@dataclass(frozen=True)
class VerifyReport:
    """What differs between transformers and effjax.

    Attributes:
        folder: what was loaded.
        hf_class: the class of transformers that loaded it.
        missing, unexpected: parameters of that class that the folder lacks, and the reverse.
        mismatched: parameters whose shapes differ.
        differences: the largest absolute difference by what was compared and number of tokens.
        params: parameters of the model in torch.
        bytes: of the folder's weights.
    """

    folder: Path
    hf_class: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    differences: Mapping[str, Mapping[int, float]]
    params: int
    bytes: int

    @property
    def largest(self) -> float:
        values = [value for by_length in self.differences.values() for value in by_length.values()]
        return float(np.max(values))  # unlike max(), gives NaN where one is

    @property
    def ok(self) -> bool:
        """Whether every key was matched and every difference is at most 1e-4 (a NaN is not)."""
        keys = (*self.missing, *self.unexpected, *self.mismatched)
        return not keys and self.largest <= TOLERANCE

    def __str__(self) -> str:
        lengths = list(next(iter(self.differences.values())))
        width = max(map(len, self.differences))
        lines = [
            f"{self.folder}: {self.hf_class} of transformers against effjax, largest differences"
        ]
        lines += [f"{'':{width}}" + "".join(f"  {f'{n} tokens':>10}" for n in lengths)]
        for name, by_length in self.differences.items():
            lines += [f"{name:{width}}" + "".join(f"  {by_length[n]:10.2e}" for n in lengths)]
        for kind in ("missing", "unexpected", "mismatched"):
            lines += [f"{kind} keys: {', '.join(getattr(self, kind)) or 'none'}"]
        lines += [f"{self.params:,} parameters in torch, {self.bytes / 1e6:,.1f} MB of weights"]
        verdict = "the same" if self.ok else "NOT the same"
        return "\n".join([*lines, f"{verdict} (tolerance {TOLERANCE:g})"])


def verify(folder: str | Path, reference: Model | None = None) -> VerifyReport:
    """Loads a folder in transformers and compares every layer and output with effjax.

    Inputs have ragged padding and, where the model has them, token types; two lengths are tried.
    What is said of padding is not compared.

    Args:
        folder: or a hub id.
        reference: what the folder must be equal to; the folder as effjax reads it if None.

    Raises:
        ValueError: torch is not installed, or the folder cannot be read.
    """
    source = local_folder(folder)
    model = (reference or from_pretrained(source)).replace(runtime=Runtime.plain())
    weights = model_folder(source)
    hf_model, info = load_stock(model, weights)
    longest = model.config.max_length
    differences: dict[str, dict[int, float]] = {}
    for length in sorted({min(n, longest) for n in LENGTHS}):
        batch = ragged_batch(model.config, length)
        for name, value in compare(model.trace(batch), run_stock(hf_model, batch)):
            differences.setdefault(name, {})[length] = value
    missing, unexpected = (
        tuple(sorted(info[f"{kind}_keys"])) for kind in ("missing", "unexpected")
    )
    mismatched = tuple(sorted(str(name) for name, *_ in info["mismatched_keys"]))
    hf_class = type(hf_model).__name__
    keys = (missing, unexpected, mismatched)
    params = sum(x.numel() for x in hf_model.parameters())
    size = sum(file.stat().st_size for file in weights.glob("*.safetensors"))
    return VerifyReport(source, hf_class, *keys, differences, params, size)


def torch_calls(
    folder: str | Path, model: Model, *, batch: int, length: int
) -> dict[str, Callable[[], None]]:
    """Forward passes in torch, on full rows: of the "stock" model of the folder's config.json, with
    weights of no meaning, and of the folder's "own" one.

    Args:
        model: the folder, as effjax reads it.
    """
    source = model_folder(local_folder(folder))
    own, _ = load_stock(model, source)
    import torch
    import transformers

    stock = getattr(transformers, model.architecture.head_spec(model.config.head).hf_class)
    config = transformers.AutoConfig.from_pretrained(source)
    shape = (batch, 2, length) if model.config.head == "multiple-choice" else (batch, length)
    words = [i for i in range(model.config.vocab_size) if i != model.config.pad_token_id]
    ids = torch.from_numpy(np.random.default_rng(0).choice(words, shape))

    def call(hf_model: Any) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                hf_model(input_ids=ids, attention_mask=torch.ones_like(ids))

        return run

    return {"stock": call(stock(config).eval()), "own": call(own)}


def load_stock(model: Model, folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """The model in torch, in the class that has its head, and what transformers says of keys."""
    try:
        import torch
        import transformers
    except ImportError:
        raise ValueError(
            "verify needs torch, to run transformers: python -m pip install torch==2.13.0"
        ) from None
    architecture, config = model.architecture, model.config
    options: dict[str, Any] = {}
    hf_class = getattr(transformers, architecture.head_spec(config.head).hf_class)
    if (folder / CODE.name).exists():
        if (folder / CODE.name).read_bytes() != CODE.read_bytes():
            raise ValueError(
                f"{folder / CODE.name} is not the code that this version of effjax writes; it is "
                "not run"
            )
        hf_class = getattr(transformers, AUTO[config.head])
        options |= {"trust_remote_code": True}
    has_choice = config.head is None and architecture.head_spec(None).pooler is None
    options |= {"add_pooling_layer": config.pooler} if has_choice else {}
    with quiet(transformers.utils.logging):
        loaded, info = hf_class.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # then they are reported, not raised
            **options,
        )
    return loaded.eval(), info


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Without transformers' progress bar and its own report of keys, which ours repeats."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def run_stock(hf_model: Any, batch: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    """The outputs of transformers, hidden states included."""
    import torch

    inputs = {name: torch.from_numpy(value) for name, value in batch.items()}
    with torch.no_grad():
        return hf_model(**inputs, output_hidden_states=True)


def ragged_batch(config: EncoderConfig, length: int) -> dict[str, np.ndarray]:
    """Random tokens in rows that end at different places; [3, 2, L] for multiple choice."""
    random = np.random.default_rng(length)
    shape = (3, 2, length) if config.head == "multiple-choice" else (3, length)
    ends = np.maximum(1, length - np.arange(np.prod(shape[:-1])) * length // 4).reshape(shape[:-1])
    mask = np.arange(length) < ends[..., None]
    others = [i for i in range(config.vocab_size) if i != config.pad_token_id]
    ids = np.where(mask, random.choice(others, shape), config.pad_token_id)
    batch = {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
    if config.token_types:
        batch["token_type_ids"] = random.integers(config.token_types, size=shape)
    return batch


def compare(ours: Outputs, theirs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every hidden state and output that transformers gives, with the largest difference; of what
    there is for each token, at the tokens and not at padding, where anything may be.
    """
    token = np.asarray(ours.mask)
    for i, hidden in enumerate(theirs["hidden_states"]):
        name = "embedding" if i == 0 else f"layer {i}"
        yield name, difference(ours.hidden(i), hidden, token)
    for name, (theirs_name, ours_name) in ANSWERS.items():
        if theirs.get(theirs_name) is not None:
            yield name, difference(getattr(ours, ours_name), theirs[theirs_name], token)
    if "start_logits" in theirs:
        for i, name in enumerate(("start", "end")):
            here = np.asarray(ours.logits)[..., i, None]
            yield f"{name} logits", difference(here, theirs[f"{name}_logits"][..., None], token)


def difference(ours: Any, theirs: Any, token: np.ndarray) -> float:
    """The largest absolute difference, of three axes where there is a token; infinite where one is
    not there or of another shape.
    """
    theirs = np.asarray(theirs)
    if ours is None or np.shape(ours) != theirs.shape:
        return float("inf")
    found = np.abs(np.asarray(ours, np.float32) - theirs)
    return float((found[token] if found.ndim == 3 else found).max())
