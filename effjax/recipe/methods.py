"""Ways to pretrain: what is trained, what it minimises, how it is judged and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax

from effjax import hf
from effjax.data.encode import Encoded
from effjax.data.masking import Masking
from effjax.distill import GeneratorLM, MaskedLM, ReplacedTokens, Weighted
from effjax.models import registry
from effjax.models.base import Head, Runtime
from effjax.models.generator import with_generator, without_generator
from effjax.models.model import Model
from effjax.recipe.new_models import new_model
from effjax.recipe.spec import NewModel
from effjax.train.masked import evaluate_masked_lm, evaluate_replaced_tokens


@dataclass(frozen=True, eq=False)
class Method:
    """A way to pretrain.

    Attributes:
        model: before training.
        objective: what is minimised.
        masking: what is hidden of the texts.
        evaluate: (model, examples, masking) -> metrics, headline first.
        finished: what is kept of the trained model.
    """

    model: Model
    objective: Weighted
    masking: Masking
    evaluate: Callable[[Model, Encoded, Masking], dict[str, float]]
    finished: Callable[[Model], Model]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What new models of one run have in common.

    Attributes:
        masking: of the tokenizer, which gives the vocabulary.
        pad_id: the tokenizer's padding id.
        max_length: the longest example in tokens; there are positions for no more.
        seed: of the random weights.
    """

    masking: Masking
    pad_id: int
    max_length: int
    runtime: Runtime
    seed: int

    def model(self, new: NewModel | str, head: Head, labels: tuple[str, ...] = ()) -> Model:
        """A model with random weights; or one from a hub id or folder, where its head may be new.

        Raises:
            ValueError: there is no such architecture or size, or its sizes do not fit together.
        """
        if isinstance(new, str):
            key = jax.random.key(self.seed)
            return hf.from_pretrained(new, head=head, key=key, runtime=self.runtime)
        return new_model(
            new,
            head,
            vocab_size=self.masking.vocab_size,
            pad_id=self.pad_id,
            max_length=self.max_length,
            labels=labels,
            key=jax.random.key(self.seed),
            runtime=self.runtime,
        )


def masked_lm(begin: Beginning, new: NewModel | str) -> Method:
    """The words behind the masks. Source: arXiv 1810.04805, section 3.1, without next sentences."""
    return Method(
        model=begin.model(new, "masked-lm"),
        objective=Weighted(mlm=(1.0, MaskedLM())),
        masking=begin.masking,
        evaluate=evaluate_masked_lm,
        finished=lambda model: model,
    )


def replaced_tokens(
    begin: Beginning, new: NewModel, generator: NewModel, *, weight: float
) -> Method:
    """Which words a small masked LM, trained along with the model, has put there.

    Source: arXiv 2003.10555, section 2: every chosen token is hidden behind [MASK], and the
    discriminator alone is kept.

    Args:
        weight: of the discriminator's loss; the generator's has 1.
    """
    own: Head = "replaced-token-detection"  # ELECTRA has a head for it, other encoders two classes
    head = own if own in registry.get(new.architecture).heads else "token-classification"
    discriminator = begin.model(new, head, ("original", "replaced"))
    small = begin.model(generator, "masked-lm").config
    mask_id = begin.masking.mask_id
    key = jax.random.fold_in(jax.random.key(begin.seed), 1)
    return Method(
        model=with_generator(discriminator, small, mask_id=mask_id, key=key),
        objective=Weighted(mlm=(1.0, GeneratorLM()), rtd=(weight, ReplacedTokens())),
        masking=replace(begin.masking, masked=1.0, replaced=0.0),
        evaluate=evaluate_replaced_tokens,
        finished=without_generator,
    )
