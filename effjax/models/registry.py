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
    "xlm-roberta": ("effjax.models.roberta:XLM_ROBERTA", "XLM-R"),
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
