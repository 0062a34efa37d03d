"""The command line: `effjax run|evaluate|predict|glue|convert|verify|measure|prune|data|list`.

What a user got wrong ends in one line on stderr and exit code 2; `EFFJAX_TRACEBACK=1` shows where
it was raised.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

import effjax
from effjax import cache
from effjax.commands.catalogue import Data, List
from effjax.commands.checkpoints import Convert, Measure, Prune, Verify
from effjax.commands.predictions import Evaluate, Predict
from effjax.commands.recipes import Glue, Run, recipe_help

Command: Any = (
    Annotated[Run, subcommand("run")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Glue, subcommand("glue")]
    | Annotated[Convert, subcommand("convert")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Measure, subcommand("measure")]
    | Annotated[Prune, subcommand("prune")]
    | Annotated[Data, subcommand("data")]
    | Annotated[List, subcommand("list")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Those of the process if None.

    Returns:
        The exit code: 0, 2 for bad input, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    cache.enable()
    try:
        parse(arguments)()
    except (ValueError, OSError) as error:
        if os.environ.get("EFFJAX_TRACEBACK"):
            raise
        print(f"effjax: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("effjax: interrupted", file=sys.stderr)
        return 130
    return 0


def parse(arguments: list[str]) -> Callable[[], None]:
    """The command that the arguments spell, ready to be called.

    Raises:
        SystemExit: After help (0), and from tyro for arguments that cannot be parsed (2).
    """
    if arguments == ["--version"]:
        return lambda: print(effjax.__version__)
    match arguments:
        case ["run", config, *rest] if config[0] != "-" and {"-h", "--help"} & set(rest):
            return lambda: print(recipe_help(Path(config)))
    about = "Small, fast transformer encoders in JAX."
    if arguments[:1] != ["run"]:
        return tyro.cli(Command, prog="effjax", description=about, args=arguments)
    run, overrides = tyro.cli(
        Command, prog="effjax", description=about, args=arguments, return_unknown_args=True
    )
    return dataclasses.replace(run, overrides=tuple(overrides))


def one_line(error: Exception) -> str:
    """The error as a user reads it, on one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
