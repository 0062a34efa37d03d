"""`effjax convert`, `verify`, `measure` and `prune`: what is done with a model folder as it is."""

import dataclasses
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from effjax.hf import SentenceEncoder
    from effjax.models.model import Model

DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Convert:
    """Read a checkpoint and write it as a Hugging Face folder that transformers loads.

    Example: effjax convert bert-base-uncased out/bert --dtype bfloat16
    Example: effjax convert out/pruned out/padded --layout dense
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """A folder or a hub id."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The new folder."""
    head: str = "auto"
    """Another task head, such as sequence-classification, or none; auto is the checkpoint's own."""
    layout: Literal["same", "stock", "dense", "compact"] = "same"
    """Of pruned models: dense, zeros for what is gone, so that stock transformers loads them; or
    compact, small arrays and code for trust_remote_code. Same is the checkpoint's own."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the weights are stored in."""
    shard_size: int = 5_000_000_000
    """The largest safetensors file, in bytes; a larger model is written in several."""

    def __call__(self) -> None:
        from effjax.hf import convert

        head: Any = None if self.head == "none" else self.head
        how: Any = {"layout": self.layout, "dtype": self.dtype, "shard_size": self.shard_size}
        model = convert(self.source, self.out, head=head, **how)
        print(f"{self.out}: {model.num_params:,} parameters in {self.dtype}")


@dataclass(frozen=True)
class Verify:
    """Load a folder in transformers (needs torch) and compare every layer with effjax.

    Exits with code 1 if the two differ.

    Example: effjax verify out/bert
    Example: effjax verify out/compact --speed
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """A model folder or hub id."""

    speed: bool = False
    """Time it in torch too, 8 rows of 128 tokens, in turns with the stock model of config.json."""

    def __call__(self) -> None:
        from effjax.hf import verify

        report = verify(self.folder)
        print(report)
        if self.speed:
            from effjax.commands.torch_speed import torch_speed

            print(torch_speed(self.folder))
        if not report.ok:
            raise SystemExit(1)


@dataclass(frozen=True)
class Measure:
    """Measure parameters, FLOPs, memory and latency; of several models, the speed-up as well.

    Several models are timed in turns within one run, so that their ratio means something.

    Example: effjax measure out/teacher out/student --batch 32 --length 128
    Example: effjax measure out/teacher --batch 1 8 --length 32 128 --table
    """

    folders: Positional[Annotated[tuple[str, ...], arg(metavar="FOLDER ...")]]
    """Model folders or hub ids; the first is what the others are compared with."""
    batch: tuple[int, ...] = (1,)
    """Sequences at a time; of several numbers, each in turn."""
    length: tuple[int, ...] = (128,)
    """Tokens in each; of several numbers, each in turn."""
    dtype: DType = "float32"
    """What products are computed in."""
    table: bool = False
    """Also what every head and feed-forward unit adds to the latency on this device, which pruning
    within a latency reads; kept in the user's cache folder."""

    def __call__(self) -> None:
        from effjax import measure
        from effjax.hf import from_pretrained
        from effjax.models.base import Runtime

        if not self.folders:
            raise ValueError("measure needs a model folder")
        runtime = Runtime.auto(self.dtype)
        models = {name: from_pretrained(name, runtime=runtime) for name in self.folders}
        for batch, length in product(self.batch, self.length):
            shape: Any = {"batch": batch, "length": length}
            for name, model in models.items():
                print(f"{name}: {measure.cost(model, **shape)}")
                print(f"{name}: {measure.memory(model, **shape)}")
            print(measure.compare(models, **shape))
            for name, model in models.items() if self.table else ():
                print(f"{name}: {measure.latency_table(model, **shape)}")


@dataclass(frozen=True)
class Prune:
    """Write a model and its tokenizer with only those tokens that texts need.

    Single characters stay, so that other words can be spelled.

    Example: effjax prune vocabulary out/student --texts corpus.txt --out out/small
    """

    what: Positional[Literal["vocabulary"]]
    """What becomes smaller."""
    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """A model folder with its tokenizer, or a hub id."""
    texts: Path
    """A text file, one text per line; blank lines are none."""
    out: Path
    """The new folder."""
    at_least: int = 1
    """How often a token has to occur; with 1 the texts become the same tokens as before."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do at a line that is not UTF-8 or has a NUL byte: stop, or skip it and count it."""

    def __call__(self) -> None:
        from effjax.data.bad_rows import BadRows
        from effjax.data.corpus import read_documents
        from effjax.hf import layout_of, load_tokenizer, save_pretrained, save_sentence_encoder
        from effjax.prune import vocabulary

        texts = read_documents(self.texts, BadRows(self.on_bad))
        tokenizer = load_tokenizer(self.folder)
        model, encoder = self._read()
        small, tokenizer = vocabulary(model, tokenizer, texts, at_least=self.at_least)
        how: Any = {"tokenizer": tokenizer, "layout": layout_of(self.folder)}
        if encoder is None:
            save_pretrained(small, self.out, **how)
        else:
            encoder = dataclasses.replace(encoder, model=small)
            save_sentence_encoder(encoder, self.out, **how)
        before, after = model.config.vocab_size, small.config.vocab_size
        print(f"{self.out}: {after:,} of {before:,} tokens, {small.num_params:,} parameters")

    def _read(self) -> "tuple[Model, SentenceEncoder | None]":
        """The model, and the sentence encoder that it is the model of."""
        from effjax.hf import from_pretrained, read_sentence_encoder
        from effjax.hf.source import local_folder, modules_of

        if not modules_of(local_folder(self.folder)):
            return from_pretrained(self.folder), None
        encoder = read_sentence_encoder(self.folder)
        return encoder.model, encoder
