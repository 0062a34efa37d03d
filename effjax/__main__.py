"""The command `effjax`, and `python -m effjax`."""

import sys

from effjax.process import collect_rarely, keep_memory, wide_vectors


def main() -> int:
    """Runs the command line, in a process with the settings that JAX does well with."""
    keep_memory()
    collect_rarely()
    wide_vectors()
    from effjax import cli  # only in the process that stays

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
