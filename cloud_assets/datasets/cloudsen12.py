"""CloudSEN12+: 50,249 Sentinel-2 patches of the whole world with thick cloud, thin cloud and shadow drawn by hand.

Aybar et al., "CloudSEN12+: The largest dataset of expert-labeled pixels for cloud and cloud shadow detection in
Sentinel-2", Data in Brief 2024, https://doi.org/10.1016/j.dib.2024.110852; TACO version 1 files
``cloudsen12-l1c.0000.part.taco`` ... from https://huggingface.co/datasets/tacofoundation/cloudsen12
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets import tortilla
from cloud_assets.datasets.byte_range_download import ByteRange, localise, localised_path, public_table, read_range
from cloud_assets.datasets.dataset import Collection, Dataset, official_split, writable_folder
from cloud_assets.datasets.padding import unpadded_window
from cloud_assets.datasets.parallel_checks import check_all
from cloud_assets.datasets.rasters import read_bands, read_header
from cloud_assets.datasets.scene import CANONICAL_CODES, RasterBand, Scene, bands_of_file, read_truth
from cloud_assets.datasets.stratified_sample import choose_samples, merge_groups
from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe, SourceUnreachable

if TYPE_CHECKING:
    import pandas as pd

LABEL_CODES: Mapping[str, Mapping[int, int]] = {
    "high": CANONICAL_CODES,
    "scribble": {
        0: CLEAR,
        1: THICK_CLOUD,  # centre of a thick cloud
        2: THICK_CLOUD,  # its border
        3: THIN_CLOUD,
        4: THIN_CLOUD,
        5: CLOUD_SHADOW,
        6: CLOUD_SHADOW,
        99: UNLABELLED,
    },
}
"""Legend of each label type with truth, to the canonical codes."""

_PUBLIC_NAME = "cloudsen12-l1c"
_BANDS = INSTRUMENTS["sentinel2_l1c"].names
_NEEDED = (tortilla.ID, tortilla.SPLIT, "label_type", "real_proj_shape", "roi_id", "s2_id")
_ATTRIBUTES = ("clear_percentage", "thick_percentage", "thin_percentage", "cloud_shadow_percentage", "roi_id", "s2_id")
_LARGEST_SMALL_PATCH = 1024
_SCENES_TO_SEEK_BANDS_IN = 8


class CloudSEN12(Dataset):
    """CloudSEN12+ level 1C: local TACO files, or else chosen samples of the public ones, downloaded once."""

    folder: ClassVar[str] = "cloudsen12"
    title: ClassVar[str] = "CloudSEN12"
    how_to_get: ClassVar[str] = (
        "Download cloudsen12-l1c.*.part.taco from https://huggingface.co/datasets/tacofoundation/cloudsen12, or "
        "connect to the internet and let a chosen number of samples be downloaded."
    )

    label_types: tuple[Literal["high", "scribble", "nolabel"], ...] = Field(
        ("high", "scribble"), description="Which kinds of truth to take: high (every pixel), scribble (some pixels)."
    )
    max_samples: Annotated[int, Field(ge=1)] | None = Field(
        3000, description="How many samples to choose, stratified over the official splits; empty: all."
    )
    seed: int = Field(0, description="Another seed chooses other samples.")
    large_patches: bool = Field(False, description="Take the 2000 x 2000 patches too; each is 15 ordinary ones.")
    download: bool = Field(True, description="Download samples if there is no local TACO file.")
    expected_samples: Annotated[int, Field(ge=0)] = Field(
        50_249, description="How many samples the published parts hold together; 0 to not check."
    )
    allow_missing_parts: bool = Field(
        False, description="Work with some of the published parts, such as 0000 and 0004."
    )

    @field_validator("label_types")
    @classmethod
    def _has_truth(cls, label_types: tuple[str, ...]) -> tuple[str, ...]:
        if "nolabel" in label_types:
            raise InvalidRecipe(
                "label type 'nolabel' has no truth: nothing can be learnt from it or measured with it. Leave it out."
            )
        if not label_types:
            raise InvalidRecipe("label_types is empty. Choose from high and scribble.")
        return label_types

    def find_folder(self, data_root: Path) -> Path:
        """The data set's folder; it need not exist yet, the data root must."""
        folder = data_root / self.folder
        if not data_root.is_dir() or (not folder.is_dir() and not self.download):
            raise self.missing(folder)
        return folder

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Chooses samples, downloads them if there is no local file, and checks each."""
        files = sorted(folder.glob("*.taco")) if folder.is_dir() else []
        level1 = [file for file in files if not any(other in file.name for other in ("-l2a", "-extra"))]
        notes = (
            [f"Not read: {', '.join(file.name for file in files if file not in level1)}."] if level1 != files else []
        )
        if level1:
            table = self._read_local(level1, notes)
            rows = self._choose(table, notes)
        else:
            rows = self._localise(folder, cache, notes, progress)
        scenes, skipped = check_all(_records(rows), _check_sample, _name, self.title, progress)
        return Collection(_without_absent_bands(scenes, notes), skipped, notes)

    def _read_local(self, files: list[Path], notes: list[str]) -> "pd.DataFrame":
        absent = tortilla.missing_parts(files)
        table = tortilla.read_tables([str(file) for file in files])
        published = any(tortilla.is_part(file) or file.stem == _PUBLIC_NAME for file in files)
        problem = (
            f"parts are missing: {', '.join(absent)}" if absent else self._count_problem(table) if published else ""
        )
        if problem and not self.allow_missing_parts:
            raise InvalidData(
                f"{files[0].parent}: {problem}. Download what is missing, or set allow_missing_parts to do without."
            )
        if problem:
            notes.append(f"Incomplete: {problem}.")
        return table

    def _count_problem(self, table: "pd.DataFrame") -> str:
        if self.expected_samples in (0, len(table)):
            return ""
        found, expected = len(table), self.expected_samples
        return f"the files hold {found:,} samples, the data set has {expected:,}: a later part is missing"

    def _localise(self, folder: Path, cache: Path, notes: list[str], progress: bool) -> "pd.DataFrame":
        if not self.download:
            raise self.missing(folder, "there is no *.taco file in")
        candidates = [place / "localised" for place in (folder, cache / self.folder)]
        begun = [place for place in candidates if any(place.glob("*.parquet"))]
        place = begun[0] if begun else writable_folder(candidates, f"the samples of {self.title}")
        try:
            table = public_table(_PUBLIC_NAME, place)
        except SourceUnreachable as error:
            with suppress(OSError):  # folders made in vain; those that hold anything stay
                place.rmdir()
                place.parent.rmdir()
            missing = self.missing(folder, "there is no *.taco file in")
            raise DataNotFound(f"{missing} Downloading was tried: {error}") from error
        if problem := self._count_problem(table):
            raise InvalidData(f"The public {_PUBLIC_NAME}: {problem}. Delete {place}/*.parquet and try again.")
        rows = self._choose(table, notes)
        localise([_byte_range(row) for row in _records(rows)], place, progress)
        notes.append(f"Samples of the public data set, downloaded to {place}.")
        paths = [str(localised_path(name, place)) for name in rows[tortilla.ID]]
        rows = rows.copy()
        rows[tortilla.SOURCE], rows[tortilla.OFFSET] = paths, 0
        return rows

    def _choose(self, table: "pd.DataFrame", notes: list[str]) -> "pd.DataFrame":
        if absent := [column for column in _NEEDED if column not in table.columns]:
            raise InvalidData(
                f"{table[tortilla.SOURCE].iloc[0]} lacks the column(s) {', '.join(absent)} of CloudSEN12."
            )
        if repeated := tortilla.repeated_ids(table):
            raise InvalidData(f"{len(repeated)} sample ids occur twice, such as {repeated[0]}: is a file there twice?")
        wanted = table["label_type"].isin(self.label_types)
        if not self.large_patches:
            wanted &= table["real_proj_shape"] <= _LARGEST_SMALL_PATCH
        rows = table[wanted]
        if rows.empty:
            size = "" if self.large_patches else " and ordinary size"
            raise InvalidData(
                f"None of the {len(table):,} samples has label type {' or '.join(self.label_types)}{size}; "
                f"the files hold {', '.join(sorted(set(table['label_type'])))}."
            )
        if len(rows) < len(table):
            notes.append(f"{len(table) - len(rows):,} of {len(table):,} samples have another label type or size.")
        # A sample without region or product belongs to no other sample.
        region, product = (rows[column].fillna(rows[tortilla.ID]) for column in ("roi_id", "s2_id"))
        rows = rows.assign(group=merge_groups(region, product, rows[tortilla.SPLIT]))
        if self.max_samples is not None and self.max_samples < len(rows):
            notes.append(f"{self.max_samples:,} of {len(rows):,} samples chosen with seed {self.seed}.")
            rows = choose_samples(rows, tortilla.ID, tortilla.SPLIT, self.max_samples, self.seed)
        return rows


def _check_sample(row: Mapping[str, Any]) -> Scene:
    """Reads a sample's bytes, hashes them, and checks its two rasters."""
    name, source, start = row[tortilla.ID], row[tortilla.SOURCE], row[tortilla.OFFSET]
    try:
        data = read_range(_byte_range(row))
    except SourceUnreachable as error:
        raise InvalidData(str(error)) from error
    files = tortilla.inner_files(data, f"sample {name} of {source}")
    if len(files) < 2:
        raise InvalidData(f"sample {name} of {source} holds {len(files)} file(s); image and target were expected.")
    image, target = (f"/vsisubfile/{start + offset}_{length},{source}" for offset, length in files[:2])
    header, truth_header = read_header(image), read_header(target)
    if header.count != len(_BANDS) or header.dtype != "uint16":
        raise InvalidData(f"the image has {header.count} bands of {header.dtype}, not {len(_BANDS)} of uint16")
    sizes = [f"{raster.height}x{raster.width}" for raster in (header, truth_header)]
    if sizes[0] != sizes[1]:
        raise InvalidData(f"the image has {sizes[0]} pixels, the target {sizes[1]}")
    window = unpadded_window(image, header, int(row["real_proj_shape"]))
    truth, codes = RasterBand(target, window=window), LABEL_CODES[row["label_type"]]
    read_truth(truth, codes)
    return Scene(
        scene_id=name,
        group=row["group"],
        instrument="sentinel2_l1c",
        bands=bands_of_file(image, _BANDS, window),
        truth=truth,
        truth_codes=codes,
        split=official_split(row[tortilla.SPLIT]),
        label_type=row["label_type"],
        attributes={key: row[key] for key in _ATTRIBUTES if row.get(key) is not None},
        content_hash=tortilla.digest(data),
    )


def _without_absent_bands(scenes: list[Scene], notes: list[str]) -> list[Scene]:
    """Takes away the bands that are zero everywhere: files in this layout may hold fewer bands than slots."""
    step = max(1, len(scenes) // _SCENES_TO_SEEK_BANDS_IN)
    present: set[str] = set()
    for scene in scenes[::step]:
        rasters = scene.bands
        first = next(iter(rasters.values()))
        values = read_bands(first.path, [raster.index for raster in rasters.values()], first.window, 0)
        present |= {band for band, layer in zip(rasters, values, strict=True) if layer.any()}
    absent = [band for band in _BANDS if band not in present]
    if not absent or not present:
        return scenes
    notes.append(f"Bands {', '.join(absent)} are empty in these files and are not offered.")
    return [
        replace(scene, bands={band: raster for band, raster in scene.bands.items() if band in present})
        for scene in scenes
    ]


def _byte_range(row: Mapping[str, Any]) -> ByteRange:
    return ByteRange(row[tortilla.ID], row[tortilla.SOURCE], int(row[tortilla.OFFSET]), int(row[tortilla.LENGTH]))


def _records(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]


def _name(row: Mapping[str, Any]) -> str:
    return str(row[tortilla.ID])
