"""Distillation: objectives over outputs of student and teachers, layer maps, first students."""

from effjax.distill.cached import CachedOutputs, cache_outputs
from effjax.distill.hidden import HiddenCosine, HiddenMSE
from effjax.distill.layer_maps import LayerMap, resolve
from effjax.distill.objective import Given, Needs, Objective, Term
from effjax.distill.replaced_tokens import GeneratorLM, ReplacedTokens
from effjax.distill.sentence import SentenceMSE
from effjax.distill.soft_targets import SoftTargets
from effjax.distill.student import init_student
from effjax.distill.task_loss import MaskedLM, TaskLoss
from effjax.distill.weighted import Loss, Named, Weighted

__all__ = [
    "CachedOutputs",
    "GeneratorLM",
    "Given",
    "HiddenCosine",
    "HiddenMSE",
    "LayerMap",
    "Loss",
    "MaskedLM",
    "Named",
    "Needs",
    "Objective",
    "ReplacedTokens",
    "SentenceMSE",
    "SoftTargets",
    "TaskLoss",
    "Term",
    "Weighted",
    "cache_outputs",
    "init_student",
    "resolve",
]
