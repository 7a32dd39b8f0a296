"""The record of a scene's products: files, statistics, models; stored as ``products.json``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cloud_assets.errors import InvalidScene

RECORD_FILE = "products.json"


@dataclass(frozen=True)
class SceneProducts:
    """The products of one scene."""

    name: str
    directory: Path
    files: Mapping[str, str]
    """Product -> file name in the directory; also "quicklook", "page" and "stac"."""
    statistics: Mapping[str, float]
    """Percentages, scores, seconds, megapixels per second."""
    models: Mapping[str, str]
    """"task/variant" -> version of each model that had a part."""
    warnings: tuple[str, ...]
    source: str
    """Where the scene lay."""
    fingerprint: str
    """Hash of the scene, the models and the options: equal means up to date."""
    back_end: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the scene's metadata told."""
    is_new: bool = True
    """False if the products were up to date and nothing was done."""

    @property
    def paths(self) -> dict[str, Path]:
        """Product -> path."""
        return {product: self.directory / name for product, name in self.files.items()}

    def save(self, directory: Path) -> None:
        """Writes the record into a folder that holds the files."""
        content = {**asdict(self), "directory": None, "is_new": None}
        kept = {key: value for key, value in content.items() if value is not None}
        # JSON has no number for "not a number": such statistics are left out.
        kept["statistics"] = {key: value for key, value in self.statistics.items() if value == value}
        text = json.dumps(kept, indent=2, ensure_ascii=False, allow_nan=False)
        (directory / RECORD_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads the record of finished products.

        Raises:
            InvalidScene: If the folder holds no products, or they are incomplete.
        """
        try:
            content: dict[str, Any] = json.loads((directory / RECORD_FILE).read_text(encoding="utf-8"))
            found = cls(directory=directory, **{**content, "warnings": tuple(content["warnings"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidScene(f"{directory} holds no finished products of a scene ({error}).") from error
        missing = [path.name for path in found.paths.values() if not path.is_file()]
        if missing:
            raise InvalidScene(f"{directory}: {', '.join(missing)} of the products are gone. Make them again.")
        return replace(found, is_new=False)


def predicted_scenes(folder: Path, task: str) -> Iterator[SceneProducts]:
    """Finished products anywhere in a folder in which a task's model had a part, by name."""
    for record in sorted(folder.rglob(RECORD_FILE)):
        if any(part.startswith(".") for part in record.relative_to(folder).parts):
            continue
        try:
            products = SceneProducts.open(record.parent)
        except InvalidScene:
            continue  # being replaced at this moment, or incomplete: its next version will be seen
        if any(model.partition("/")[0] == task for model in products.models):
            yield products
