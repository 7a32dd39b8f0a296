"""Tables and figures as files: how evaluations and comparisons keep them in their folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TextColumns = dict[str, list[str]]
"""For each table the columns that hold text, so that an identifier like ``007`` is read back as it was."""


def write_tables(tables: Mapping[str, pd.DataFrame], directory: Path) -> TextColumns:
    """Writes each table as ``<name>.csv`` and returns which of its columns hold text."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    directory.mkdir()
    text: TextColumns = {}
    for name, table in tables.items():
        table.to_csv(directory / f"{name}.csv", index=False)
        text[name] = [
            str(column)
            for column in table.columns
            if not is_numeric_dtype(table[column]) and not is_bool_dtype(table[column])
        ]
    return text


def read_tables(text_columns: TextColumns, directory: Path) -> dict[str, pd.DataFrame]:
    """Reads the tables that :func:`write_tables` wrote, in their order."""
    import pandas as pd

    # An empty cell is a missing number; a scene that is called "NA" is not missing.
    return {
        name: pd.read_csv(
            directory / f"{name}.csv",
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
        for name, text in text_columns.items()
    }


def write_figures(figures: Mapping[str, bytes], directory: Path) -> list[str]:
    """Writes each figure as ``<name>.png`` and returns their names."""
    directory.mkdir()
    for name, png in figures.items():
        (directory / f"{name}.png").write_bytes(png)
    return list(figures)


def read_figures(names: Iterable[str], directory: Path) -> dict[str, bytes]:
    """Reads the figures that :func:`write_figures` wrote."""
    return {name: (directory / f"{name}.png").read_bytes() for name in names}
