"""How the tables of both grids are written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in Markdown, and an empty one."""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def spread(scores: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, of numbers in percent; "-" of none."""
    several = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.1f}{several}" if len(scores) else "-"


def points(found: Mapping[str, float]) -> str:
    """A difference in points, with its 95% interval over the examples."""
    point, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    return f"{point:+.1f} [{low:+.1f}, {high:+.1f}]"
