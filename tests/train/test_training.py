import pytest

from effjax.train import Training


def test_a_recipe_decides_how_its_models_compute() -> None:
    runtime = Training(dtype="bfloat16", remat="layers").runtime()
    assert (runtime.dtype, runtime.remat) == ("bfloat16", "layers")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="training: patience is 0; it must be above 0"):
        Training(patience=0)
    with pytest.raises(ValueError, match="3 micro-batches do not divide a batch of 32"):
        Training(micro_batches=3)
