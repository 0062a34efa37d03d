"""The command `effjax`, and `python -m effjax`."""

import sys

from effjax.malloc import collect_rarely, keep_memory


def main() -> int:
    """Runs the command line, in a process that keeps its memory."""
    keep_memory()
    collect_rarely()
    from effjax import cli  # only in the process that stays

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
