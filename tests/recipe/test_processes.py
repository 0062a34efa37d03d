"""`effjax run` as two processes, started as SLURM starts them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from effjax import hf
from effjax.data import toy
from effjax.data.kinds import prepare
from effjax.data.tasks import get_task
from effjax.train import evaluate
from tests.recipe.test_finetuning import tiny_encoder

CONFIG = """
import functools
from effjax.data import toy
from effjax.recipe import Finetuning
from effjax.train import Mesh, Training

toy.examples = functools.partial(toy.examples, size=600)
recipe = Finetuning(
    task="toy/sentiment",
    splits=("validation",),
    source={source!r},
    training=Training(epochs=1, batch_size=64, learning_rate=3e-3, max_length=32),
    seeds=(0,),
    mesh=Mesh(data=2, fsdp=2),
)
"""


def run(config: Path, out: Path, number: int, job: int) -> subprocess.CompletedProcess[str]:
    """One of two tasks of a SLURM step, with two devices."""
    slurm = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": number}
    environment = {f"SLURM_{name}": str(value) for name, value in slurm.items()}
    environment |= {"SLURM_LOCALID": str(number), "JAX_PLATFORMS": "cpu"}
    # Programs of several CPU devices wait for each other for ever if they start in another order.
    environment |= {"JAX_NUM_CPU_DEVICES": "2", "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}
    command = [sys.executable, "-m", "effjax", "run", str(config), "--out", str(out)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_processes_run_one_recipe_and_one_of_them_writes(tmp_path: Path) -> None:
    config, out = tmp_path / "recipe.py", tmp_path / "out"
    config.write_text(CONFIG.format(source=str(tiny_encoder(tmp_path / "tiny"))))
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(run, config, out, number, os.getpid()) for number in range(2)]
        first, second = (job.result() for job in jobs)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "results.json and model/ are in" in first.stdout
    assert "results.json" not in second.stdout
    report = json.loads((out / "results.json").read_text())
    assert report["runs"][0]["steps"] == 10
    task, model = get_task("toy/sentiment"), hf.from_pretrained(out / "model")
    examples = toy.examples("validation", size=600)
    prepared = prepare(task, hf.load_tokenizer(out / "model"), examples, 32)
    assert evaluate(model, task, prepared).metrics == report["runs"][0]["scores"]["validation"]
    assert not list(tmp_path.rglob(".partial*"))


def test_without_a_cluster_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from effjax.train import processes

    def absent() -> None:
        raise ValueError("coordinator_address should be defined.")

    def broken() -> None:
        raise ValueError("process_id must be below num_processes")

    monkeypatch.setattr("jax.distributed.initialize", absent)
    processes.join()
    monkeypatch.setattr("jax.distributed.initialize", broken)
    with pytest.raises(ValueError, match="process_id"):
        processes.join()
