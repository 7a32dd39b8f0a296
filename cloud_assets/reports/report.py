"""The base of all reports: fields as one JSON file, tables as Parquet, figures as PNG, and one HTML page."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_json

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.page import Page, render
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

    Table = pd.DataFrame
else:
    Table = Any  # reports are declared without pandas

SCHEMA_VERSION = 2
PAGE_FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Report(ABC):
    """What was found out about something, as values, tables and figures.

    Saved as a folder: ``<name>.json`` (all fields), ``tables/*.parquet``, ``figures/*.png`` and ``report.html`` (one
    self-contained page). A subclass is a dataclass whose fields pydantic can turn into JSON and back.
    """

    file: ClassVar[str]
    """Name of the JSON file."""
    remedy: ClassVar[str] = "Materialise it again."
    """What to do about a folder that cannot be read: the last sentence of the message."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    """Tables by name."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG images by name, in the order in which the page shows them."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """One sentence for each figure or table, by its name."""
    notes: Sequence[str] = ()
    """What a reader of the numbers has to know: limits, things left out."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """Time of the report (UTC, ISO 8601)."""

    @abstractmethod
    def page(self) -> Page:
        """Lays out the HTML page."""

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """More JSON files for other programs, by name; they are not read back."""
        return {}

    @property
    def data_version(self) -> str:
        """Hash of all content but the time; equal reports have equal versions, whenever they were made.

        Figures are left out: their bytes depend on the versions of matplotlib and of the fonts, and they show nothing
        that is not in the fields and tables.
        """
        content = {name: value for name, value in self._content().items() if name not in ("created", "figures")}
        content["tables"] = {name: table.to_csv(index=False) for name, table in self.tables.items()}
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def save(self, directory: Path) -> None:
        """Writes the report to a folder, which is replaced as a whole.

        Args:
            directory: The folder to make or replace.
        """
        with atomic_directory(directory) as folder:
            (folder / "tables").mkdir()
            for name, table in self.tables.items():
                table.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
            (folder / "figures").mkdir()
            for name, png in self.figures.items():
                (folder / "figures" / f"{name}.png").write_bytes(png)
            files = {self.file: {"schema_version": SCHEMA_VERSION, **self._content()}, **self.extra_files()}
            for name, content in files.items():
                text = json.dumps(content, indent=2, allow_nan=False) + "\n"
                (folder / name).write_text(text, encoding="utf-8")
            (folder / PAGE_FILE).write_text(render(self.page()), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads a report that :meth:`save` wrote.

        Args:
            directory: The report's folder.

        Raises:
            InvalidReport: If the folder holds none, half of one, or one of another schema version.
        """
        try:
            content = json.loads((directory / cls.file).read_text(encoding="utf-8"))
            if (found := content.pop("schema_version")) != SCHEMA_VERSION:
                raise ValueError(f"it has schema version {found}, this version reads {SCHEMA_VERSION}")
            tables, figures = content.pop("tables"), content.pop("figures")
            hints = get_type_hints(cls)
            values = {name: TypeAdapter(hints[name]).validate_python(value) for name, value in content.items()}
            if tables:
                import pandas as pd

                values["tables"] = {name: pd.read_parquet(directory / "tables" / f"{name}.parquet") for name in tables}
            values["figures"] = {name: (directory / "figures" / f"{name}.png").read_bytes() for name in figures}
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidReport(
                f"{directory} holds no {cls.__name__} that this version can read ({error}). {cls.remedy}"
            ) from error

    def _content(self) -> dict[str, Any]:
        """The fields as JSON values; tables and figures as lists of their names."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        own |= {"tables": list(self.tables), "figures": list(self.figures)}
        # Numbers that are not finite become strings, which pydantic reads back as numbers.
        content: dict[str, Any] = json.loads(to_json(own, inf_nan_mode="strings"))
        return content
