"""Raw scenes: files of bands and truth, group, split, and reading; the catalogue of a data set's usable ones."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, UNLABELLED, Instrument
from cloud_assets.datasets.rasters import Window, combined_digest, open_raster, read_bands, read_header
from cloud_assets.errors import InvalidData, UnknownBand

CANONICAL_CODES: Mapping[int, int] = {0: 0, 1: 1, 2: 2, 3: 3, UNLABELLED: UNLABELLED}
"""Truth that is in the project's own cloud codes already."""
_TABLE, _MANIFEST = "scenes.parquet", "catalog.json"


@dataclass(frozen=True)
class RasterBand:
    """One band of one file, or a window of it."""

    path: str  # file, or GDAL path into a file
    index: int = 1  # band number, counted from 1
    window: Window | None = None
    """(first column, first row, width, height); it may reach past the raster, where pixels become nodata."""


@dataclass(frozen=True)
class Grid:
    """Where a scene's pixels are."""

    height: int
    width: int
    crs: str | None  # coordinate reference system as "EPSG:32633" or WKT; None where the data set has no georeference
    transform: tuple[float, float, float, float, float, float]  # affine pixel-to-map coefficients (a, b, c, d, e, f)

    def part(self, row: int, column: int, height: int, width: int) -> "Grid":
        """The grid of a window of this one."""
        a, b, c, d, e, f = self.transform
        return Grid(height, width, self.crs, (a, b, c + a * column + b * row, d, e, f + d * column + e * row))

    def scaled(self, height: int, width: int, down: float, right: float) -> "Grid":
        """A grid of the same corner whose pixels are so many of this one's high and wide."""
        a, b, c, d, e, f = self.transform
        return Grid(height, width, self.crs, (a * right, b * down, c, d * right, e * down, f))

    @property
    def raster_options(self) -> dict[str, Any]:
        """What rasterio is told of a raster, or of a view of one, on this grid."""
        from rasterio import Affine

        return {"height": self.height, "width": self.width, "crs": self.crs, "transform": Affine(*self.transform)}


