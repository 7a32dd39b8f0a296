"""Rasters of a scene and their quick-look pictures.

Rasters are written block by block as they are finished, then turned into Cloud-Optimised GeoTIFFs.
"""

import errno
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidData, StorageFull
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import thumbnail_shape
from cloud_assets.imagery.tiling import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

_BLOCK = 512
_READ_SIDE = 2 * _BLOCK
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class RasterForm:
    """What a raster of a product holds."""

    dtype: str
    bands: tuple[str, ...]  # description of each band
    nodata: float | None = None
    unit: str | None = None
    classes: Mapping[int, str] = field(default_factory=dict)  # meaning of the first band's values, where they are codes
    colours: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """Colour of these codes: red, green, blue, opacity."""
    overviews: Literal["nearest", "average", "mode"] = "nearest"
    scale: float | None = None  # physical units a number, where the numbers are digital numbers
    offset: float | None = None


class RasterDraft:
    """A raster that is being written: tiled and uncompressed, so that blocks may come in any order and size."""

    def __init__(self, path: Path, grid: Grid, form: RasterForm) -> None:
        self.path = path
        self.grid = grid
        self.form = form
        self._raster: DatasetWriter | None = None

    def __enter__(self) -> Self:
        import rasterio

        with storage_errors(self.path):
            self._raster = rasterio.open(
                self.path,
                "w",
                driver="GTiff",
                **self.grid.raster_options,
                count=len(self.form.bands),
                dtype=self.form.dtype,
                nodata=self.form.nodata,
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                interleave="pixel",
                bigtiff="if_safer",
            )
            for index, name in enumerate(self.form.bands, start=1):
                self._raster.set_band_description(index, name)
                if self.form.unit:
                    self._raster.set_band_unit(index, self.form.unit)
            if self.form.colours and len(self.form.bands) == 1:
                self._raster.write_colormap(1, dict(self.form.colours))
            if self.form.scale is not None:
                self._raster.scales = [self.form.scale] * len(self.form.bands)
            if self.form.offset is not None:
                self._raster.offsets = [self.form.offset] * len(self.form.bands)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        raster, self._raster = self._raster, None
        if raster is None:
            return
        with storage_errors(self.path):
            raster.close()
        # Closing writes the last blocks, but does not tell when that fails.
        tiles = math.ceil(self.grid.height / _BLOCK) * math.ceil(self.grid.width / _BLOCK)
        expected = tiles * _BLOCK**2 * len(self.form.bands) * np.dtype(self.form.dtype).itemsize
        if kind is None and (found := self.path.stat().st_size) < expected:
            raise _storage_full(self.path, f"{found} of {expected} bytes were written")

    def write(self, block: Window, values: npt.NDArray[Any]) -> None:
        """Writes the values of a block: (bands, height, width), or (height, width) for a single band."""
        if self._raster is None:
            raise ValueError(f"{self.path} is not open for writing.")
        if 0 in values.shape:
            return
        layers = values if values.ndim == 3 else values[np.newaxis]
        with storage_errors(self.path):
            self._raster.write(layers.astype(self.form.dtype, copy=False), window=block.slices)

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads (bands, height, width) of a finished draft; the window lies inside the scene."""
        import rasterio

        with rasterio.open(self.path) as raster:
            pixels: npt.NDArray[Any] = raster.read(window=window.slices)
        return pixels

    def blocks(self, halo: int = 0) -> Iterator[tuple[Window, Window, npt.NDArray[Any]]]:
        """Reads a finished draft block by block, each with a halo of so many pixels, as far as the scene goes.

        Yields:
            The block; the window read, which is the block and its halo; that window's (bands, height, width) pixels.
        """
        height, width = self.grid.height, self.grid.width
        for row in range(0, height, _READ_SIDE):
            for column in range(0, width, _READ_SIDE):
                side = _READ_SIDE + 2 * halo
                block = Window(row, column, _READ_SIDE, _READ_SIDE).inside(height, width)
                wide = Window(row - halo, column - halo, side, side).inside(height, width)
                yield block, wide, self.read(wide)


def write_cog(draft: RasterDraft, path: Path, tags: Mapping[str, str], threads: int = 1) -> None:
    """Turns a finished draft, which stays, into a Cloud-Optimised GeoTIFF and makes sure that it is one.

    It is the caller's to make this atomic.

    Raises:
        StorageFull: If the disk is full.
        InvalidData: If the file turns out not to be whole.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.enums import Resampling
    from rio_cogeo.cogeo import cog_validate

    is_float = np.issubdtype(np.dtype(draft.form.dtype), np.floating)
    # Neighbouring class codes have nothing to do with each other; neighbouring measurements differ little.
    predictor = "FLOATING_POINT" if is_float else "STANDARD" if np.dtype(draft.form.dtype).itemsize > 1 else "NO"
    factors = [2]  # halvings until the raster fits one block
    while max(draft.grid.height, draft.grid.width) * 2 > _BLOCK * factors[-1]:
        factors.append(factors[-1] * 2)
    with storage_errors(path):
        # Built from uncompressed blocks here, overviews cost half of what the conversion would need for them.
        with rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=_BLOCK), rasterio.open(draft.path, "r+") as raster:
            raster.update_tags(**tags)
            raster.build_overviews(factors[:-1], Resampling[draft.form.overviews])
        rasterio.shutil.copy(
            draft.path,
            path,
            driver="COG",
            COMPRESS="DEFLATE",
            LEVEL="1",
            PREDICTOR=predictor,
            BLOCKSIZE=str(_BLOCK),
            NUM_THREADS=str(threads),
            BIGTIFF="IF_SAFER",
        )
        is_valid, errors, _ = cog_validate(path, quiet=True)
    try:
        read_header(str(path))
    except InvalidData as error:
        raise _storage_full(path, "the file is not whole") from error
    if not is_valid:
        raise InvalidData(f"{path} is no Cloud-Optimised GeoTIFF ({'; '.join(errors)}): please report it.")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what is raised when a file cannot be written into an error that names the reason and a way out."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        yield
    except StorageFull:
        raise
    except (RasterioError, CPLE_BaseError) as error:
        # The raster library does not tell a full disk from other failures to write a file.
        raise _storage_full(path, " ".join(f"{error} {error.__cause__ or ''}".split())) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _storage_full(path, str(error)) from error
        raise


