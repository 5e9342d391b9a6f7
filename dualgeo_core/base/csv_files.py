"""Reading CSV files without guessing, and text fields that spreadsheets do not run as formulas."""

import csv
import re
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line

# A spreadsheet runs a field with such a first character as a formula.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def read_csv(path: Path, aliases: Mapping[str, str] | None = None, **options: Any) -> pd.DataFrame:
    """The CSV as a frame whose index is `record_lines`; `options` are those of pandas.

    `aliases` maps lower-case column names to others of the same meaning. Raises InputError as `record_lines` does, and
    if two columns mean the same.
    """
    header, lines = _header_and_lines(path)
    _refuse_twins(path, header, aliases or {})
    try:
        # Without index_col=False, surplus fields would shift all columns.
        frame = pd.read_csv(path, index_col=False, encoding="utf-8-sig", **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a UTF-8 CSV ({one_line(error)}); save it as one") from None
    if len(frame) != len(lines):
        raise InputError(f"{path} has {len(lines)} or {len(frame)} records, depending on its quotes; save it again")
    return frame.set_index(lines)


def record_lines(path: Path) -> NDArray[np.int64]:
    """The line on which each record starts. The header and blank lines are not records.

    Raises InputError if the file is missing, is not a UTF-8 CSV with a header, or has a record with more or fewer
    fields than the header.
    """
    return _header_and_lines(path)[1]


def columns_of(path: Path) -> list[str]:
    """The names in the header. Raises InputError as `record_lines` does."""
    return _header_and_lines(path)[0]


def column_meaning(column: str, aliases: Mapping[str, str]) -> str:
    """The column's name in lower case, or what that is an alias of."""
    name = column.strip().lower()
    return aliases.get(name, name)


def as_text(value: str) -> str:
    """The value, with an apostrophe before it if a spreadsheet would run it as a formula."""
    return f"'{value}" if _FORMULA.match(value) else value


def from_text(value: str) -> str:
    """The value that `as_text` was given."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value[1:]) else value


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if not path.exists():
        raise InputError(f"there is no table {path}; correct the path")
    if not path.is_file():  # reading a pipe or a device may never end
        raise InputError(f"{path} is not a regular file; give a UTF-8 CSV file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct its permissions") from None


def _header_and_lines(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    starts = array("q")
    with _opened(path) as file:
        reader = csv.reader(_without_nul(path, file), strict=True)
        header: list[str] = []
        start = 1
        try:
            for record in reader:
                if not header:
                    header = record if _is_record(record) else []
                elif len(record) == len(header):
                    starts.append(start)
                elif _is_record(record):
                    raise InputError(
                        f"{path}, line {start}: {len(record)} fields, but the header has {len(header)}; "
                        'put values that contain a comma in double quotes ("48,85")'
                    )
                start = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}, line {start}: not a CSV record ({error}); correct its quotes") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not a UTF-8 CSV ({error.reason}); save it as one") from None
    if not header:
        raise InputError(f"{path} is not a UTF-8 CSV with a header (it is empty); save it as one")
    return header, np.array(starts, dtype=np.int64)


def _refuse_twins(path: Path, header: list[str], aliases: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for column in header:
        meaning = column_meaning(column, aliases)
        if meaning and meaning in first:
            raise InputError(f"{path}: the columns {first[meaning]} and {column} mean the same; remove one of them")
        first[meaning] = column


def _without_nul(path: Path, file: TextIO) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            raise InputError(f"{path}, line {number}: it has a NUL character; save the table as a UTF-8 CSV")
        yield line


def _is_record(fields: list[str]) -> bool:
    return len(fields) > 1 or bool(fields and fields[0].strip())
