"""Files of one example per row: TSV, CSV, JSONL and Parquet in, rows of named cells out.

* .tsv: tabs between cells, quotes have no meaning (as in GLUE). .csv: commas, standard quoting; a
  text of more than 131,072 characters needs another format. Both begin with a header line.
* .jsonl: one object per line. .parquet: read with pyarrow, which is not one of effjax's own
  requirements.
* All but .parquet may be compressed: .xz, .gz, .bz2. Text is UTF-8, with or without a byte-order
  mark. Blank lines are no rows.

What is wrong with one row is a `BadRow` in the row's place (`effjax.data.bad_rows`). What is wrong
with a file (a missing column, broken compression, quotes that hide where the next row begins) ends
it with a ValueError.
"""

import bz2
import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from effjax.data.bad_rows import BadRow, has_surrogate, listed, text_form

_FORMATS = (".tsv", ".csv", ".jsonl", ".parquet")
_COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_ALLOWED = f".tsv, .csv, .jsonl (each also with {', '.join(_COMPRESSED)}), .parquet"

Row = tuple[int, dict[str, Any] | BadRow]  # its number in the file, and its cells by column


def read_rows(path: Path, columns: Sequence[str], optional: str | None = None) -> Iterator[Row]:
    """The rows of one file: `columns`, and in some formats more.

    Args:
        path: Its endings give the format.
        columns: Columns that the file must have; in .jsonl each row may lack some.
        optional: One of them that it need not have.

    Raises:
        ValueError: If the file is not what its name says, or lacks columns.
    """
    _, form, _ = endings(path)
    if form == ".parquet":
        yield from _parquet_rows(path, columns, optional)
        return
    with _open_text(path) as file:
        try:
            if form == ".jsonl":
                yield from _json_rows(file)
            else:
                lines = _csv_lines(path, file) if form == ".csv" else tsv_lines(file)
                yield from _table_rows(path, lines, columns, optional)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error


def endings(path: Path) -> tuple[str, str, str]:
    """`reviews.csv.xz` is ("reviews", ".csv", ".xz")."""
    compression = path.suffix if path.suffix in _COMPRESSED else ""
    bare = Path(path.name.removesuffix(compression))
    if bare.suffix not in _FORMATS or (compression and bare.suffix == ".parquet"):
        raise ValueError(f"{path}: unknown kind of file; the name may end in {_ALLOWED}")
    return bare.stem, bare.suffix, compression


def _open_text(path: Path) -> TextIOWrapper:
    _, form, compression = endings(path)
    newline = "" if form == ".csv" else "\n"  # the csv module finds the ends of rows itself
    opener = _COMPRESSED.get(compression, open)
    return opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def tsv_lines(file: TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of every line that is not blank."""
    for number, line in enumerate(file, start=1):
        if line := line.removesuffix("\n").removesuffix("\r"):
            yield number, line.split("\t")


def _csv_lines(path: Path, file: TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)  # else an open quote swallows the rest of the file
    number = 1
    try:
        for cells in reader:
            if cells:
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}:{number}: the row cannot be parsed: {error}") from error


def _table_rows(
    path: Path,
    lines: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    optional: str | None,
) -> Iterator[Row]:
    """Lines of cells as rows. Too many cells are as bad as too few: a comma split a text."""
    _, header = next(lines, (1, []))
    check_header(path, header, columns, optional)
    for number, cells in lines:
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        else:
            counts = f"{len(cells)} cells; the header has {len(header)}"
            yield number, BadRow("wrong number of cells", counts)


def _json_rows(file: TextIOWrapper) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow("not JSON", f"not JSON: {error}")
            continue
        if not isinstance(value, dict):
            found = text_form(value)[:80]
            value = BadRow("no object", f"needs an object with columns as keys, not {found}")
        yield number, value


def _parquet_rows(path: Path, columns: Sequence[str], optional: str | None) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{path}: .parquet needs pyarrow; run: pip install pyarrow") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_header(path, names, columns, optional)
            present = [name for name in columns if name in names]
            number = 0
            for batch in file.iter_batches(columns=present):
                for cells in zip(*batch.columns, strict=True):
                    number += 1
                    values = map(_parquet_value, cells)
                    yield number, dict(zip(batch.schema.names, values, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read as Parquet: {reason}") from error


def _parquet_value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "surrogateescape")


def check_header(
    path: Path, names: Sequence[str], columns: Sequence[str], optional: str | None = None
) -> None:
    """Raises ValueError unless each of `columns` is among `names` once, `optional` at most once."""
    if has_surrogate("".join(names)):
        raise ValueError(f"{path}:1: the header is not UTF-8 text")
    if missing := [name for name in columns if name not in names and name != optional]:
        found = listed(names) or "nothing"
        raise ValueError(f"{path}:1: no column {listed(missing)}; the header has {found}")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise ValueError(f"{path}:1: more than one column {listed(twice)}")
