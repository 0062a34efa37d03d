import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effjax.data.batches import TrainBatches
from effjax.data.encode import Encoded
from effjax.data.examples import Examples
from effjax.data.kinds import Prepared
from effjax.data.metrics import decide
from effjax.data.tasks import get_task
from effjax.distill import (
    CachedOutputs,
    HiddenMSE,
    Needs,
    SentenceMSE,
    SoftTargets,
    TaskLoss,
    Weighted,
    cache_outputs,
)
from effjax.models import Model, Outputs, Runtime, create
from effjax.models.base import EncoderConfig
from effjax.train import Training, evaluate, fit, loop, predict
from effjax.train.checkpoint import Checkpoints
from effjax.train.logs import read_history
from effjax.train.step import PURPOSES, step_keys
from effjax.tree import flatten
from effjax.types import Aux
from tests.train.small_run import small_data

TASK = Weighted(task=(1.0, TaskLoss()))
QUICK = Training(epochs=10, batch_size=16, learning_rate=1e-2, save_every=5)


def same(a: Model, b: Model) -> bool:
    x, y = flatten(a.params), flatten(b.params)
    return all(np.array_equal(x[path], y[path]) for path in x)


def prepared(encoded: Encoded) -> Prepared:
    """The tokens with examples of which only the labels matter."""
    return Prepared(Examples(([""] * len(encoded),), encoded.labels, encoded.idx), encoded)


def test_training_learns_and_leaves_the_given_model_alone(model: Model, tmp_path: Path) -> None:
    """The last of five batches has 6 examples of 16."""
    encoded = small_data(70)
    before = jax.tree.map(np.array, model.params)
    fitted = fit(model, encoded, TASK, QUICK, seed=0, folder=tmp_path)
    assert fitted.steps == 10 * 5
    right = decide(get_task("glue/sst2"), predict(fitted.model, encoded)) == encoded.labels
    assert right.mean() > 0.95
    found = evaluate(fitted.model, get_task("glue/sst2"), prepared(encoded))
    assert found.metrics == {"accuracy": right.mean()}
    assert np.array_equal(found.right, right)
    assert same(model, model.replace(params=before))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 50
    assert rows[-1]["loss"] < rows[0]["loss"] / 2


