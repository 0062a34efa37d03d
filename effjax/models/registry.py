"""The architectures by Hugging Face's model_type. One line each; an architecture is imported when
it is asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effjax.models.architecture import Architecture

ARCHITECTURES = {
    "bert": ("effjax.models.bert:BERT", "BERT, MiniLM, TinyBERT and Google's tiny to medium"),
    "distilbert": ("effjax.models.distilbert:DISTILBERT", "DistilBERT"),
    "roberta": ("effjax.models.roberta:ROBERTA", "RoBERTa and DistilRoBERTa"),
    "mobilebert": ("effjax.models.mobilebert:MOBILEBERT", "MobileBERT and IB-BERT_LARGE"),
    "squeezebert": ("effjax.models.squeezebert:SQUEEZEBERT", "SqueezeBERT"),
    "modernbert": ("effjax.models.modernbert:MODERNBERT", "ModernBERT and the Ettin encoders"),
    "nomic_bert": ("effjax.models.nomicbert:NOMICBERT", "NomicBERT"),
    "eurobert": ("effjax.models.eurobert:EUROBERT", "EuroBERT"),
    "xlm-roberta": ("effjax.models.roberta:XLM_ROBERTA", "XLM-R"),
    "camembert": ("effjax.models.roberta:CAMEMBERT", "CamemBERT"),
    "albert": ("effjax.models.albert:ALBERT", "ALBERT"),
    "electra": ("effjax.models.electra:ELECTRA", "ELECTRA, discriminators and generators"),
    "mpnet": ("effjax.models.mpnet:MPNET", "MPNet"),
    "convbert": ("effjax.models.convbert:CONVBERT", "ConvBERT"),
    "deberta-v2": ("effjax.models.deberta_v2:DEBERTA_V2", "DeBERTa-v2, DeBERTa-v3 and mDeBERTa"),
}


def get(name: str) -> "Architecture":
    """The architecture of that model_type.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"model_type {name!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    module, attribute = ARCHITECTURES[name][0].split(":")
    return getattr(importlib.import_module(module), attribute)
