"""The catalogue of a data set: its usable scenes, and what was left out."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cloud_assets.datasets.rasters import combined_digest
from cloud_assets.datasets.scene import Scene
from cloud_assets.errors import InvalidData

_TABLE, _MANIFEST = "scenes.parquet", "catalog.json"


@dataclass(frozen=True)
class Skipped:
    """Something that could not be used."""

    item: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.item) else f"{self.item}: {self.reason}"


@dataclass(frozen=True)
class SceneCatalog:
    """All scenes of a data set that can be used; the first domain object of every lineage."""

    dataset: str
    """Title of the data set."""
    scenes: tuple[Scene, ...]
    skipped: tuple[Skipped, ...] = ()
    is_synthetic: bool = False
    """Whether the pixels were simulated by the sample writer."""
    notes: tuple[str, ...] = ()
    """What a reader of the catalog should know, such as bands that the files do not hold."""

    def __len__(self) -> int:
        return len(self.scenes)

    def __iter__(self) -> Iterator[Scene]:
        return iter(self.scenes)

    @cached_property
    def data_version(self) -> str:
        """Hash over the scenes: changes with any pixel, label, group or split, not with where the files lie."""
        return combined_digest([str(self.is_synthetic), *sorted(scene.identity for scene in self.scenes)])

    def save(self, directory: Path) -> None:
        """Writes ``scenes.parquet`` and ``catalog.json`` into an existing folder."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(Scene.__dataclass_fields__)
        records = [scene.to_record() for scene in self.scenes]
        columns = {name: pa.array([record[name] for record in records], pa.string()) for name in names}
        pq.write_table(pa.table(columns), directory / _TABLE, compression="zstd")
        manifest = {
            "dataset": self.dataset,
            "data_version": self.data_version,
            "is_synthetic": self.is_synthetic,
            "notes": list(self.notes),
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }
        (directory / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> "SceneCatalog":
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidData: The folder holds no catalog, or its two files do not belong together.
        """
        import pyarrow.parquet as pq

        try:
            manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
            records = pq.read_table(directory / _TABLE).to_pylist()
        except (OSError, ValueError) as error:
            raise InvalidData(f"{directory} holds no readable scene catalog ({error}). Catalog it again.") from error
        catalog = cls(
            dataset=manifest["dataset"],
            scenes=tuple(Scene.from_record(record) for record in records),
            skipped=tuple(Skipped(**skipped) for skipped in manifest["skipped"]),
            is_synthetic=manifest["is_synthetic"],
            notes=tuple(manifest["notes"]),
        )
        if catalog.data_version != manifest["data_version"]:
            raise InvalidData(f"{directory}: {_TABLE} is not the table that {_MANIFEST} describes. Catalog it again.")
        return catalog

    def summary(self) -> dict[str, Any]:
        """Counts for reports: scenes, groups, skipped, and how many scenes each split, label and label type has."""

        def count(values: Iterator[str | None]) -> dict[str, int]:
            return dict(sorted(Counter(value for value in values if value is not None).items()))

        return {
            "dataset": self.dataset,
            "scenes": len(self.scenes),
            "groups": len({scene.group for scene in self.scenes}),
            "skipped": len(self.skipped),
            "bands": list(dict.fromkeys(band for scene in self.scenes for band in scene.bands)),
            "instruments": count(scene.instrument for scene in self.scenes),
            "splits": count(scene.split for scene in self.scenes),
            "labels": count(scene.label for scene in self.scenes),
            "label_types": count(scene.label_type for scene in self.scenes),
            "with_truth": sum(scene.truth is not None for scene in self.scenes),
            "is_synthetic": self.is_synthetic,
            "notes": list(self.notes),
        }
