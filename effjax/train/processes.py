"""Several processes of one program, as on the hosts of a TPU pod: who writes, and what all know.

With one process, all of this comes down to doing what is asked.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils


def join() -> None:
    """Joins the other processes of this program, where a cluster started several: a TPU pod, SLURM,
    Open MPI or Kubernetes. Comes before anything that asks JAX for its devices.

    Raises:
        RuntimeError: the others could not be reached.
    """
    try:
        jax.distributed.initialize()
    except ValueError as error:
        if "coordinator_address should be defined" not in str(error):  # JAX found no cluster
            raise


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def by_first(write: Callable[[], object]) -> None:
    """Has the first process do something, and the others wait until it is done."""
    if is_first():
        write()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the first process has written")


def first_says(so: bool) -> bool:
    """What the first process has here; all others do as it does."""
    if jax.process_count() > 1:
        return bool(multihost_utils.broadcast_one_to_all(np.array(so)))
    return so


def exists(path: Path) -> bool:
    """Whether there is such a file; the first process looks, since shared disks may lag behind."""
    return first_says(path.exists())
