"""Steps of training are torch's: the same losses, gradient norms and weights, step by step."""

from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from effjax import hf
from effjax.data.batches import TrainBatches
from effjax.distill import TaskLoss, Weighted
from effjax.models import Model
from effjax.train.step import init_state, make_train_step
from effjax.train.training import Training
from effjax.tree import flatten
from tests.train.small_run import small_data

STEPS = 12


def test_training_is_that_of_torch(model: Model, tmp_path: Path) -> None:
    """AdamW with warm-up, linear decay, clipping and no decay of norms and biases, as transformers
    fine-tunes; without dropout, whose masks differ.
    """
    still = model.replace(config=model.config.replace(dropout=0.0, attention_dropout=0.0))
    hf.save_pretrained(still, tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).train()
    training = Training(learning_rate=1e-2, clip_norm=0.5, weight_decay=0.1, warmup=0.25)
    optimizer, schedule = torch_optimizer(theirs, training)
    objective = Weighted(task=(1.0, TaskLoss()))
    state = init_state(still, objective, training, steps=STEPS, seed=0, teachers={})
    step = make_train_step(still, objective, training)
    batches = TrainBatches(encoded=small_data(70), batch_size=14, seed=0, pad_id=0, layout="padded")
    for i in range(STEPS):
        (batch,) = batches[i]
        state, metrics = step(state, ((batch, {}),))
        names = ("input_ids", "attention_mask", "token_type_ids", "labels")
        given = {name: torch.from_numpy(batch[name]).long() for name in names}
        loss = theirs(**given).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), training.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        np.testing.assert_allclose(metrics["loss"], loss.detach(), rtol=1e-4, err_msg=str(i))
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-3, err_msg=str(i))
    rows, ours = still.table.by_path, flatten(jax.tree.map(np.asarray, state.params))
    head = theirs.state_dict()[rows["head/output/kernel"].hf[0]].numpy().T
    np.testing.assert_allclose(ours["head/output/kernel"], head, atol=1e-4)


def torch_optimizer(model: torch.nn.Module, training: Training) -> tuple:
    """torch's AdamW and transformers' schedule with the numbers of a training."""
    named = list(model.named_parameters())
    plain = [p for name, p in named if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for name, p in named if not (name.endswith("bias") or "LayerNorm" in name)]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
    rising = round(training.warmup * STEPS)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, rising, STEPS)
    return optimizer, schedule