def _storage_full(path: Path, reason: str) -> StorageFull:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), Path())
    free = shutil.disk_usage(folder).free / 1e6
    return StorageFull(
        f"{path.name} cannot be written ({reason}). {free:.0f} MB are free on its disk: "
        "free some space, raise a quota, or choose another folder. Nothing half-written is left behind."
    )


Picture = npt.NDArray[np.uint8]  # (4, H, W) red, green, blue, opacity

LONGEST_SIDE = 800
_TRUE_COLOUR = ("red", "green", "blue")
_BRIGHTEST = 0.45
# Dark blue, teal, yellow: read in the same order by eyes that do not tell red from green, and in print.
_RAMP = np.array([[20, 24, 82], [30, 110, 130], [120, 190, 110], [250, 230, 90]], np.float64)


def natural_colours(source: SceneSource) -> Picture:
    """The scene as the eye would see it, or its first three bands where it lacks one of red, green and blue."""
    with source.open(pictured_bands(source)) as reader:
        dn = reader.thumbnail(LONGEST_SIDE)
        return stretched(dn, source.profile, reader.valid(dn))


def pictured_bands(source: SceneSource) -> tuple[str, ...]:
    """Red, green and blue, or the first three bands of a scene that lacks one of them."""
    return _TRUE_COLOUR if source.has(_TRUE_COLOUR) else tuple(source.bands)[:3]


def stretched(dn: npt.NDArray[Any], profile: Instrument, valid: npt.NDArray[np.bool_]) -> Picture:
    """(C, H, W) digital numbers of up to three bands as a picture, transparent where not valid."""
    return shaded(profile.to_physical(dn), valid, is_radar=profile.unit == "dB")


def shaded(measured: npt.NDArray[Any], valid: npt.NDArray[np.bool_], *, is_radar: bool = False) -> Picture:
    """(C, H, W) reflectance, or decibel of radar, as a picture, transparent where not valid."""
    scaled = (measured + 25) / 25 if is_radar else measured / _BRIGHTEST
    scaled = np.fmin(np.fmax(scaled, 0, out=scaled), 1, out=scaled)  # 0 where not a number
    if not is_radar:
        root = np.sqrt(scaled, out=scaled)
        scaled = root * np.sqrt(root)  # the power 3/4 as a gamma
    layers = np.multiply(scaled, 255, out=scaled).astype(np.uint8)
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
    return ramped(values, valid, bottom, top)


def ramped(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], low: float, high: float) -> Picture:
    """(H, W) measurements as a picture from dark blue at ``low`` to yellow at ``high``, transparent where not valid."""
    place = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12), 0, 1) * (len(_RAMP) - 1)
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
    return shaded(reflectance, np.isfinite(reflectance).all(axis=0))


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
