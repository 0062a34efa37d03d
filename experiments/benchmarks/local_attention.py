"""A local layer of ModernBERT-base in a band, against the same layer under a full mask.

    python experiments/benchmarks/local_attention.py

One layer on full rows without padding: its forward pass, and the gradient of all its parameters and
its input. Both sides have the same weights and are checked to give the same outputs, then timed in
turns; compiling is apart. Memory is what the compiled program says that it needs besides its
arguments. Writes paper/results/local_attention.json.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from compare_torch import ROOT, commit

from effjax.files import write_json
from effjax.layers.attention import SelfAttention
from effjax.layers.local import full_mask, has_band, local_key, local_mask
from effjax.measure import machine
from effjax.measure.latency import WARMUP, in_turns, quartiles
from effjax.measure.machine import CpuClock, other_cores
from effjax.models.base import Runtime
from effjax.models.hf_config import config_from_hf
from effjax.models.modernbert import MODERNBERT, ModernBertBlock, WindowAttention
from effjax.models.rotary_fields import rotations
from effjax.types import Array, Float, Shared

Program = Callable[[Any, Array], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure; every combination is one entry.

    Attributes:
        lengths: tokens in a row.
        tokens: of all rows together, if that is one row at least.
        samples: calls of each side, in turns.
        size: of ModernBERT.
    """

    lengths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    tokens: int = 8192
    samples: int = 15
    size: str = "base"
    out: Path = ROOT / "paper" / "results" / "local_attention.json"


class FullMaskAttention(WindowAttention):
    """All scores, those outside the window masked."""

    def attend(
        self, trace: Mapping[str, Array], shared: Shared, deterministic: bool
    ) -> Float[Array, "B H L K"]:
        return SelfAttention.attend(self, trace, shared, deterministic)


class FullMaskBlock(ModernBertBlock):
    """The layer with such attention."""

    window_attention = FullMaskAttention


def programs(settings: Settings, dtype: Any, rows: int, length: int) -> dict[str, Program]:
    """Both sides' forward pass, by name; masks and rotations are part of it."""
    sizes = {**MODERNBERT.sizes[settings.size], "max_position_embeddings": length}
    config: Any = config_from_hf(MODERNBERT, sizes)
    spec = next(spec for spec in config.layers if spec.reach is not None)
    runtime = dataclasses.replace(Runtime.auto(dtype), chunk_tokens=None)

    def program(block: type[ModernBertBlock]) -> Program:
        def forward(params: Any, x_BLD: Array) -> Array:
            token_BL = jnp.ones((rows, length), bool)
            places_BL = jnp.broadcast_to(jnp.arange(length), (rows, length))
            shared = rotations(config, places_BL)
            if block is FullMaskBlock:
                shared["mask"] = full_mask(token_BL, None, spec.reach)
            else:
                shared[local_key(spec.reach)] = local_mask(token_BL, None, spec.reach)
            module = block(config, spec, runtime)
            return module.apply({"params": params}, x_BLD, shared, {}, True)[0]

        return forward

    if not has_band(length, spec.reach):
        raise ValueError(f"length {length} is too short for a band of reach {spec.reach}")
    return {"full": program(FullMaskBlock), "band": program(ModernBertBlock)}


def training(forward: Program) -> Program:
    """The gradient of a loss of the layer's output."""

    def loss(params: Any, x_BLD: Array) -> Array:
        return jnp.square(forward(params, x_BLD).astype(jnp.float32)).mean()

    return jax.grad(loss, (0, 1))


def parameters(settings: Settings) -> Any:
    """Those of layer 1 of a new model."""
    from effjax.models import create

    model = create("modernbert", size=settings.size, key=jax.random.key(0))
    return model.params["layer_1"]


def measure(settings: Settings, params: Any, mode: str, dtype: str, length: int) -> dict[str, Any]:
    """One entry: both sides in turns."""
    rows = max(1, settings.tokens // length)
    hidden = params["attention"]["output"]["kernel"].shape[-1]
    x = jax.random.normal(jax.random.key(1), (rows, length, hidden))
    calls, entry, outputs = {}, {"mode": mode, "dtype": dtype, "rows": rows, "length": length}, {}
    for name, forward in programs(settings, dtype, rows, length).items():
        begun = time.perf_counter()
        made = forward if mode == "inference" else training(forward)
        compiled = jax.jit(made).lower(params, x).compile()
        seconds, memory = time.perf_counter() - begun, compiled.memory_analysis()
        calls[name] = lambda compiled=compiled: jax.block_until_ready(compiled(params, x))
        outputs[name] = jax.tree.leaves(compiled(params, x))
        for _ in range(WARMUP):
            calls[name]()
        entry[name] = {
            "compile_seconds": seconds,
            "bytes": memory.temp_size_in_bytes if memory else None,
        }
    entry["largest_difference"] = max(
        float(jnp.abs(one.astype(jnp.float32) - other.astype(jnp.float32)).max())
        for one, other in zip(outputs["full"], outputs["band"], strict=True)
    )
    before = CpuClock.now()
    times = in_turns(calls, settings.samples)
    entry["other_cores"] = other_cores(before, CpuClock.now())
    for name, seconds in times.items():
        entry[name] |= {"seconds": seconds, "median": float(np.median(seconds))}
    ratios = np.divide(times["full"], times["band"])
    entry["speedup"], entry["quartiles"] = float(np.median(ratios)), quartiles(ratios)
    return entry


def entries(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every combination, in turn."""
    params = parameters(settings)
    modes = ("inference", "training")
    for dtype, length, mode in itertools.product(settings.dtypes, settings.lengths, modes):
        yield measure(settings, params, mode, dtype, length)


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    shape = {"size": settings.size, "samples": settings.samples}
    results = {"machine": machine(), "commit": commit(), **shape, "entries": []}
    for entry in entries(settings):
        results["entries"].append(entry)
        write_json(settings.out, results)
        full, band = (1e3 * entry[name]["median"] for name in ("full", "band"))
        what = f"{entry['mode']} {entry['dtype']} {entry['rows']}x{entry['length']}"
        print(f"{what}: full {full:.1f} ms, band {band:.1f} ms, {entry['speedup']:.2f}", flush=True)


if __name__ == "__main__":
    main()
