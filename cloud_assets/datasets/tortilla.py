"""TACO version 1: one big file of samples, each of them a small archive ("tortilla") of rasters.

A file begins with a magic number and the position of its footer, a Parquet table that lists name, offset and length of
each item. The outer table comes through tacoreader; the inner ones are read from bytes that are at hand anyway.
Format: https://tacofoundation.github.io (version 1 specification).
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_assets.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd

ID, SPLIT, OFFSET, LENGTH, SOURCE = "tortilla:id", "tortilla:data_split", "tortilla:offset", "tortilla:length", "source"
"""Columns of :func:`read_tables`; ``source`` is the file or address that offset and length refer to."""

_MAGIC = (b"#y", b"WX")
_PART = re.compile(r"(?P<stem>.+)\.(?P<number>\d{4})\.part\.taco")


def read_tables(sources: Sequence[str]) -> "pd.DataFrame":
    """Reads the tables of contents of one or more TACO files.

    tacoreader itself would leave out a part that cannot be read and only print so.

    Args:
        sources: Local paths or http(s) addresses.

    Returns:
        One row a sample, with the file's own columns and ``source``, sorted by id.

    Raises:
        InvalidData: A file is truncated, cannot be reached, or is no TACO.
    """
    import pandas as pd
    import tacoreader.v1

    tables = []
    for source in sources:
        try:
            table = pd.DataFrame(tacoreader.v1.load(source))
        except Exception as error:  # whatever the reader's network and Parquet layers raise
            raise InvalidData(
                f"{source} cannot be read as a TACO file ({type(error).__name__}: {error}). If it is truncated, "
                "download it again; its last bytes hold the table of contents."
            ) from error
        tables.append(table.assign(**{SOURCE: source}))
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(ID, kind="stable", ignore_index=True)


def inner_files(sample: bytes, name: str) -> list[tuple[int, int]]:
    """Finds the files inside a sample.

    Returns:
        (offset, length) of each file, counted from the beginning of ``sample``, in the order of its table.

    Raises:
        InvalidData: The bytes are cut off or no tortilla.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer, length = (int.from_bytes(sample[start : start + 8], "little") for start in (2, 10))
    if sample[:2] not in _MAGIC or footer + length > len(sample):
        raise InvalidData(f"{name} is cut off or is no tortilla: its table of contents is missing.")
    try:
        table = pq.read_table(io.BytesIO(sample[footer : footer + length]), columns=[OFFSET, LENGTH])
    except pa.ArrowException as error:
        raise InvalidData(f"{name} has a damaged table of contents ({error}).") from error
    return list(zip(table[OFFSET].to_pylist(), table[LENGTH].to_pylist(), strict=True))


def missing_parts(files: Sequence[Path]) -> list[str]:
    """Names of the parts that lie before the last one of a multi-part file and are not there."""
    numbers: dict[str, set[int]] = {}
    for file in files:
        if match := _PART.fullmatch(file.name):
            numbers.setdefault(match["stem"], set()).add(int(match["number"]))
    return [
        f"{stem}.{number:04d}.part.taco"
        for stem, there in sorted(numbers.items())
        for number in range(max(there) + 1)
        if number not in there
    ]


def is_part(file: Path) -> bool:
    """Whether a file is one of several that a data set was split into."""
    return _PART.fullmatch(file.name) is not None


def repeated_ids(table: "pd.DataFrame") -> list[str]:
    """Ids that occur more than once."""
    return sorted(name for name, count in Counter(table[ID]).items() if count > 1)


def digest(sample: bytes) -> str:
    """blake2b of a sample's bytes."""
    return blake2b(sample, digest_size=16).hexdigest()
