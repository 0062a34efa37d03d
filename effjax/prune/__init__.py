"""Pruning: models that become really smaller."""

from effjax.models.factors import multiplied_out
from effjax.prune.cofi import CoFi
from effjax.prune.gates import gated, gates_of, kept, open_gates, settled
from effjax.prune.gradual import GradualMagnitude, cubic
from effjax.prune.layer_drop import LayerDrop
from effjax.prune.layers import (
    alternate,
    bottom,
    every_other,
    fewer_layers,
    least_contributing,
    least_important,
    symmetric,
    top,
    without_layers,
)
from effjax.prune.low_rank import best_ranks, factorable, factorised, rank_errors
from effjax.prune.masks import masked, n_of_m_masks, wanda, weight_masks
from effjax.prune.movement import Movement, SoftMovement
from effjax.prune.narrow import narrowed
from effjax.prune.needed import needed
from effjax.prune.obs import obs
from effjax.prune.reparam import Reparam
from effjax.prune.retraining_free import retraining_free
from effjax.prune.schedule import cubic_targets, even_targets, iterative
from effjax.prune.scores import activation, block_fisher, first_order, fisher, magnitude, uniform
from effjax.prune.search import best_sizes, select
from effjax.prune.second_moments import second_moments
from effjax.prune.shrink import shrink
from effjax.prune.vocabulary import vocabulary
from effjax.prune.ziplm import ziplm, ziplm_gradual

__all__ = [
    "CoFi",
    "GradualMagnitude",
    "LayerDrop",
    "Movement",
    "Reparam",
    "SoftMovement",
    "activation",
    "alternate",
    "best_ranks",
    "best_sizes",
    "block_fisher",
    "bottom",
    "cubic",
    "cubic_targets",
    "even_targets",
    "every_other",
    "factorable",
    "factorised",
    "fewer_layers",
    "first_order",
    "fisher",
    "gated",
    "gates_of",
    "iterative",
    "kept",
    "least_contributing",
    "least_important",
    "magnitude",
    "masked",
    "multiplied_out",
    "n_of_m_masks",
    "narrowed",
    "needed",
    "obs",
    "open_gates",
    "rank_errors",
    "retraining_free",
    "second_moments",
    "select",
    "settled",
    "shrink",
    "symmetric",
    "top",
    "uniform",
    "vocabulary",
    "wanda",
    "weight_masks",
    "without_layers",
    "ziplm",
    "ziplm_gradual",
]
