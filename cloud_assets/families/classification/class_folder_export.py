"""Exports patches as one folder a class, the layout that many other tools read; and labels any folder of masks.

The tree is::

    train/clear/<patch>.jpg  …  train/overcast/<patch>.jpg
    test/clear/<patch>.jpg   …
    labels.csv               file, split, class, cloud_percentage, patch_id, group
"""

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from cloud_assets.bands import INSTRUMENTS, UNLABELLED
from cloud_assets.datasets.scene import RasterBand, read_truth
from cloud_assets.errors import CloudAssetsError, DataNotFound, InvalidRecipe, NoUsablePatches, too_many_skipped
from cloud_assets.families.classification.coverage_labels import CLASSES, CoverageClasses, cloud_percentage
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore, Role
from cloud_assets.progress import progress_bar
from cloud_assets.reports.figures import TRUE_COLOUR
from cloud_assets.reports.predictions import band_channels
from cloud_assets.storage import atomic_directory, atomic_file

LABELS_FILE = "labels.csv"
FORMATS: Mapping[str, str] = {"jpeg": ".jpg", "png": ".png", "geotiff": ".tif"}  # suffix of each image format
VALIDATION_FOLDERS: Mapping[str, str] = {"train": "train", "separate": "validation", "leave_out": ""}
"""Where validation patches can go, with the others, into a folder of their own or nowhere -> the folder."""
_MASK_SUFFIXES = {".tif", ".tiff", ".png", ".jp2"}
_MINIMUM_VALID = 0.2  # patches and masks with a smaller share of labelled pixels have no class


def export_class_folders(
    store: PatchStore,
    splits: Splits,
    directory: Path,
    *,
    classes: CoverageClasses = CLASSES,
    image_format: str = "jpeg",
    validation: str = "train",
    progress: bool = True,
) -> tuple[dict[str, dict[str, int]], int]:
    """Writes a store's patches as a class-per-folder tree.

    Pictures (JPEG, PNG) show red, green and blue with reflectance 0 to 0.4 as 0 to 255. GeoTIFFs hold all bands as
    digital numbers, with band names, nodata and georeference. An earlier export in the folder is replaced when the new
    one is complete. ``image_format`` is one of :data:`FORMATS`, ``validation`` one of :data:`VALIDATION_FOLDERS`.

    Returns:
        Number of images by split and class, and of patches left out because too few of their pixels are labelled.

    Raises:
        InvalidRecipe: If the folder holds anything but an earlier export; if masks or a picture's colours lack.
    """
    role = store.roles[IMAGES]
    try:
        channels = [] if image_format == "geotiff" else band_channels(role, TRUE_COLOUR)
    except NoUsablePatches:
        raise InvalidRecipe(
            f"a {image_format} picture needs red, green and blue; the patches hold {', '.join(role.bands)}. "
            "Export GeoTIFFs, which hold any bands."
        ) from None
    is_free = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    if not is_free and not (directory / LABELS_FILE).is_file():
        raise InvalidRecipe(f"{directory} exists and is no earlier export: nothing is touched. Name another folder.")
    if not store.has_masks:
        raise InvalidRecipe(f"{store.directory} holds no masks, so no classes: choose a task with masks (--task).")
    folders = {"train": "train", "validation": VALIDATION_FOLDERS[validation], "test": "test"}
    counts = {split: dict.fromkeys(classes.names, 0) for split in dict.fromkeys(folders.values()) if split}
    rows: list[tuple[str, ...]] = [("file", "split", "class", "cloud_percentage", "patch_id", "group")]
    chosen = [(split, int(row)) for split in folders for row in splits.indices(split) if folders[split]]
    with atomic_directory(directory) as folder:
        for split in counts:
            for name in classes.names:
                (folder / split / name).mkdir(parents=True)
        for split, row in progress_bar("Exporting", len(chosen), "patches", progress, iterable=chosen):
            percentage, name = _labelled(store.masks[row], classes)
            if not name:
                continue
            record, image = store.index.iloc[row], store.array(IMAGES)[row]
            file = Path(folders[split]) / name / (quote(record["patch_id"], safe="") + FORMATS[image_format])
            if channels:
                _write_picture(folder / file, image[channels], role)
            else:
                _write_geotiff(folder / file, image, record, role)
            counts[folders[split]][name] += 1
            rows.append((file.as_posix(), folders[split], name, percentage, record["patch_id"], record["group"]))
        _write_csv(folder / LABELS_FILE, rows)
    return counts, len(chosen) + 1 - len(rows)


