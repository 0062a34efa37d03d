"""Distillation: objectives over outputs of student and teachers, layer maps, first students."""

from effjax.distill.attention import AttentionKL, AttentionMSE
from effjax.distill.augment import Augmentation, augmented, augmented_once
from effjax.distill.cached import CachedOutputs
from effjax.distill.hidden import HiddenCosine, HiddenMSE
from effjax.distill.layer_maps import LayerMap, resolve
from effjax.distill.nearest import NearestHiddenMSE
from effjax.distill.objective import Given, Needs, Objective, Term
from effjax.distill.patient import PatientMSE
from effjax.distill.relations import RelationKL
from effjax.distill.replaced_tokens import GeneratorLM, ReplacedTokens
from effjax.distill.sentence import SentenceCosine, SentenceMSE, SentenceSimilarity
from effjax.distill.soft_targets import LogitMSE, SoftTargets
from effjax.distill.student import init_student
from effjax.distill.task_loss import MaskedLM, TaskLoss
from effjax.distill.teacher_cache import cache_outputs
from effjax.distill.weighted import Loss, Named, Piecewise, Weighted

__all__ = [
    "AttentionKL",
    "AttentionMSE",
    "Augmentation",
    "CachedOutputs",
    "GeneratorLM",
    "Given",
    "HiddenCosine",
    "HiddenMSE",
    "LayerMap",
    "LogitMSE",
    "Loss",
    "MaskedLM",
    "Named",
    "NearestHiddenMSE",
    "Needs",
    "Objective",
    "PatientMSE",
    "Piecewise",
    "RelationKL",
    "ReplacedTokens",
    "SentenceCosine",
    "SentenceMSE",
    "SentenceSimilarity",
    "SoftTargets",
    "TaskLoss",
    "Term",
    "Weighted",
    "augmented",
    "augmented_once",
    "cache_outputs",
    "init_student",
    "resolve",
]
