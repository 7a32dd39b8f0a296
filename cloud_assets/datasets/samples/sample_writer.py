"""Writer of small synthetic data sets in the original formats, and what the writers of the single ones share."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.storage import atomic_directory


@dataclass(frozen=True)
class WrittenSample:
    """One data set that was written."""

    dataset: str  # name of its folder
    folder: Path
    contents: str  # one sentence on what it holds
    megabytes: float
    seconds: float


STATEMENT = "SYNTHETIC: simulated by Cloud Assets, not observed by a satellite"
"""Stands in the metadata of every file of a sample."""
WRITERS: Mapping[str, str] = {
    "cloudsen12": "cloudsen12_sample",
    "38-cloud": "cloud38_sample",
    "sen12ms": "sen12ms_sample",
    "cloud-anomaly": "image_folders_sample",
}
"""The module beside this one whose ``write`` makes a data set, by the name of the data set's folder.

It tells what the data set holds in half a sentence, and how that sentence ends in the marker file.
"""


def write_sample(
    data_root: Path,
    datasets: Sequence[str] = tuple(WRITERS),
    scale: float = 1.0,
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
) -> tuple[WrittenSample, ...]:
    """Writes synthetic data sets, each into a folder of its name in :data:`WRITERS` below ``data_root``.

    Each replaces an earlier sample of itself all at once, or not at all. The scale is relative to the embedded sample;
    the same seed gives the same files whatever the number of processes, by default the machine's, at most two.

    Raises:
        InvalidRecipe: A data set is unknown, or the scale is not positive.
        InvalidData: A folder holds something that is not such a sample.
    """
    unknown = [name for name in datasets if name not in WRITERS]
    if unknown:
        raise InvalidRecipe(f"There is no sample of {', '.join(unknown)}. Choose from {', '.join(WRITERS)}.")
    if scale <= 0:
        raise InvalidRecipe(f"The scale of a sample must be above 0, not {scale}.")
    for folder in (data_root / name for name in datasets):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / SYNTHETIC_MARKER).is_file():
            raise InvalidData(
                f"{folder} holds data that are no synthetic sample (there is no {SYNTHETIC_MARKER} in it) and were "
                "left untouched. Choose another folder, or move them away."
            )
    written = []
    for name in datasets:
        start = time.perf_counter()
        with atomic_directory(data_root / name) as folder:
            writer = import_module(f"{__package__}.{WRITERS[name]}")
            contents, more = writer.write(folder, seed=seed, scale=scale, progress=progress, workers=workers)
            (folder / SYNTHETIC_MARKER).write_text(
                f"# Synthetic sample in the layout of {writer.TITLE}\n\n"
                f"{contents}{more}\n\n"
                "Every pixel here was simulated by `cloud-assets sample`; no satellite saw any of it. It serves to try "
                "the software out and to test it.\nScores reached on it say nothing about real imagery, and it must "
                f"never be published as observations.\n\nSeed: {seed}\n",
                encoding="utf-8",
            )
        size = sum(path.stat().st_size for path in (data_root / name).rglob("*") if path.is_file())
        written.append(WrittenSample(name, data_root / name, contents, size / 1e6, time.perf_counter() - start))
    return tuple(written)


def write_geotiff(
    path: Path,
    pixels: np.ndarray,
    *,
    crs: str | None = None,
    transform: tuple[float, float, float, float, float, float] | None = None,
    descriptions: Sequence[str] = (),
    compress: str = "zstd",
) -> None:
    """Writes (C, H, W) or (H, W) pixels as a GeoTIFF that states that it is synthetic.

    The file must not be needed by others yet: write into an atomic directory.
    """
    import rasterio

    bands = pixels[None] if pixels.ndim == 2 else pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=bands.shape[0],
            height=bands.shape[1],
            width=bands.shape[2],
            dtype=bands.dtype,
            crs=crs,
            transform=None if transform is None else rasterio.Affine(*transform),
            compress=compress,
            predictor=2 if np.issubdtype(bands.dtype, np.integer) else 3,
            interleave="band",
            **{"zstd_level" if compress == "zstd" else "zlevel": 1},
        ) as raster:
            raster.write(bands)
            raster.update_tags(TIFFTAG_IMAGEDESCRIPTION=STATEMENT)
            for index, description in enumerate(descriptions, start=1):
                raster.set_band_description(index, description)
