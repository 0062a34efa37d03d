"""DistilBERT: BERT without token types and pooler.

Source: arXiv 1910.01108. Deviation: in training, dropout also follows the attention output, as in
BERT."""

from functools import partial

from effjax.layers.heads import DenseClassifier
from effjax.models import bert
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig
from effjax.models.encoder import initializer
from effjax.models.postnorm import PostNormEncoder, axes, encoder_rows
from effjax.table import Row, linear

LAYER = "distilbert.transformer.layer.{i}"

NAMES = {
    "word": "distilbert.embeddings.word_embeddings.weight",
    "position": "distilbert.embeddings.position_embeddings.weight",
    "embedding_norm": "distilbert.embeddings.LayerNorm",
    "query": f"{LAYER}.attention.q_lin",
    "key": f"{LAYER}.attention.k_lin",
    "value": f"{LAYER}.attention.v_lin",
    "attention_output": f"{LAYER}.attention.out_lin",
    "attention_norm": f"{LAYER}.sa_layer_norm",
    "up": f"{LAYER}.ffn.lin1",
    "down": f"{LAYER}.ffn.lin2",
    "feedforward_norm": f"{LAYER}.output_layer_norm",
}

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "dim",
    "depth": "n_layers",
    "heads": "n_heads",
    "ffn": "hidden_dim",
    "positions": "max_position_embeddings",
    "activation": "activation",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
    "tie_embeddings": "tie_word_embeddings",
}

DEFAULTS = {
    "vocab_size": 30522,
    "dim": 768,
    "n_layers": 6,
    "n_heads": 12,
    "hidden_dim": 3072,
    "max_position_embeddings": 512,
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}

DISTILBERT_LM = {
    "dense": "vocab_transform",
    "norm_name": "vocab_layer_norm",
    "bias": "vocab_projector.bias",
    "decoder": "vocab_projector.weight",
}


def classifier(config: EncoderConfig, dtype: str, *, classes: int | None = None) -> DenseClassifier:
    """The head over [CLS]: a dense layer with ReLU, then the classes."""
    dropout, classes = bert.classifier_dropout(config), classes or len(config.labels)
    return DenseClassifier(config.hidden, classes, "relu", dropout, 0.0, dtype, initializer(config))


def classifier_rows(config: EncoderConfig, *, classes: int | None = None) -> list[Row]:
    D, Y = axes(config)
    dense = linear("head/dense", (D,), (Y,), hf="pre_classifier", use="sequence")
    return [*dense, *bert.output_rows(config, hf="classifier", classes=classes)]


HEADS = {
    None: HeadSpec(hf_class="DistilBertModel", pooler=False),
    "masked-lm": HeadSpec(
        hf_class="DistilBertForMaskedLM",
        module=bert.masked_lm,
        rows=partial(bert.masked_lm_rows, **DISTILBERT_LM),
        pooler=False,
        decoder=DISTILBERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="DistilBertForSequenceClassification",
        module=classifier,
        rows=classifier_rows,
        pooler=False,
    ),
    "token-classification": bert.family_heads("DistilBert")["token-classification"],
    "question-answering": bert.family_heads("DistilBert")["question-answering"],
    "multiple-choice": HeadSpec(
        hf_class="DistilBertForMultipleChoice",
        module=partial(classifier, classes=1),
        rows=partial(classifier_rows, classes=1),
        pooler=False,
    ),
}

DISTILBERT = Architecture(
    name="distilbert",
    hf_prefix="distilbert.",
    heads=HEADS,
    sizes={"base": {}},
    fields=FIELDS,
    constants={"token_types": 0, "norm_eps": 1e-12},
    defaults=DEFAULTS,
    module=PostNormEncoder,
    rows=lambda config, decoder: encoder_rows(config, NAMES, decoder),
)
