"""Pruning: models that become really smaller."""

from effjax.models.factors import multiplied_out
from effjax.prune.cofi import CoFi
from effjax.prune.gates import gated, gates_of, kept, open_gates, settled
from effjax.prune.low_rank import best_ranks, factorable, factorised, rank_errors
from effjax.prune.narrow import narrowed
from effjax.prune.reparam import Reparam
from effjax.prune.retraining_free import retraining_free
from effjax.prune.scores import activation, first_order, fisher, magnitude, uniform
from effjax.prune.search import best_sizes, select
from effjax.prune.second_moments import second_moments
from effjax.prune.shrink import shrink

__all__ = [
    "CoFi",
    "Reparam",
    "activation",
    "best_ranks",
    "best_sizes",
    "factorable",
    "factorised",
    "first_order",
    "fisher",
    "gated",
    "gates_of",
    "kept",
    "magnitude",
    "multiplied_out",
    "narrowed",
    "open_gates",
    "rank_errors",
    "retraining_free",
    "second_moments",
    "select",
    "settled",
    "shrink",
    "uniform",
]
