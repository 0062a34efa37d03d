"""BERT, and what shares its architecture: MiniLM, TinyBERT, Google's small BERTs.

Source: arXiv 1810.04805 (BERT), 1908.08962 (tiny to medium), 1909.10351 (TinyBERT), 2002.10957
(MiniLM)."""

from functools import partial

from effjax.layers.heads import (
    MaskedLMHead,
    NextSentence,
    PooledClassifier,
    Pretraining,
    TokenClassifier,
)
from effjax.models.architecture import Architecture, HeadSpec
from effjax.models.base import EncoderConfig
from effjax.models.encoder import initializer
from effjax.models.postnorm import PostNormEncoder, axes, embedding_axis, encoder_rows
from effjax.table import Axis, Row, Use, linear, norm, vector

LAYER = "bert.encoder.layer.{i}"

NAMES = {
    "word": "bert.embeddings.word_embeddings.weight",
    "position": "bert.embeddings.position_embeddings.weight",
    "token_type": "bert.embeddings.token_type_embeddings.weight",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "query": f"{LAYER}.attention.self.query",
    "key": f"{LAYER}.attention.self.key",
    "value": f"{LAYER}.attention.self.value",
    "attention_output": f"{LAYER}.attention.output.dense",
    "attention_norm": f"{LAYER}.attention.output.LayerNorm",
    "up": f"{LAYER}.intermediate.dense",
    "down": f"{LAYER}.output.dense",
    "feedforward_norm": f"{LAYER}.output.LayerNorm",
    "pooler": "bert.pooler.dense",
}

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "classifier_dropout": "classifier_dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
    "tie_embeddings": "tie_word_embeddings",
}

DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}

REQUIRES = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def size(
    hidden: int, layers: int, ffn: int | None = None, heads: int | None = None
) -> dict[str, int]:
    """A published shape; unless stated, heads are of 64 and the feed-forward network is four times
    as wide.
    """
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or hidden // 64,
        "intermediate_size": ffn or 4 * hidden,
    }


SIZES = {
    "tiny": size(128, 2),
    "mini": size(256, 4),
    "small": size(512, 4),
    "medium": size(512, 8),
    "base": size(768, 12),
    "large": size(1024, 24),
    "minilm-l12-h384": size(384, 12, heads=12),
    "minilm-l6-h384": size(384, 6, heads=12),
    "tinybert-4l-312d": size(312, 4, ffn=1200, heads=12),
    "tinybert-6l-768d": size(768, 6),
}


def classifier_dropout(config: EncoderConfig) -> float:
    return config.dropout if config.classifier_dropout is None else config.classifier_dropout


def masked_lm(
    config: EncoderConfig,
    dtype: str,
    activation: str | None = None,
    kind: type[MaskedLMHead] = MaskedLMHead,
) -> MaskedLMHead:
    """The masked-LM head of this kind; its activation is the config's unless given."""
    return kind(
        width=config.embedding_size,
        vocab_size=config.vocab_size,
        tied=config.tie_embeddings,
        bias=True,
        dtype=dtype,
        kernel_init=initializer(config),
        hidden=config.hidden,
        activation=activation or config.activation,
        norm_eps=config.norm_eps,
    )


def next_sentence(config: EncoderConfig, dtype: str) -> NextSentence:
    return NextSentence(config.hidden, dtype, initializer(config))


def pretraining(config: EncoderConfig, dtype: str) -> Pretraining:
    return Pretraining(masked_lm(config, dtype), next_sentence(config, dtype))


def pooled(config: EncoderConfig, dtype: str, *, classes: int | None = None) -> PooledClassifier:
    classes, dropout = classes or len(config.labels), classifier_dropout(config)
    return PooledClassifier(config.hidden, classes, dropout, dtype, initializer(config))


def tokens(config: EncoderConfig, dtype: str, *, classes: int | None = None) -> TokenClassifier:
    dropout, classes = 0.0 if classes else classifier_dropout(config), classes or len(config.labels)
    return TokenClassifier(config.hidden, classes, dropout, dtype, initializer(config))


def output_axis(config: EncoderConfig) -> Axis:
    """The axis that an output projection contracts, as the output of the product before it."""
    E = embedding_axis(config)
    return axes(config)[1] if E.letter == "D" else E


