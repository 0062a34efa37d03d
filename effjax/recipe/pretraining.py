"""Pretraining: an encoder on unlabelled text, as a masked LM or as ELECTRA's discriminator."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from effjax import hf
from effjax.choices import check_choices
from effjax.data.bad_rows import OnBad
from effjax.data.corpus import unigram_loss
from effjax.data.masking import Masking
from effjax.files import write_json
from effjax.models.model import Model
from effjax.recipe.arms import save
from effjax.recipe.corpora import Corpus, read_corpus
from effjax.recipe.methods import Beginning, Method, masked_lm, replaced_tokens
from effjax.recipe.progress import Bars
from effjax.recipe.provenance import RECIPE, commit, finish, provenance
from effjax.recipe.spec import NewModel, fit_options
from effjax.train import Mesh, Training, fit
from effjax.train.claim import claim
from effjax.train.curves import final_table
from effjax.train.fitting import FitOptions
from effjax.train.logs import read_history
from effjax.train.processes import by_first, exists
from effjax.train.training import check_steps
from effjax.types import Aux


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """An encoder, new or from elsewhere, trained on text without labels.

    Attributes:
        corpus: text files with one document per line, datasets of TFDS ("wiki40b/en", "pg19"), or
            tasks, whose training texts are taken.
        held_out: documents set aside, on which the model is evaluated after every epoch.
        source: a Hugging Face hub id or folder of an encoder to go on with, which brings its
            tokenizer; a head that it lacks begins with random weights. None for a new encoder.
        tokenizer: of a new encoder, a hub id or folder; None trains a WordPiece vocabulary on the
            corpus.
        vocab_size: of that new vocabulary.
        model: a new encoder's shape.
        generator: the shape of ELECTRA's generator, which makes this the pretraining of a
            discriminator; None is a masked LM.
        discriminator_weight: of the discriminator's loss beside the generator's.
        training: how it is trained.
        steps: how many, where that is not to follow from `training.epochs`.
        mask_rate: share of the tokens that are to be predicted.
        whole_words: all pieces of a word are, or none.
        on_bad: whether a bad line of a text file stops the run, or is left out and counted.
        seed: of the weights, what is held out, batch order, masks and dropout.
        mesh: how the devices share the work.
        wandb_project: logs go to this project on Weights & Biases too.
    """

    corpus: tuple[str, ...]
    held_out: int
    source: str | None = None
    tokenizer: str | None = None
    vocab_size: int = 8000
    model: NewModel = field(default_factory=NewModel)
    generator: NewModel | None = None
    discriminator_weight: float = 50.0
    training: Training
    steps: int | None = None
    mask_rate: float = 0.15
    whole_words: bool = False
    on_bad: OnBad = "stop"
    seed: int = 0
    mesh: Mesh = field(default_factory=Mesh)
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        check_steps(self.steps)
        new = (self.tokenizer, self.generator, self.model) != (None, None, NewModel())
        if self.source is not None and new:
            raise ValueError(
                f"pretraining goes on with {self.source}, which has its tokenizer and shape, and "
                "no generator; leave tokenizer, model and generator out"
            )

    def run(self, out: Path, *, accept_changes: bool = False) -> None:
        """Pretrains into `out`, going on where an interrupted run of the same recipe stopped.

        Writes results.json, and the model as a Hugging Face folder, which other recipes take as
        their `source`.

        Args:
            accept_changes: goes on with what another recipe left in `out`; the results then list
                both.

        Raises:
            ValueError: `out` holds another recipe, or the recipe does not fit the corpus.
        """
        begun = time.perf_counter()
        folder = out / "runs" / f"seed-{self.seed}"
        corpus = None if exists(folder / "result.json") else self.prepare()
        # Only now, so that a mistyped file leaves nothing behind that the next recipe has to equal.
        by_first(lambda: claim(out / RECIPE, self, accept_changes=accept_changes))
        if corpus is not None:
            self.train(corpus, folder, out / "model", fit_options(self, accept_changes))
        result = json.loads((folder / "result.json").read_text())
        report = {**result, **provenance(self, out, time.perf_counter() - begun)}
        by_first(lambda: publish(report, out))

    def train(self, corpus: Corpus, folder: Path, save_to: Path, how: FitOptions) -> None:
        """Trains and evaluates; a result.json in `folder` says that this is done."""
        method = self.method(corpus.tokenizer)

        def look(model: Model, aux: Aux) -> Mapping[str, float]:
            del aux
            metrics = method.evaluate(model, corpus.held_out, method.masking)
            return {f"held_out/{name}": value for name, value in metrics.items()}

        with Bars() as bars:
            fitted = fit(
                method.model,
                corpus.train,
                method.objective,
                self.training,
                seed=self.seed,
                folder=folder,
                masking=method.masking,
                steps=self.steps,
                evaluation=look,
                progress=bars.training(f"seed {self.seed}"),
                **how,
            )
            metrics = method.evaluate(fitted.model, corpus.held_out, method.masking)
            save(method.finished(fitted.model), save_to, corpus.tokenizer, {"held_out": metrics})
            result = {
                "corpus": self.corpus,
                "tokens": corpus.tokens,
                "held_out": metrics,
                "unigram_loss": unigram_loss(
                    corpus.train, corpus.held_out, method.masking.ordinary
                ),
                "steps": fitted.steps,
                "seconds": fitted.seconds,
                "commit": commit(),
            }
            by_first(lambda: finish(folder, result))
            bars.print(final_table(read_history(folder)))

    def prepare(self) -> Corpus:
        """The corpus, tokenised."""
        tokenizer = self.source or self.tokenizer
        return read_corpus(
            self.corpus,
            held_out=self.held_out,
            tokenizer=None if tokenizer is None else hf.load_tokenizer(tokenizer),
            vocab_size=self.vocab_size,
            max_length=self.training.max_length,
            seed=self.seed,
            on_bad=self.on_bad,
        )

    def method(self, tokenizer: Any) -> Method:
        """How this recipe pretrains."""
        begin = Beginning(
            masking=Masking.of(tokenizer, rate=self.mask_rate, whole_words=self.whole_words),
            pad_id=tokenizer.pad_token_id,
            max_length=self.training.max_length,
            runtime=self.training.runtime(),
            seed=self.seed,
        )
        if self.generator is None:
            return masked_lm(begin, self.source or self.model)
        weight = self.discriminator_weight
        return replaced_tokens(begin, self.model, self.generator, weight=weight)


def publish(report: Mapping[str, Any], out: Path) -> None:
    """Writes results.json, and prints the scores and where everything is."""
    write_json(out / "results.json", report)
    table = Table("held out", "value", title=f"{', '.join(report['corpus'])}, pretrained")
    for name, value in report["held_out"].items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("loss of frequencies alone", f"{report['unigram_loss']:.4f}")
    console = Console()
    console.print(table)
    console.print(f"results.json and model/ are in {out}", highlight=False)
