"""Pruning: models that become really smaller."""

from effjax.prune.narrow import narrowed
from effjax.prune.shrink import shrink

__all__ = ["narrowed", "shrink"]
