"""Recipes: experiments as values, built by Python files in configs/, run by `effjax run`."""

from effjax.recipe.distillation import Distillation
from effjax.recipe.finetuning import Finetuning
from effjax.recipe.general import GeneralDistillation
from effjax.recipe.pretraining import Pretraining
from effjax.recipe.pruned import Recovery
from effjax.recipe.pruning import Pruning
from effjax.recipe.spec import Method, NewModel, Search, Stage, Student, Teacher
from effjax.recipe.trained_ways import BlockMovement, HardConcrete
from effjax.recipe.ways import FewerLayers, Given, OneShot, Pruned, RetrainingFree, Way, ZipLM

__all__ = [
    "BlockMovement",
    "Distillation",
    "FewerLayers",
    "Finetuning",
    "GeneralDistillation",
    "Given",
    "HardConcrete",
    "Method",
    "NewModel",
    "OneShot",
    "Pretraining",
    "Pruned",
    "Pruning",
    "Recovery",
    "RetrainingFree",
    "Search",
    "Stage",
    "Student",
    "Teacher",
    "Way",
    "ZipLM",
]
