"""The base of all reports, and the self-contained HTML page that shows one, for light and dark displays.

A report is saved as fields in one JSON file, tables as Parquet, figures as PNG, and the page.
"""

import base64
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import yaml
from pydantic import TypeAdapter
from pydantic_core import to_json

from cloud_assets.errors import InvalidReport
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

    Table = pd.DataFrame
else:
    Table = Any  # reports are declared without pandas

SCHEMA_VERSION = 2
PAGE_FILE = "report.html"
SYNTHETIC_BANNER = (
    "Synthetic data: these numbers come from simulated patches. They show that the pipeline works; "
    "they say nothing about real imagery."
)
SHOWN_ROWS = 40
_SPELLINGS = {"iou": "IoU", "miou": "mIoU", "rgb": "RGB", "nir": "NIR"} | {
    word: word.upper()
    for word in ("f1", "auroc", "roc", "psnr", "ssim", "rmse", "mae", "ndvi", "tp", "fp", "fn", "tn", "id")
}


def format_number(value: Any) -> str:
    """A table cell as text: integers with thin spaces, fractions with four digits, a missing number as a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def readable(name: str) -> str:
    """A name as a heading: ``per_scene`` is ``Per scene``, ``validation_iou`` is ``Validation IoU``."""
    text = " ".join(_SPELLINGS.get(word, word) for word in name.split("_") if word)
    return text if text.split(" ")[0] in _SPELLINGS.values() else text[:1].upper() + text[1:]


def now() -> str:
    """This moment (UTC, ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Tile:
    """One of the numbers that a reader sees first."""

    label: str
    value: str
    remark: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page of a report shows besides its figures and notes."""

    title: str
    subtitle: str
    is_synthetic: bool = False  # whether a banner says that the data are simulated
    tiles: Sequence[Tile] = ()
    summary: str = ""  # one sentence above the notes
    tables: Mapping[str, Table]
    captions: Mapping[str, str] = field(default_factory=dict)  # in addition to the report's
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labelled values by heading: data, model, versions. Long sections are folded."""
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report(ABC):
    """What was found out about something, as values, tables and figures.

    Saved as a folder: ``<name>.json`` (all fields), ``tables/*.parquet``, ``figures/*.png`` and ``report.html`` (one
    self-contained page). A subclass is a dataclass whose fields pydantic can turn into JSON and back.
    """

    file: ClassVar[str]  # name of the JSON file
    remedy: ClassVar[str] = "Materialise it again."
    """What to do about a folder that cannot be read: the last sentence of the message."""

    tables: Mapping[str, Table] = field(default_factory=dict)  # tables by name
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG images by name, in the order in which the page shows them."""
    captions: Mapping[str, str] = field(default_factory=dict)  # one sentence for each figure or table, by its name
    notes: Sequence[str] = ()  # what a reader of the numbers has to know: limits, things left out
    created: str = field(default_factory=now)
    """Time of the report (UTC, ISO 8601)."""

    @abstractmethod
    def page(self) -> Page:
        """Lays out the HTML page."""

    @property
    def made_at(self) -> str:
        """Its time to the minute: ``2026-05-04 13:07 UTC``."""
        return f"{datetime.fromisoformat(self.created).astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    def extra_files(self) -> Mapping[str, Mapping[str, Any]]:
        """More JSON files for other programs, by name; they are not read back."""
        return {}

    @property
    def data_version(self) -> str:
        """Hash of all content but the time; equal reports have equal versions, whenever and wherever they were made.

        Figures are left out, whose bytes depend on the versions of matplotlib and of the fonts, and sections, which
        tell when and how long a model was trained: neither shows what the fields and tables do not stand for.
        """
        left_out = ("created", "figures", "sections")
        content = {name: value for name, value in self._content().items() if name not in left_out}
        content["tables"] = {name: table.to_csv(index=False) for name, table in self.tables.items()}
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def html(self) -> str:
        """The page; everything in it is escaped. Of long tables that are saved beside it the first rows are shown."""
        page = self.page()
        tables = [
            (name, table.head(SHOWN_ROWS), len(table) - SHOWN_ROWS) if name in self.tables else (name, table, 0)
            for name, table in page.tables.items()
        ]
        captions = {**self.captions, **page.captions}
        banner = SYNTHETIC_BANNER if page.is_synthetic else ""
        return _template().render(report=self, page=page, tables=tables, captions=captions, banner=banner)

    def save(self, directory: Path) -> None:
        """Writes the report to a folder, which is made or replaced as a whole."""
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
            (folder / PAGE_FILE).write_text(self.html(), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads a report that :meth:`save` wrote.

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
            if not directory.is_dir():
                raise InvalidReport(f"{directory} does not exist. Correct the path, or make it.") from error
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


def read_captions(package: str, report: str = "", **values: str) -> dict[str, str]:
    """What a package's ``captions.yaml`` says of each figure and table, if wanted those of one of several reports.

    ``values`` fill its braces.
    """
    content = yaml.load(files(package).joinpath("captions.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return {name: said.format(**values) for name, said in (content[report] if report else content).items()}


def job_commands(task: str) -> list[str]:
    """The commands that make a task's reports again."""
    return [
        "export CLOUD_ASSETS_DATA=<folder of the data sets; leave it unset for the embedded sample>",
        f"dagster job execute -m cloud_assets.definitions -j {task}",
    ]


@cache
def _template() -> "jinja2.Template":
    import jinja2

    source = files("cloud_assets.reports").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "readable": readable, "format_number": format_number, "base64": lambda png: base64.b64encode(png).decode(),
        "is_numeric": lambda dtype: dtype.kind in "biufc",
    }  # fmt: skip
    return environment.from_string(source)
