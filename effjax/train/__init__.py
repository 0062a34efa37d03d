"""Training: a jitted step, a loop that can be interrupted, a mesh of devices, evaluation."""

from effjax.train.evaluate import evaluate, predict
from effjax.train.fitting import fit
from effjax.train.mesh import Mesh
from effjax.train.step import TrainState, make_train_step
from effjax.train.together import fit_together
from effjax.train.training import Training

__all__ = [
    "Mesh",
    "TrainState",
    "Training",
    "evaluate",
    "fit",
    "fit_together",
    "make_train_step",
    "predict",
]
