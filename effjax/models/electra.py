"""ELECTRA: BERT's encoder, trained to find the words that a small masked LM has replaced.

A discriminator and its generator are models of this one architecture, with heads of their own:
"replaced-token-detection" and "masked-lm". In the small sizes a projection leads from narrow word
vectors to the hidden size; there is no pooler. `effjax.models.generator` trains the two together.

Source: arXiv 2003.10555, section 2 and table 6 (sizes). The heads are those of Hugging Face.
"""

from dataclasses import dataclass
from functools import partial

from effjax.layers.heads import DenseClassifier, ReplacedTokenHead
from effjax.models import bert, roberta
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig
from effjax.models.encoder import initializer
from effjax.models.postnorm import PostNormEncoder, axes, encoder_rows
from effjax.table import Axis, Row, linear

NAMES = {
    **{
        name: hf.replace("bert.", "electra.", 1)
        for name, hf in bert.NAMES.items()
        if name != "pooler"
    },
    "projection": "electra.embeddings_project",
}

FIELDS = {
    **bert.FIELDS,
    "embedding": "embedding_size",
    "summary_dropout": "summary_last_dropout",
}

DEFAULTS = {
    **bert.DEFAULTS,
    "embedding_size": 128,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "summary_last_dropout": 0.1,
}

REQUIRES = {
    **bert.REQUIRES,
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": "gelu",
    "summary_proj_to_labels": False,
    "summary_first_dropout": 0,
}
"""Of summaries, which multiple choice reads, there is the released one."""

SIZES = {
    "small": {},
    "base": {**bert.size(768, 12), "embedding_size": 768},
    "large": {**bert.size(1024, 24), "embedding_size": 1024},
    "base-generator": {"embedding_size": 768},
    "large-generator": {"embedding_size": 1024, "num_hidden_layers": 24},
}
"""The generator of the small discriminator has its size, as released."""

ELECTRA_LM = {
    "dense": "generator_predictions.dense",
    "norm_name": "generator_predictions.LayerNorm",
    "bias": "generator_lm_head.bias",
    "decoder": "generator_lm_head.weight",
}


@dataclass(frozen=True, kw_only=True)
class ElectraConfig(EncoderConfig):
    """A config with what multiple choice reads besides.

    Attributes:
        summary_dropout: behind the dense layer over [CLS].
    """

    summary_dropout: float = 0.1


def summary(config: EncoderConfig, dtype: str) -> DenseClassifier:
    """The score of a choice, over [CLS]: a dense layer with GELU, then one number."""
    assert isinstance(config, ElectraConfig)
    dropout, init = config.summary_dropout, initializer(config)
    return DenseClassifier(config.hidden, 1, "gelu", dropout, 0.0, dtype, init)


def summary_rows(config: EncoderConfig) -> list[Row]:
    D, Y = axes(config)
    dense = linear("head/dense", (D,), (Y,), hf="sequence_summary.summary", use="sequence")
    return [*dense, *bert.output_rows(config, hf="classifier", classes=1)]


def replaced_tokens(config: EncoderConfig, dtype: str) -> ReplacedTokenHead:
    return ReplacedTokenHead(config.hidden, config.activation, dtype, initializer(config))


def replaced_tokens_rows(config: EncoderConfig) -> list[Row]:
    D, Y = axes(config)
    dense, score = "discriminator_predictions.dense", "discriminator_predictions.dense_prediction"
    return [
        *linear("head/dense", (D,), (Y,), hf=dense),
        *linear("head/output", (D,), (Axis("C", 1),), hf=score),
    ]


HEADS = {
    None: HeadSpec(hf_class="ElectraModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="ElectraForMaskedLM",
        module=partial(bert.masked_lm, activation="gelu"),
        rows=partial(bert.masked_lm_rows, **ELECTRA_LM),
        pooler=False,
        decoder=ELECTRA_LM["decoder"],
    ),
    "replaced-token-detection": HeadSpec(
        hf_class="ElectraForPreTraining",
        module=replaced_tokens,
        rows=replaced_tokens_rows,
        pooler=False,
    ),
    "sequence-classification": HeadSpec(
        hf_class="ElectraForSequenceClassification",
        module=partial(roberta.classifier, activation="gelu"),
        rows=roberta.classifier_rows,
        pooler=False,
    ),
    **bert.family_heads("Electra"),
    "multiple-choice": HeadSpec(
        hf_class="ElectraForMultipleChoice",
        module=summary,
        rows=summary_rows,
        pooler=False,
    ),
}

ELECTRA = Architecture(
    name="electra",
    hf_prefix="electra.",
    heads=HEADS,
    sizes=SIZES,
    config=ElectraConfig,
    fields=FIELDS,
    defaults=DEFAULTS,
    requires=REQUIRES,
    module=PostNormEncoder,
    rows=lambda config, decoder: encoder_rows(config, NAMES, decoder),
)
