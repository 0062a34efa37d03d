"""Recipes: experiments as values, built by Python files in configs/, run by `effjax run`."""

from effjax.recipe.distillation import Distillation
from effjax.recipe.finetuning import Finetuning
from effjax.recipe.general import GeneralDistillation
from effjax.recipe.pretraining import Pretraining
from effjax.recipe.spec import Method, NewModel, Search, Stage, Student, Teacher

__all__ = [
    "Distillation",
    "Finetuning",
    "GeneralDistillation",
    "Method",
    "NewModel",
    "Pretraining",
    "Search",
    "Stage",
    "Student",
    "Teacher",
]
