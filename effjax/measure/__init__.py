"""Measurement: what a model costs on paper, and what it takes on this machine."""

from effjax.measure.cost import Cost, cost, file_size
from effjax.measure.costs import flop_costs, parameter_costs
from effjax.measure.latency import Comparison, Latency, Speedup, compare, latency
from effjax.measure.machine import machine
from effjax.measure.memory import Memory, memory, peak_rss
from effjax.measure.table import LatencyTable, latency_table

__all__ = [
    "Comparison",
    "Cost",
    "Latency",
    "LatencyTable",
    "Memory",
    "Speedup",
    "compare",
    "cost",
    "file_size",
    "flop_costs",
    "latency",
    "latency_table",
    "machine",
    "memory",
    "parameter_costs",
    "peak_rss",
]