@dataclass(frozen=True)
class Scene:
    """A raw scene or patch as its data set delivers it. Nothing is read until asked for."""

    scene_id: str  # unique in its data set
    group: str  # what a split must not cut: the acquisition or the region
    instrument: str  # key in :data:`cloud_assets.bands.INSTRUMENTS`
    bands: Mapping[str, RasterBand]  # by the instrument's own band names; only those that the data set really holds
    truth: RasterBand | None = None
    truth_codes: Mapping[int, int] = field(default_factory=lambda: CANONICAL_CODES)
    """Legend: the truth raster's codes to the canonical ones (0 clear, 1 thick, 2 thin, 3 shadow, 255 unlabelled)."""
    label: str | None = None  # label of the whole image, such as "cloud" or "noncloud"
    split: str | None = None  # official split: "train", "validation" or "test"
    label_type: str | None = None  # how the truth was made, such as "high" or "scribble"
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    """Whatever else the data set tells, such as coverage percentages."""
    content_hash: str = ""  # blake2b of the files or byte ranges that hold the pixels
    band_instruments: Mapping[str, str] = field(default_factory=dict)
    """Instrument of the bands that are not :attr:`instrument`'s, in co-registered pairs."""

    def band_instrument(self, band: str) -> Instrument:
        """The instrument that a band (own name) was taken with."""
        return INSTRUMENTS[self.band_instruments.get(band, self.instrument)]

    def resolve(self, band: str) -> str:
        """Own name of a band that is asked for by own or common name.

        Raises:
            UnknownBand: None of the scene's instruments has such a band.
            InvalidData: The instrument has it, this scene does not.
        """
        instruments = [INSTRUMENTS[name] for name in dict.fromkeys([self.instrument, *self.band_instruments.values()])]
        found = []
        for instrument in instruments:
            try:
                name = instrument.find(band).name
            except UnknownBand:
                continue
            if name in self.bands and self.band_instrument(name) is instrument:
                return name
            found.append(name)
        if found:
            asked = band if band == found[0] else f"{band} ({found[0]})"
            raise InvalidData(
                f"Scene {self.scene_id} has no band {asked}: the data set does not hold it. "
                f"Choose from {', '.join(self.bands)}."
            )
        raise UnknownBand(band, " and ".join(instrument.name for instrument in instruments), list(self.bands))

    def read(self, bands: Sequence[str]) -> npt.NDArray[Any]:
        """Reads bands.

        Returns:
            (C, H, W) digital numbers in the files' own data type.

        Raises:
            UnknownBand: A name that no instrument of the scene knows.
            InvalidData: A band that this scene does not hold. Files disagree in data type or size, or cannot be read.
        """
        names = [self.resolve(band) for band in bands]
        by_source: dict[tuple[str, Window | None], list[str]] = {}
        for name in dict.fromkeys(names):
            raster = self.bands[name]
            by_source.setdefault((raster.path, raster.window), []).append(name)
        layers: dict[str, npt.NDArray[Any]] = {}
        for (path, window), own in by_source.items():
            indexes = [self.bands[name].index for name in own]
            layers.update(zip(own, read_bands(path, indexes, window, self.band_instrument(own[0]).nodata), strict=True))
        described = "; ".join(f"{name}: {layers[name].dtype} {layers[name].shape}" for name in names)
        for what, attribute in (("data type", "dtype"), ("size", "shape")):
            if len({getattr(layer, attribute) for layer in layers.values()}) > 1:
                raise InvalidData(f"The bands of scene {self.scene_id} differ in {what}, mend that: {described}.")
        return np.stack([layers[name] for name in names])

    def read_truth(self) -> npt.NDArray[np.uint8]:
        """Reads the truth.

        Returns:
            (H, W) canonical cloud codes; 255 where the truth's window reaches past its raster.

        Raises:
            InvalidData: The scene has no truth. It holds a code that the legend lacks, or cannot be read.
        """
        if self.truth is None:
            raise InvalidData(f"Scene {self.scene_id} comes without truth: add its mask, or leave the scene out.")
        return read_truth(self.truth, self.truth_codes)

    def grid(self) -> Grid:
        """Size and georeference of the scene, from the header of its first band's file."""
        raster = next(iter(self.bands.values()))
        with open_raster(raster.path) as file:  # its blocks were looked at when the scene was listed
            a, b, c, d, e, f = file.transform[:6]
            whole = Grid(file.height, file.width, file.crs.to_string() if file.crs else None, (a, b, c, d, e, f))
        if raster.window is None:
            return whole
        column, row, width, height = raster.window
        return whole.part(row, column, height, width)

    @cached_property
    def identity(self) -> str:
        """Hash of all that decides what is learnt from the scene (pixels, windows, legend, group, split); no paths."""
        rasters = [(name, raster.index, raster.window) for name, raster in sorted(self.bands.items())]
        truth = None if self.truth is None else (self.truth.index, self.truth.window, sorted(self.truth_codes.items()))
        labels = [self.group, self.instrument, self.label, self.split, self.label_type]
        return combined_digest([self.scene_id, self.content_hash, json.dumps([rasters, truth, labels])])

    def to_record(self) -> dict[str, str | None]:
        """The scene as a flat row of text, for a table."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record["bands"] = {name: astuple(raster) for name, raster in self.bands.items()}
        record["truth"] = None if self.truth is None else astuple(self.truth)
        return {name: value if isinstance(value, str | None) else json.dumps(value) for name, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, str | None]) -> "Scene":
        """The scene that :meth:`to_record` wrote down."""
        values: dict[str, Any] = dict(record)
        for name in ("bands", "truth", "truth_codes", "attributes", "band_instruments"):
            values[name] = None if values[name] is None else json.loads(values[name])

        def raster_band(path: str, index: int, window: Sequence[int] | None) -> RasterBand:
            return RasterBand(path, index, None if window is None else (window[0], window[1], window[2], window[3]))

        values["bands"] = {band: raster_band(*parts) for band, parts in values["bands"].items()}
        values["truth"] = None if values["truth"] is None else raster_band(*values["truth"])
        values["truth_codes"] = {int(raw): code for raw, code in values["truth_codes"].items()}
        return cls(**values)


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

    dataset: str  # title of the data set
    scenes: tuple[Scene, ...]
    skipped: tuple[Skipped, ...] = ()
    is_synthetic: bool = False  # whether the pixels were simulated by the sample writer
    notes: tuple[str, ...] = ()  # what a reader of the catalog should know, such as bands that the files do not hold

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

        def count(name: str) -> dict[str, int]:
            values = (getattr(scene, name) for scene in self.scenes)
            return dict(sorted(Counter(value for value in values if value is not None).items()))

        return {
            "dataset": self.dataset,
            "scenes": len(self.scenes),
            "groups": len({scene.group for scene in self.scenes}),
            "skipped": len(self.skipped),
            "bands": list(dict.fromkeys(band for scene in self.scenes for band in scene.bands)),
            "instruments": count("instrument"),
            "splits": count("split"),
            "labels": count("label"),
            "label_types": count("label_type"),
            "with_truth": sum(scene.truth is not None for scene in self.scenes),
            "is_synthetic": self.is_synthetic,
            "notes": list(self.notes),
        }


def read_truth(truth: RasterBand, codes: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """Reads a truth raster and translates it with its legend.

    Returns:
        (H, W) canonical codes; 255 outside the raster.

    Raises:
        InvalidData: The raster holds a code that the legend does not explain. The file cannot be read.
    """
    import pandas as pd

    raw = read_bands(truth.path, [truth.index], truth.window, 0)[0]
    present = np.flatnonzero(np.bincount(raw.ravel())) if raw.dtype == np.uint8 else pd.unique(raw.ravel())
    if unknown := sorted(set(present.tolist()) - set(codes)):
        raise InvalidData(
            f"{truth.path} holds the label code(s) {', '.join(map(str, unknown))}, which the legend does not explain "
            f"(it knows {', '.join(map(str, sorted(codes)))}). Is this really the truth raster of this data set?"
        )
    table = np.full(max(codes) + 1, UNLABELLED, dtype=np.uint8)
    table[list(codes)] = list(codes.values())
    translated: npt.NDArray[np.uint8] = table[raw.astype(np.intp)]
    if truth.window is not None:
        header = read_header(truth.path)
        column, row, width, height = truth.window
        rows, columns = np.arange(height) + row, np.arange(width) + column
        translated[(rows < 0) | (rows >= header.height), :] = UNLABELLED
        translated[:, (columns < 0) | (columns >= header.width)] = UNLABELLED
    return translated


def bands_of_file(path: str, names: Iterable[str], window: Window | None = None) -> dict[str, RasterBand]:
    """Bands that lie one after the other in one file, from its first band on."""
    return {name: RasterBand(path, index, window) for index, name in enumerate(names, start=1)}
