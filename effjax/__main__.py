"""The command `effjax`, and `python -m effjax`."""

import sys

from effjax.pages import use_huge_pages


def main() -> int:
    """Runs the command line in a process that has its memory in huge pages."""
    use_huge_pages()
    from effjax import cli  # only in the process that stays

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
