"""Rasters of a scene: written block by block as they are finished, then turned into Cloud-Optimised GeoTIFFs."""

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

from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidData, StorageFull
from cloud_assets.imagery.tiling.windows import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

_BLOCK = 512
_READ_SIDE = 2 * _BLOCK
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class RasterForm:
    """What a raster of a product holds."""

    dtype: str
    bands: tuple[str, ...]
    """Description of each band."""
    nodata: float | None = None
    unit: str | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    """Meaning of the first band's values, where they are codes."""
    colours: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """Colour of these codes: red, green, blue, opacity."""
    overviews: Literal["nearest", "average", "mode"] = "nearest"
    scale: float | None = None
    """Physical units a number, where the numbers are digital numbers."""
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
        """Writes the values of a block: (bands, height, width), or (height, width) for a single band.

        Raises:
            StorageFull: If the disk is full.
        """
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
        raise InvalidData(f"{path} was not written as a Cloud-Optimised GeoTIFF: {'; '.join(errors)}.")


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
        "free some space, raise a quota, or choose another folder. Nothing half-written is left behind.",
    )