def label_masks(
    folder: Path,
    table: Path,
    codes: Mapping[int, int],
    *,
    classes: CoverageClasses = CLASSES,
    max_skipped_fraction: float = 0.05,
) -> dict[str, int]:
    """Labels every mask (GeoTIFF, PNG, JPEG 2000) of a folder, at any depth, by coverage.

    Args:
        folder: The masks.
        table: CSV file to write: file, cloud_percentage, class; the class is empty for refused masks.
        codes: Code in the masks -> cloud code (0 clear, 1 thick, 2 thin, 3 shadow, 255 unlabelled).
        classes: The coverage classes.
        max_skipped_fraction: Share of the masks that may be unreadable.

    Returns:
        Number of masks of each class, and ``refused``, those with too few labelled pixels.

    Raises:
        DataNotFound: If there is no mask.
        InvalidData: If more masks than tolerated are unreadable or hold unknown codes.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _MASK_SUFFIXES)
    if not files:
        raise DataNotFound(f"{folder} holds no mask ({', '.join(sorted(_MASK_SUFFIXES))}): give the masks' folder.")
    rows: list[tuple[str, ...]] = [("file", "cloud_percentage", "class")]
    skipped: list[str] = []
    counts = {**dict.fromkeys(classes.names, 0), "refused": 0}
    for file in files:
        try:
            mask = read_truth(RasterBand(str(file)), {**codes, UNLABELLED: codes.get(UNLABELLED, UNLABELLED)})
        except CloudAssetsError as error:
            skipped.append(f"{file}: {error}")
            continue
        percentage, name = _labelled(mask, classes)
        counts[name or "refused"] += 1
        rows.append((file.relative_to(folder).as_posix(), percentage, name))
    if len(skipped) > max_skipped_fraction * len(files):
        raise too_many_skipped(str(folder), skipped, len(files), max_skipped_fraction)
    with atomic_file(table) as path:
        _write_csv(path, rows)
    return counts


def _labelled(mask: npt.NDArray[np.uint8], classes: CoverageClasses) -> tuple[str, str]:
    """Cloud cover in percent, and the name of its class; empty where too few pixels are labelled."""
    percentage = float(cloud_percentage(mask))
    is_refused = (mask != UNLABELLED).mean() < _MINIMUM_VALID
    return f"{percentage:.3f}", "" if is_refused else classes.names[int(classes.classify(percentage))]


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows(rows)


def _write_picture(path: Path, image: npt.NDArray[Any], role: Role) -> None:
    instrument = INSTRUMENTS[role.instrument]
    preview = INSTRUMENTS["rgb_8bit"].to_dn(instrument.to_physical(image)).astype(np.uint8)
    preview[:, ~instrument.valid(image)] = 0
    Image.fromarray(np.moveaxis(preview, 0, -1)).save(path, quality=95)


def _write_geotiff(path: Path, image: npt.NDArray[Any], record: Any, role: Role) -> None:
    has_place = record["crs"] is not None and record["transform"] is not None
    place = {"crs": record["crs"], "transform": Affine(*record["transform"])} if has_place else {}
    count, height, width = image.shape
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=image.dtype, nodata=role.nodata,
            compress="deflate", **place,
        ) as raster,
    ):  # fmt: skip
        raster.write(image)
        raster.descriptions = role.bands
