"""Tasks, examples, tokenisation, batches and metrics: numpy in, numpy out, no JAX.

Importing this package loads numpy and nothing heavier; TFDS, scikit-learn and tokenizers are loaded
by the calls that need them, so that the command line starts fast.
"""

from effjax.data.batches import TrainBatches, eval_batches, padding_share, steps_per_epoch
from effjax.data.datasets import import_folder, load
from effjax.data.encode import Encoded, encode
from effjax.data.examples import Examples, split_off
from effjax.data.glue_score import glue_score
from effjax.data.layouts import BUCKETS, WIDTHS, Batch, Layout, packed_batches, padded_batches
from effjax.data.metrics import Difference, decide, evaluate, paired_bootstrap, wilson_interval
from effjax.data.submission import write_submission
from effjax.data.tables import TextFiles
from effjax.data.tagged_files import TaggedFiles
from effjax.data.tasks import TASKS, Task, get_task

__all__ = [
    "BUCKETS",
    "TASKS",
    "WIDTHS",
    "Batch",
    "Difference",
    "Encoded",
    "Examples",
    "Layout",
    "TaggedFiles",
    "Task",
    "TextFiles",
    "TrainBatches",
    "decide",
    "encode",
    "eval_batches",
    "evaluate",
    "get_task",
    "glue_score",
    "import_folder",
    "load",
    "packed_batches",
    "padded_batches",
    "padding_share",
    "paired_bootstrap",
    "split_off",
    "steps_per_epoch",
    "wilson_interval",
    "write_submission",
]