def test_examples_longer_than_the_model_reads_are_refused(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """There are no positions for them, and what is read beyond a table is not a number."""
    longest = int(encoded.lengths.max())
    short = model.replace(config=model.config.replace(positions=longest - 1))
    with pytest.raises(ValueError, match=f"has {longest} tokens; .* for {longest - 1}"):
        fit(short, encoded, TASK, QUICK, seed=0, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [0, -5])
def test_a_run_without_a_step_is_refused(
    model: Model, encoded: Encoded, tmp_path: Path, steps: int
) -> None:
    """Nothing says that a model which was never trained is a trained one."""
    with pytest.raises(ValueError, match=f"steps is {steps}; it must be above 0"):
        fit(model, encoded, TASK, QUICK, seed=0, folder=tmp_path / "run", steps=steps)
    assert not (tmp_path / "run").exists()


def test_another_seed_gives_another_model(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    models = [
        fit(model, encoded, TASK, QUICK, seed=seed, folder=tmp_path / str(seed), steps=3).model
        for seed in (0, 1)
    ]
    assert not same(*models)


@dataclass
class Spoiled:
    """A teacher whose logits are 0, and no numbers in some of its calls, counted from 1."""

    config: EncoderConfig
    spoiled: Callable[[int], bool]
    calls: int = 0
    digest: str = "zeros"

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Outputs:
        self.calls += 1
        value = np.nan if self.spoiled(self.calls) else 0.0
        return Outputs(logits=jnp.full((16, 2), value, jnp.float32))

    def only(self, needs: Needs) -> "Spoiled":
        return self

    def check(self, name: str, encoded: Encoded, *, masked: bool) -> None: ...


def test_a_loss_that_is_not_a_number_names_its_step_and_keeps_the_checkpoint(
    model: Model, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's logits turn to NaN in step 7, after the checkpoint of step 5."""
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    teachers = {"teacher": Spoiled(model.config, lambda call: call == 7)}
    objective = Weighted(soft=(1.0, SoftTargets(temperature=2.0)))
    with pytest.raises(ValueError, match="the loss is nan at step 7; its batch is saved as"):
        fit(
            model,
            encoded,
            objective,
            QUICK,
            seed=0,
            folder=tmp_path,
            teachers=teachers,
        )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]
    with np.load(tmp_path / "batch-of-step-7.npz") as batch:
        (wanted,) = TrainBatches(encoded=encoded, batch_size=16, seed=0, pad_id=0)[6]
        assert np.array_equal(batch["0/input_ids"], wanted["input_ids"])


def test_the_speed_is_of_training_alone(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    """An evaluation takes longer than all of the next epoch's steps."""

    def slow(model: Model, aux: Any) -> dict[str, float]:
        time.sleep(3)
        return {"score": 1.0}

    training = replace(QUICK, epochs=2)
    fit(model, encoded, TASK, training, seed=0, folder=tmp_path, evaluation=slow)
    last = [record for record in read_history(tmp_path) if "loss" in record][-1]
    tokens = int(encoded.offsets[-1])
    assert tokens / last["speed/tokens_per_second"] < 3


def test_a_slow_run_saves_more_often(
    model: Model, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each epoch, where the time since the last checkpoint is looked at, or at the end."""
    saved: list[int] = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, x: (saved.append(int(x.step)), save(self, x))
    )
    training = replace(QUICK, epochs=3, save_every=1000)
    fit(model, encoded, TASK, training, seed=0, folder=tmp_path / "quick")
    assert saved == [15]
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "give_back", lambda: saved.append(-1))
    fit(model, encoded, TASK, training, seed=0, folder=tmp_path / "slow")
    assert saved == [15, 5, -1, 10, -1, 15, -1]  # and memory in no use is given back


def test_steps_left_out_are_named_and_too_many_in_a_row_stop_the_run(
    model: Model, encoded: Encoded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The teacher's logits are no numbers in steps 2 to 4, and from step 8 on, of 20; a record is
    written every 5 steps.
    """
    objective = Weighted(soft=(1.0, SoftTargets(temperature=2.0)))
    teacher = Spoiled(model.config, lambda call: call in (2, 3, 4) or call > 7)
    training = replace(QUICK, epochs=4, skip_spikes=100.0)
    with pytest.raises(ValueError, match="10 steps in a row were left out at step 17"):
        fit(
            model,
            encoded,
            objective,
            training,
            seed=0,
            folder=tmp_path,
            teachers={"teacher": teacher},
        )
    first, second, third = read_history(tmp_path)
    assert [record["skipped"] for record in (first, second, third)] == [3, 3, 5]
    assert np.isfinite([first["loss"], second["loss"]]).all() and np.isnan(third["loss"])
    assert [record.message for record in caplog.records if record.name == "effjax"] == [
        f"{tmp_path}: left out steps 2, 3, 4",
        f"the first one's batch is saved as {tmp_path / 'batch-of-step-2.npz'}",
        f"{tmp_path}: left out steps 8, 9, 10",
        f"{tmp_path}: left out steps 11, 12, 13, 14, 15",
    ]
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [
        "batch-of-step-17.npz",
        "batch-of-step-2.npz",
    ]


def test_a_step_left_out_alone_stops_nothing(
    model: Model, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every step has a record of its own."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    objective = Weighted(soft=(1.0, SoftTargets(temperature=2.0)))
    teacher = Spoiled(model.config, lambda call: call % 2 == 0)
    training = replace(QUICK, epochs=5, skip_spikes=100.0)
    options: Any = {"seed": 0, "folder": tmp_path, "teachers": {"teacher": teacher}}
    assert fit(model, encoded, objective, training, **options).steps == 25
    assert [record["skipped"] for record in read_history(tmp_path)] == [0, 1] * 12 + [0]


def test_training_stops_early_and_keeps_the_best_model(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """The scores rise until epoch 2 and then stay below; a run that goes on stays at its end."""
    scores, seen, shown = iter([0.5, 0.8, 0.7, 0.8, 0.9]), [], []

    def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        shown.append((step, steps, *next(iter(metrics.items()))))

    def evaluation(found: Model, aux: Aux) -> dict[str, float]:
        del aux
        seen.append(jax.tree.map(np.array, found.params))
        return {"validation/accuracy": next(scores)}

    training = replace(QUICK, patience=2)
    options: Any = {"seed": 0, "folder": tmp_path, "evaluation": evaluation, "progress": progress}
    fitted = fit(model, encoded, TASK, training, **options)
    assert (len(seen), fitted.steps) == (4, 4 * 5)
    assert same(fitted.model, model.replace(params=seen[1]))
    again = fit(model, encoded, TASK, training, **options)
    assert (len(seen), again.steps) == (4, 4 * 5)
    assert same(again.model, fitted.model)
    found = [r["validation/accuracy"] for r in read_history(tmp_path) if "loss" not in r]
    assert found == [0.5, 0.8, 0.7, 0.8]
    name = "validation/accuracy"
    assert shown[:3] == [(5, 50, name, 0.5), (10, 50, name, 0.8), (15, 50, name, 0.7)]
    assert shown[3:] == [(20, 20, name, 0.8)]  # where it stops, all of its steps are done


def test_a_lowered_patience_is_heard_before_another_step(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """Two evaluations without a better score are fewer than three, and more than one."""
    scores = iter([0.8, 0.7, 0.6])

    def evaluation(found: Model, aux: Aux) -> dict[str, float]:
        return {"validation/accuracy": next(scores)}

    options: Any = {"seed": 0, "folder": tmp_path, "evaluation": evaluation}
    begun = fit(model, encoded, TASK, replace(QUICK, patience=3), steps=15, **options)
    options["accept_changes"] = True
    stopped = fit(model, encoded, TASK, replace(QUICK, patience=1), **options)
    assert (begun.steps, stopped.steps) == (15, 15)
    assert same(stopped.model, begun.model)


def test_what_stops_early_must_be_evaluated(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patience is 2, but nothing is evaluated"):
        fit(model, encoded, TASK, replace(QUICK, patience=2), seed=0, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_before_the_first_evaluation_the_last_model_is_the_best(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    options: Any = {"seed": 0, "steps": 3}  # an epoch has 5
    early = fit(
        model,
        encoded,
        TASK,
        replace(QUICK, patience=1),
        folder=tmp_path / "early",
        evaluation=lambda found, aux: {"validation/accuracy": 1.0},
        **options,
    )
    plain = fit(model, encoded, TASK, QUICK, folder=tmp_path / "plain", **options)
    assert same(early.model, plain.model)


def test_a_student_learns_from_cached_outputs_as_from_the_teacher(
    model: Model, encoded: Encoded, tmp_path: Path
) -> None:
    """Hidden states are kept in float16; what is left of the difference is its rounding."""
    objective = Weighted(
        soft=(1.0, SoftTargets(temperature=2.0)),
        hidden=(1.0, HiddenMSE(layers="uniform")),
        sentence=(1.0, SentenceMSE()),
    )
    configs = {"teacher": model.config}
    needs = objective.needs(model.config, configs)["teacher"]
    cached = cache_outputs(model, encoded, needs, batch_size=8)
    student = create_like(model)
    results = {}
    for name, teacher in {"cached": cached, "live": model}.items():
        results[name] = fit(
            student,
            encoded,
            objective,
            Training(epochs=1, batch_size=16),
            seed=0,
            folder=tmp_path / name,
            teachers={"teacher": teacher},
        ).loss
    np.testing.assert_allclose(results["cached"], results["live"], rtol=1e-3)


def test_cached_outputs_are_the_teachers(model: Model, encoded: Encoded) -> None:
    needs = Needs(logits=True, hidden=(0, 2), sentence=True)
    cached: CachedOutputs = cache_outputs(model, encoded, needs, batch_size=16)
    (batch,) = TrainBatches(encoded=encoded, batch_size=16, seed=0, pad_id=0)[0]
    kept, live = cached(batch), model.trace(batch)
    real = batch["attention_mask"].astype(bool)
    for field in ("logits", "sentence"):
        ours, theirs = (np.asarray(getattr(outputs, field)) for outputs in (kept, live))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for layer in (0, 2):
        ours, theirs = (np.asarray(outputs.hidden(layer))[real] for outputs in (kept, live))
        np.testing.assert_allclose(ours, theirs, rtol=2**-11, atol=1e-6)
    with pytest.raises(ValueError, match="hidden state 1 was not kept"):
        kept.hidden(1)
    assert cache_outputs(model, encoded, Needs(), batch_size=16)(batch).sentence is None


def create_like(model: Model) -> Model:
    """A new one-layer model of the same width."""
    fields: dict[str, Any] = {
        "vocab_size": 31,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
    }
    return create("bert", size="tiny", head=model.config.head, key=jax.random.key(9), **fields)


@pytest.mark.slow
def test_bfloat16_trains_too(model: Model, encoded: Encoded, tmp_path: Path) -> None:
    low = model.replace(runtime=Runtime(dtype="bfloat16"))
    fitted = fit(low, encoded, TASK, QUICK, seed=0, folder=tmp_path)
    found = evaluate(fitted.model, get_task("glue/sst2"), prepared(encoded))
    assert found.metrics["accuracy"] > 0.95
    assert fitted.model.params["head"]["output"]["kernel"].dtype == jnp.float32


def test_every_purpose_has_its_own_key() -> None:
    key = jax.random.key(0)
    drawn = [
        step_keys(key, jnp.int32(step), part) for step in (0, 1) for part in (None, jnp.int32(1))
    ]
    bits = {tuple(jax.random.key_data(k).tolist()) for keys in drawn for k in keys.values()}
    assert len(bits) == 4 * len(PURPOSES)


def test_a_task_wants_its_own_head(model: Model, encoded: Encoded) -> None:
    with pytest.raises(ValueError, match="conll2003/conll2003 is answered by the head token-class"):
        evaluate(model, get_task("conll2003/conll2003"), prepared(encoded))
