"""Pruning: models that become really smaller."""

from effjax.prune.cofi import CoFi
from effjax.prune.gates import gated, gates_of, kept, open_gates, settled
from effjax.prune.narrow import narrowed
from effjax.prune.reparam import Reparam
from effjax.prune.retraining_free import retraining_free
from effjax.prune.scores import activation, first_order, fisher, magnitude, uniform
from effjax.prune.search import best_sizes, select
from effjax.prune.shrink import shrink

__all__ = [
    "CoFi",
    "Reparam",
    "activation",
    "best_sizes",
    "first_order",
    "fisher",
    "gated",
    "gates_of",
    "kept",
    "magnitude",
    "narrowed",
    "open_gates",
    "retraining_free",
    "select",
    "settled",
    "shrink",
    "uniform",
]
