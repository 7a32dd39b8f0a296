"""CloudSEN12+: 50,249 Sentinel-2 patches of the whole world with thick cloud, thin cloud and shadow drawn by hand.

Aybar et al., "CloudSEN12+: The largest dataset of expert-labeled pixels for cloud and cloud shadow detection in
Sentinel-2", Data in Brief 2024, https://doi.org/10.1016/j.dib.2024.110852; TACO version 1 files
``cloudsen12-l1c.0000.part.taco`` ... from https://huggingface.co/datasets/tacofoundation/cloudsen12
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets import taco
from cloud_assets.datasets.dataset import Collection, Dataset, check_all, official_split, writable_folder
from cloud_assets.datasets.rasters import RasterHeader, Window, read_bands, read_header
from cloud_assets.datasets.scene import CANONICAL_CODES, RasterBand, Scene, bands_of_file, read_truth
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
_NEEDED = (taco.ID, taco.SPLIT, "label_type", "real_proj_shape", "roi_id", "s2_id")
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
    allow_missing_parts: bool = Field(False, description="Work with some of the published parts, as 0000 and 0004.")

    @field_validator("label_types")
    @classmethod
    def _has_truth(cls, label_types: tuple[str, ...]) -> tuple[str, ...]:
        if "nolabel" in label_types:
            raise InvalidRecipe("label type 'nolabel' has no truth: there is nothing to learn. Leave it out.")
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
        others = ", ".join(file.name for file in files if file not in level1)
        notes = [f"Not read: {others}."] if others else []
        if level1:
            rows = self._choose(self._read_local(level1, notes), notes)
        else:
            rows = self._localise(folder, cache, notes, progress)
        scenes, skipped = check_all(_records(rows), _check_sample, lambda row: str(row[taco.ID]), self.title, progress)
        return Collection(_without_absent_bands(scenes, notes), skipped, notes)

    def _read_local(self, files: list[Path], notes: list[str]) -> "pd.DataFrame":
        absent = taco.missing_parts(files)
        table = taco.read_tables([str(file) for file in files])
        published = any(taco.PART.fullmatch(file.name) or file.stem == _PUBLIC_NAME for file in files)
        problem = (
            f"parts are missing: {', '.join(absent)}" if absent else self._count_problem(table) if published else ""
        )
        if problem and not self.allow_missing_parts:
            raise InvalidData(f"{files[0].parent}: {problem}. Download what is missing, or set allow_missing_parts.")
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
            table = taco.public_table(_PUBLIC_NAME, place)
        except SourceUnreachable as error:
            with suppress(OSError):  # folders made in vain; those that hold anything stay
                place.rmdir()
                place.parent.rmdir()
            missing = self.missing(folder, "there is no *.taco file in")
            raise DataNotFound(f"{missing} Downloading was tried: {error}") from error
        if problem := self._count_problem(table):
            raise InvalidData(f"The public {_PUBLIC_NAME}: {problem}. Delete {place}/*.parquet and try again.")
        rows = self._choose(table, notes)
        taco.localise([_byte_range(row) for row in _records(rows)], place, progress)
        notes.append(f"Samples of the public data set, downloaded to {place}.")
        paths = [str(taco.localised_path(name, place)) for name in rows[taco.ID]]
        rows = rows.copy()
        rows[taco.SOURCE], rows[taco.OFFSET] = paths, 0
        return rows

    def _choose(self, table: "pd.DataFrame", notes: list[str]) -> "pd.DataFrame":
        if absent := [column for column in _NEEDED if column not in table.columns]:
            raise InvalidData(f"{table[taco.SOURCE].iloc[0]} lacks columns: {', '.join(absent)}. Download it again.")
        repeated = table.loc[table[taco.ID].duplicated(), taco.ID].unique()
        if len(repeated):
            raise InvalidData(f"{len(repeated)} sample ids occur twice, such as {repeated[0]}: remove a file.")
        wanted = table["label_type"].isin(self.label_types)
        if not self.large_patches:
            wanted &= table["real_proj_shape"] <= _LARGEST_SMALL_PATCH
        rows = table[wanted]
        if rows.empty:
            size = "" if self.large_patches else " and ordinary size"
            raise InvalidData(
                f"None of the {len(table):,} samples has label type {' or '.join(self.label_types)}{size}; "
                f"the files hold {', '.join(sorted(set(table['label_type'])))}. Set label_types to one of these."
            )
        if len(rows) < len(table):
            notes.append(f"{len(table) - len(rows):,} of {len(table):,} samples have another label type or size.")
        # A sample without region or product belongs to no other sample.
        region, product = (rows[column].fillna(rows[taco.ID]) for column in ("roi_id", "s2_id"))
        rows = rows.assign(group=_merged_groups(region, product, rows[taco.SPLIT]))
        if self.max_samples is not None and self.max_samples < len(rows):
            notes.append(f"{self.max_samples:,} of {len(rows):,} samples chosen with seed {self.seed}.")
            rows = _stratified_choice(rows, self.max_samples, self.seed)
        return rows


def _check_sample(row: Mapping[str, Any]) -> Scene:
    """Reads a sample's bytes, hashes them, and checks its two rasters."""
    name, source, start = row[taco.ID], row[taco.SOURCE], row[taco.OFFSET]
    try:
        data = taco.read_range(_byte_range(row))
    except SourceUnreachable as error:
        raise InvalidData(str(error)) from error
    files = taco.inner_files(data, f"sample {name} of {source}")
    if len(files) < 2:
        raise InvalidData(f"sample {name} of {source} holds {len(files)} file(s); image and target were expected.")
    image, target = (f"/vsisubfile/{start + offset}_{length},{source}" for offset, length in files[:2])
    header, truth_header = read_header(image), read_header(target)
    if header.count != len(_BANDS) or header.dtype != "uint16":
        raise InvalidData(f"the image has {header.count} bands of {header.dtype}, not {len(_BANDS)} of uint16")
    sizes = [f"{raster.height}x{raster.width}" for raster in (header, truth_header)]
    if sizes[0] != sizes[1]:
        raise InvalidData(f"the image has {sizes[0]} pixels, the target {sizes[1]}")
    window = _unpadded_window(image, header, int(row["real_proj_shape"]))
    truth, codes = RasterBand(target, window=window), LABEL_CODES[row["label_type"]]
    read_truth(truth, codes)
    return Scene(
        scene_id=name,
        group=row["group"],
        instrument="sentinel2_l1c",
        bands=bands_of_file(image, _BANDS, window),
        truth=truth,
        truth_codes=codes,
        split=official_split(row[taco.SPLIT]),
        label_type=row["label_type"],
        attributes={key: row[key] for key in _ATTRIBUTES if row.get(key) is not None},
        content_hash=blake2b(data, digest_size=16).hexdigest(),
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


def _unpadded_window(path: str, header: RasterHeader, real_size: int) -> Window | None:
    """(first column, first row, width, height) of the part of a padded raster that holds data.

    The publications disagree about the side of the padding, so the edges are asked. None if none is padding.
    """
    shape = header.height, header.width
    if shape == (real_size, real_size) or min(shape) < real_size:
        return None
    first = [0, 0]
    for axis, length in enumerate(shape):
        if not (pad := length - real_size):
            continue
        filled = []
        for start in (0, real_size):
            window = (0, start, shape[1], pad) if axis == 0 else (start, 0, pad, shape[0])
            edge = read_bands(path, range(1, header.count + 1), window, 0)
            filled.append(start + np.flatnonzero(edge.any(axis=(0, 2 - axis))))
        before, after = filled
        first[axis] = max(int(after.max()) - real_size + 1, 0) if after.size else 0
        if first[axis] > (before.min() if before.size else pad):
            return None
    return first[1], first[0], real_size, real_size


def _stratified_choice(table: "pd.DataFrame", count: int, seed: int) -> "pd.DataFrame":
    """Chooses ``count`` rows, the same share of each official split, in their original order.

    The order of preference is a hash of each row's id: it depends neither on the order of the rows nor on which other
    rows there are, so a larger count only adds rows to a smaller one.
    """
    key = seed.to_bytes(8, "little", signed=True)
    preference = [blake2b(str(name).encode(), digest_size=8, key=key).digest() for name in table[taco.ID]]
    ranked = table.assign(_preference=preference).sort_values("_preference")
    strata = ranked[taco.SPLIT].fillna("").astype(str)
    # The place of each row in its own stratum, as a share: taking the smallest shares takes the same share of each.
    share = (ranked.groupby(strata).cumcount() + 0.5) / strata.map(strata.value_counts())
    return table.loc[table.index.isin(share.sort_values(kind="stable").index[:count])]


def _merged_groups(region: "pd.Series[str]", product: "pd.Series[str]", split: "pd.Series[str]") -> list[str]:
    """Groups samples that share a region or a satellite product, so that no split cuts either.

    Products are merged inside an official split only: these are kept. A group is named by its first region.
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    regions, region_names = pd.factorize(region, sort=True)
    products, product_names = pd.factorize(product.astype(str) + "\n" + split.fillna("").astype(str))
    size = len(region_names) + len(product_names)
    links = coo_array((np.ones(len(regions), bool), (regions, products + len(region_names))), shape=(size, size))
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)  # a region in every component, as these come before products
    return [str(region_names[place]) for place in first[component[regions]]]


def _byte_range(row: Mapping[str, Any]) -> taco.ByteRange:
    return taco.ByteRange(row[taco.ID], row[taco.SOURCE], int(row[taco.OFFSET]), int(row[taco.LENGTH]))


def _records(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]
