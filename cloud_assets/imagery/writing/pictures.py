"""Quick-look pictures of a scene and its products."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.datasets.scene import Grid
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import thumbnail_shape
from cloud_assets.imagery.writing.raster_files import RasterDraft

Picture = npt.NDArray[np.uint8]
"""(4, H, W) red, green, blue, opacity."""

LONGEST_SIDE = 800
_TRUE_COLOUR = ("red", "green", "blue")
_BRIGHTEST = 0.45
_GAMMA = 0.75
# Dark blue, teal, yellow: read in the same order by eyes that do not tell red from green, and in print.
_RAMP = np.array([[20, 24, 82], [30, 110, 130], [120, 190, 110], [250, 230, 90]], np.float64)


def natural_colours(source: SceneSource) -> Picture:
    """The scene as the eye would see it, or its first three bands where it lacks one of red, green and blue."""
    bands = _TRUE_COLOUR if source.has(_TRUE_COLOUR) else tuple(source.bands)[:3]
    with source.open(bands) as reader:
        dn = reader.thumbnail(LONGEST_SIDE)
        return stretched(dn, source.profile, reader.valid(dn))


def stretched(dn: npt.NDArray[Any], profile: Instrument, valid: npt.NDArray[np.bool_]) -> Picture:
    """(C, H, W) digital numbers of up to three bands as a picture, transparent where not valid."""
    return _shaded(profile.to_physical(dn), valid, is_radar=profile.unit == "dB")


def _shaded(measured: npt.NDArray[Any], valid: npt.NDArray[np.bool_], *, is_radar: bool = False) -> Picture:
    physical = np.nan_to_num(measured)
    scaled = (physical + 25) / 25 if is_radar else np.clip(physical / _BRIGHTEST, 0, 1) ** _GAMMA
    layers = np.clip(scaled * 255, 0, 255).astype(np.uint8)
    colours = layers[[0, 1, 2] if len(layers) >= 3 else [0, 0, 0]]
    return np.concatenate([colours, np.where(valid, 255, 0).astype(np.uint8)[np.newaxis]])


def of_codes(draft: RasterDraft) -> Picture:
    """A raster with a colour table as a picture."""
    codes = thumbnail(draft)[0]
    table = np.zeros((256, 4), np.uint8)
    for code, colour in draft.form.colours.items():
        table[code] = colour
    return np.moveaxis(table[codes], -1, 0)


def of_class_file(path: Path) -> Picture:
    """A finished product with a colour table as a picture."""
    import rasterio

    with rasterio.open(path) as raster:
        shape = thumbnail_shape(Grid(raster.height, raster.width, None, raster.transform[:6]), LONGEST_SIDE)
        table = np.array([raster.colormap(1)[code] for code in range(256)], np.uint8)
        picture: Picture = np.moveaxis(table[raster.read(1, out_shape=shape)], -1, 0).copy()
        picture[3] = raster.dataset_mask(out_shape=shape)
    return picture


def of_measurements(draft: RasterDraft, low: float | None = None, high: float | None = None, band: int = 0) -> Picture:
    """A band (from 0) of measurements as a picture, dark blue for low and yellow for high.

    Darkest and brightest are ``low`` and ``high``, by default the 2nd and the 98th percentile.
    """
    values = thumbnail(draft)[band].astype(np.float64)
    nodata = draft.form.nodata
    valid = np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)
    seen = values[valid] if valid.any() else np.zeros(1)
    bottom = float(np.percentile(seen, 2)) if low is None else low
    top = float(np.percentile(seen, 98)) if high is None else high
    place = np.clip((np.nan_to_num(values) - bottom) / max(top - bottom, 1e-12), 0, 1) * (len(_RAMP) - 1)
    channels = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    return np.stack([*channels, np.where(valid, 255, 0)]).astype(np.uint8)


def of_reflectance(draft: RasterDraft, source: SceneSource) -> Picture:
    """A raster in the scene's digital numbers as a picture, its first three bands as red, green and blue."""
    dn = thumbnail(draft)[:3]
    return stretched(dn, source.profile, source.profile.valid(dn))


def percentages(draft: RasterDraft, _: SceneSource) -> Picture:
    """A raster whose last band holds percentages as a picture."""
    return of_measurements(draft, 0, 100, band=-1)


def of_optical(draft: RasterDraft, _: SceneSource) -> Picture:
    """A raster of reflectance as a picture, its first three bands as red, green and blue."""
    reflectance = thumbnail(draft)[:3]
    return _shaded(reflectance, np.isfinite(reflectance).all(axis=0))


def thumbnail(draft: RasterDraft) -> npt.NDArray[Any]:
    """(bands, h, w) of a finished draft, at most :data:`LONGEST_SIDE` pixels in height and width, nothing averaged."""
    import rasterio

    shape = thumbnail_shape(draft.grid, LONGEST_SIDE)
    with rasterio.open(draft.path) as raster:
        values: npt.NDArray[Any] = raster.read(out_shape=(raster.count, *shape))
    return values


def png(picture: Picture) -> bytes:
    """A picture as a PNG file."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    with warnings.catch_warnings(), MemoryFile() as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(
            driver="PNG", ZLEVEL=2, dtype="uint8", count=4, height=picture.shape[1], width=picture.shape[2]
        ) as raster:
            raster.write(picture)
        content: bytes = file.read()
    return content


def legend_colours(colours: Mapping[int, tuple[int, int, int, int]]) -> dict[int, str]:
    """A colour table as hexadecimal RRGGBB."""
    return {code: f"{red:02X}{green:02X}{blue:02X}" for code, (red, green, blue, _) in colours.items()}
