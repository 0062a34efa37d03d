"""`effjax run`: a recipe from a Python file, with any field overridden; `effjax glue`: what the
results of several amount to.
"""

import dataclasses
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, Suppress, arg

from effjax.overrides import describe, override


@dataclass(frozen=True)
class Run:
    """Run a recipe: a Python file that defines `recipe`.

    Any field of the recipe can be overridden, `--train.learning-rate 3e-5`;
    `effjax run CONFIG --help` lists the fields.

    Example: effjax run configs/quickstart.py --out runs/first
    """

    config: Positional[Annotated[Path, arg(metavar="CONFIG")]]
    """The recipe's Python file."""
    out: Path | None = None
    """The folder that the run writes; runs/<name of the config> if not given."""
    accept_changes: bool = False
    """Go on with what another recipe left in the folder; the results then list both."""
    overrides: Annotated[tuple[str, ...], Suppress] = ()

    def __call__(self) -> None:
        from effjax.train.processes import join

        join()
        recipe = override(load_recipe(self.config), self.overrides)
        out = self.out or Path("runs") / self.config.stem
        recipe.run(out, accept_changes=self.accept_changes)


@dataclass(frozen=True)
class Glue:
    """Print the GLUE score of fine-tunings on its nine tasks.

    Example: effjax glue runs/finetune_*/results.json
    """

    results: Positional[Annotated[tuple[Path, ...], arg(metavar="RESULTS ...")]]
    """The results.json that `effjax run` wrote for each task."""

    def __call__(self) -> None:
        from effjax.data.glue_score import glue_score, task_scores
        from effjax.recipe.finetuning import read_scores

        scores = read_scores(self.results)
        for name, score in task_scores(scores).items():
            print(f"{name}  {score:.4f}")
        print(f"GLUE score  {glue_score(scores):.4f}  (development splits)")


def load_recipe(config: Path) -> Any:
    """The `recipe` that a Python file defines: a frozen dataclass with `run(out)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a Python file or defines no such recipe.
    """
    if not config.is_file():
        raise FileNotFoundError(f"{config}: no such recipe; `effjax list recipes` shows those here")
    name = f"effjax_config_{config.stem}"
    spec = importlib.util.spec_from_file_location(name, config)
    if spec is None or spec.loader is None:
        raise ValueError(f"{config}: a recipe is a Python file, name.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and their annotations are looked up by module name
    spec.loader.exec_module(module)
    recipe = getattr(module, "recipe", None)
    if not dataclasses.is_dataclass(recipe) or not callable(getattr(recipe, "run", None)):
        raise ValueError(f"{config}: defines no `recipe`, a frozen dataclass with run(out)")
    return recipe


def recipe_help(config: Path) -> str:
    """What `effjax run CONFIG --help` prints: the file's docstring and every field."""
    recipe = load_recipe(config)
    about = (sys.modules[type(recipe).__module__].__doc__ or "").strip()
    about = (sys.modules[f"effjax_config_{config.stem}"].__doc__ or about).strip()
    head = f"usage: effjax run {config} [--out DIR] [--FIELD VALUE ...]"
    return f"{head}\n\n{about}\n\nfields of the recipe:\n{describe(recipe)}"
