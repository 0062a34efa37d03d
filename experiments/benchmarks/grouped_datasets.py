"""As torch_datasets.py, with examples of like length in one batch."""

import functools

import torch_datasets

CELL, describe = torch_datasets.CELL, torch_datasets.describe
prepare = functools.partial(torch_datasets.prepare, grouped=True)
