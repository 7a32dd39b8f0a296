"""Shared parts of the sample writers: GeoTIFFs marked as synthetic, the marker file, worker processes."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

from cloud_assets.datasets.samples import SYNTHETIC_MARKER

STATEMENT = "SYNTHETIC: simulated by Cloud Assets, not observed by a satellite"
"""Stands in the metadata of every file of a sample."""


def write_geotiff(
    path: Path,
    pixels: np.ndarray,
    *,
    crs: str | None = None,
    transform: tuple[float, float, float, float, float, float] | None = None,
    descriptions: Sequence[str] = (),
    nodata: float | None = None,
    compress: str = "zstd",
) -> None:
    """Writes a GeoTIFF that states that it is synthetic.

    Args:
        path: Where to; the file must not be needed by others yet (write into an atomic directory).
        pixels: (C, H, W) or (H, W).
        crs: Coordinate reference system, such as "EPSG:32632"; None for none.
        transform: Affine transform (a, b, c, d, e, f); None for none.
        descriptions: Band descriptions.
        nodata: Digital number of pixels without data.
        compress: GDAL's name of the compression.
    """
    bands = pixels[None] if pixels.ndim == 2 else pixels
    integers = np.issubdtype(bands.dtype, np.integer)
    options = {"compress": compress, "predictor": 2 if integers else 3, "interleave": "band"}
    if compress == "zstd":
        options["zstd_level"] = 1
    else:
        options["zlevel"] = 1
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
            nodata=nodata,
            **options,
        ) as raster:
            raster.write(bands)
            raster.update_tags(TIFFTAG_IMAGEDESCRIPTION=STATEMENT)
            for index, description in enumerate(descriptions, start=1):
                raster.set_band_description(index, description)


def write_marker(folder: Path, title: str, contents: str, seed: int) -> None:
    """Writes the marker file which states that a folder's pixels are simulated.

    Args:
        folder: The data set's folder.
        title: Name of the data set whose layout it has.
        contents: One sentence on what there is.
        seed: That the sample was made with.
    """
    (folder / SYNTHETIC_MARKER).write_text(
        f"# Synthetic sample in the layout of {title}\n\n"
        f"{contents}\n\n"
        "Every pixel here was simulated by `cloud-assets sample`; no satellite saw any of it. It serves to try the "
        "software out and to test it.\nScores reached on it say nothing about real imagery, and it must never be "
        f"published as observations.\n\nSeed: {seed}\n",
        encoding="utf-8",
    )