def masked_lm_rows(
    config: EncoderConfig,
    *,
    path: str = "head",
    dense: str,
    norm_name: str,
    bias: str,
    decoder: str,
) -> list[Row]:
    """Transform, norm, output bias and, where it is not tied, the output projection."""
    D, E = axes(config)[0], output_axis(config)
    rows = [*linear(f"{path}/dense", (D,), (E,), hf=dense), *norm(f"{path}/norm", E, hf=norm_name)]
    return [*rows, *decoder_rows(config, E, path=path, bias=bias, decoder=decoder)]


def decoder_rows(
    config: EncoderConfig, E: Axis, *, path: str, bias: str, decoder: str
) -> list[Row]:
    """The output bias and, where it is not tied, the output projection.

    Untied, Hugging Face adds the decoder's own bias, and stores the other one, unused, beside it.
    """
    V = Axis("V", config.vocab_size, "vocabulary")
    decoder_bias = f"{decoder.removesuffix('.weight')}.bias"
    if config.tie_embeddings:
        return vector(f"{path}/bias", "bias", (V,), hf=bias, aliases=(decoder_bias,))
    copies = () if bias == decoder_bias else (bias,)
    return [
        *vector(f"{path}/bias", "bias", (V,), hf=decoder_bias, copies=copies),
        Row(f"{path}/decoder", "embedding", (V, E), 0, (decoder,), f"V {E.letter}", ("token",)),
    ]


def output_rows(
    config: EncoderConfig,
    *,
    hf: str,
    classes: int | None = None,
    use: Use = "sequence",
    path: str = "head/output",
) -> list[Row]:
    """A linear layer from the hidden size to the classes."""
    return linear(
        path, (axes(config)[0],), (Axis("C", classes or len(config.labels)),), hf=hf, use=use
    )


BERT_LM = {
    "dense": "cls.predictions.transform.dense",
    "norm_name": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions.bias",
    "decoder": "cls.predictions.decoder.weight",
}


def pretraining_rows(config: EncoderConfig) -> list[Row]:
    pair = output_rows(
        config, hf="cls.seq_relationship", classes=2, path="head/next_sentence/output"
    )
    return [*masked_lm_rows(config, path="head/masked_lm", **BERT_LM), *pair]


def family_heads(prefix: str) -> dict:
    """The heads that BERT and RoBERTa have in common, for classes named `prefix`ForX."""
    return {
        "token-classification": HeadSpec(
            hf_class=f"{prefix}ForTokenClassification",
            module=tokens,
            rows=partial(output_rows, hf="classifier", use="token"),
            pooler=False,
        ),
        "question-answering": HeadSpec(
            hf_class=f"{prefix}ForQuestionAnswering",
            module=partial(tokens, classes=2),
            rows=partial(output_rows, hf="qa_outputs", classes=2, use="token"),
            pooler=False,
        ),
        "multiple-choice": HeadSpec(
            hf_class=f"{prefix}ForMultipleChoice",
            module=partial(pooled, classes=1),
            rows=partial(output_rows, hf="classifier", classes=1),
            pooler=True,
        ),
    }


HEADS = {
    None: HeadSpec(hf_class="BertModel"),
    "masked-lm": HeadSpec(
        hf_class="BertForMaskedLM",
        module=masked_lm,
        rows=partial(masked_lm_rows, **BERT_LM),
        pooler=False,
        decoder=BERT_LM["decoder"],
    ),
    "sequence-classification": HeadSpec(
        hf_class="BertForSequenceClassification",
        module=pooled,
        rows=partial(output_rows, hf="classifier"),
        pooler=True,
    ),
    **family_heads("Bert"),
    "next-sentence-prediction": HeadSpec(
        hf_class="BertForNextSentencePrediction",
        module=next_sentence,
        rows=partial(output_rows, hf="cls.seq_relationship", classes=2),
        pooler=True,
    ),
    "pretraining": HeadSpec(
        hf_class="BertForPreTraining",
        module=pretraining,
        rows=pretraining_rows,
        pooler=True,
        decoder=BERT_LM["decoder"],
    ),
}

BERT = Architecture(
    name="bert",
    hf_prefix="bert.",
    heads=HEADS,
    sizes=SIZES,
    fields=FIELDS,
    defaults=DEFAULTS,
    requires=REQUIRES,
    module=PostNormEncoder,
    rows=lambda config, decoder: encoder_rows(config, NAMES, decoder),
)
