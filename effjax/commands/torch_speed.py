"""How much faster a folder is in torch than the stock model of its config.json.

That is asked of the layout "compact": the same code with smaller arrays should be as much faster as
it has fewer FLOPs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effjax.hf import from_pretrained
from effjax.hf.compact import whole_config
from effjax.hf.verify import torch_calls
from effjax.measure.cost import products, program
from effjax.measure.latency import WARMUP, in_turns, quartiles
from effjax.models.base import EncoderConfig

SAMPLES = 15


@dataclass(frozen=True, kw_only=True)
class TorchSpeed:
    """Of a folder over the stock model.

    Attributes:
        speedup: median of the ratios round by round.
        quartiles: of the same.
        flops: FLOPs of the stock model's products over those of the folder's.
    """

    batch: int
    length: int
    speedup: float
    quartiles: tuple[float, float]
    flops: float

    def __str__(self) -> str:
        low, high = self.quartiles
        return (
            f"torch, {self.batch} x {self.length} tokens: {self.speedup:.2f} times as fast as the "
            f"stock model (quartiles {low:.2f} to {high:.2f}), with {self.flops:.2f} times fewer "
            f"FLOPs, {self.speedup / self.flops:.2f} of which is speed"
        )


def torch_speed(folder: str | Path, *, batch: int = 8, length: int = 128) -> TorchSpeed:
    """Both timed in turns.

    Raises:
        ValueError: torch is not installed, the folder cannot be read, or the model is for shorter
            inputs.
    """
    model = from_pretrained(folder)
    if model.config.max_length < length:
        raise ValueError(
            f"{folder}: the model reads {model.config.max_length} tokens; its speed is measured "
            f"at {length}"
        )

    def flops(config: EncoderConfig) -> int:
        return products(program(model.architecture, config, batch=batch, length=length).jaxpr)

    calls = torch_calls(folder, model, batch=batch, length=length)
    for call in (*calls.values(), *calls.values()) * WARMUP:
        call()
    times = in_turns(calls, SAMPLES)
    rounds = np.divide(times["stock"], times["own"])
    return TorchSpeed(
        batch=batch,
        length=length,
        speedup=float(np.median(rounds)),
        quartiles=quartiles(rounds),
        flops=flops(whole_config(model.architecture, model.config)) / flops(model.config),
    )
