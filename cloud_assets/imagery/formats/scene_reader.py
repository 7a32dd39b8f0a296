"""Windows of a scene, all bands on one grid, as the digital numbers of the instrument's profile."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.container import Container
from cloud_assets.imagery.geometry import thumbnail_shape
from cloud_assets.imagery.tiling.windows import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT


@dataclass(frozen=True)
class SceneBand:
    """One band of a scene, and how this very product scales it."""

    raster: RasterBand
    scale: float | None = None
    """Physical units a digital number in this product; None: as in the instrument's profile."""
    offset: float | None = None
    """Physical units, as STAC's ``raster:bands.offset``; None: as in the profile."""
    nodata: float | None = None
    """Digital number of missing pixels in this file; None: as in the profile."""


class ReadableScene(Protocol):
    """What a reader needs to know about a scene; see :class:`cloud_assets.imagery.formats.scene_source.SceneSource`."""

    @property
    def bands(self) -> Mapping[str, SceneBand]:
        """By the instrument's own band names."""

    @property
    def grid(self) -> Grid:
        """The grid that all bands are brought to."""

    @property
    def location(self) -> str:
        """What the user named."""

    @property
    def profile(self) -> Instrument:
        """The instrument whose digital numbers are handed out."""

    @property
    def container(self) -> Container | None:
        """The archive that the files lie in."""


class SceneReader:
    """Opened files of a scene. Belongs to one thread at a time.

    Args:
        source: The scene.
        bands: Own names of the bands, in the order in which they are handed out.
    """

    def __init__(self, source: ReadableScene, bands: Sequence[str]) -> None:
        self.source = source
        self.bands = tuple(bands)
        self._open = ExitStack()
        self._dtype = np.dtype(source.profile.dtype)
        self._required = _required(source.profile, self.bands)
        if source.container is not None:
            source.container.verify([source.bands[name].raster.path for name in self.bands])
        grouped: dict[str, list[int]] = {}
        for place, name in enumerate(self.bands):
            grouped.setdefault(source.bands[name].raster.path, []).append(place)
        with self._open as files:
            self._files = [
                (places, files.enter_context(_BandFile(source, [source.bands[self.bands[place]] for place in places])))
                for places in grouped.values()
            ]
            self._open = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads all bands of a window.

        Args:
            window: It must touch the scene; what lies outside is the scene reflected at its border.

        Returns:
            (C, height, width) digital numbers as in the instrument's profile, nodata too.

        Raises:
            InvalidData: If the pixels cannot be read; the message names the window and the file.
        """
        inside = window.inside(self.source.grid.height, self.source.grid.width)
        return window.mirrored(self._read(inside, (inside.height, inside.width)), inside)

    def thumbnail(self, longest: int) -> npt.NDArray[Any]:
        """All bands of the whole scene, scaled so that neither height nor width is above ``longest``.

        Returns:
            (C, h, w) digital numbers as in the instrument's profile.

        Raises:
            InvalidData: If the pixels cannot be read.
        """
        grid = self.source.grid
        shape = thumbnail_shape(grid, longest)
        return self._read(Window(0, 0, grid.height, grid.width), shape)

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which pixels (…, height, width) of (…, C, height, width) digital numbers were observed."""
        return self.source.profile.valid(dn)

    def _read(self, window: Window, shape: tuple[int, int]) -> npt.NDArray[Any]:
        values = np.empty((len(self.bands), *shape), self._dtype)
        for places, file in self._files:
            values[places] = file.read(window, shape)
        if self._required:
            # At staggered edges of a swath some bands end before others: what lacks one is no observation.
            lacking = (values[self._required] == self.source.profile.nodata).any(axis=0)
            values[:, lacking] = self.source.profile.nodata
        return values


class _BandFile:
    """The bands of a scene that lie in one file."""

    def __init__(self, source: ReadableScene, bands: Sequence[SceneBand]) -> None:
        self._source = source
        self._bands = bands
        self._path = bands[0].raster.path
        self._indexes = [band.raster.index for band in bands]

    def __enter__(self) -> Self:
        import rasterio
        from rasterio.errors import RasterioError

        self._files = ExitStack()
        with self._files as files:
            try:
                # Files beside a raster hold masks and nodata; archives and servers are not listed for them.
                listing = "EMPTY_DIR" if self._path.startswith("/vsi") else "FALSE"
                with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing):
                    raster = files.enter_context(rasterio.open(self._path))
                self._raster = self._on_grid(raster, files)
            except RasterioError as error:
                raise InvalidData(
                    f"{self._path} cannot be opened: missing, truncated or no raster file ({error})."
                ) from error
            from rasterio.enums import ColorInterp, MaskFlags

            is_plain = self._raster is raster
            self._has_mask = MaskFlags.per_dataset in raster.mask_flag_enums[0] and is_plain
            # GDAL takes alpha for a mask in files of two or four bands only.
            alpha = [index for index, kind in enumerate(raster.colorinterp, start=1) if kind is ColorInterp.alpha]
            self._alpha = alpha[0] if alpha and is_plain and not self._has_mask else None
            native = np.dtype(raster.dtypes[self._indexes[0] - 1])
            self._conversions = [_Conversion(band, self._source.profile, native) for band in self._bands]
            self._files = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def read(self, window: Window, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Reads a window inside the scene as (bands, *shape), in the profile's digital numbers."""
        from rasterio.errors import RasterioError

        try:
            values, is_missing = self._read(window, shape)
        except RasterioError as error:
            raise InvalidData(
                f"{self._source.location}: {window} cannot be read from {self._path} ({error}). "
                "The file is damaged there: copy or download it again."
            ) from error
        if all(convert.is_identity for convert in self._conversions):
            converted = values
        else:
            converted = np.stack([convert(band) for convert, band in zip(self._conversions, values, strict=True)])
        if is_missing is not None:
            converted[:, is_missing] = self._source.profile.nodata
        return converted

    def _read(self, window: Window, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        rows, columns = window.slices
        where = (rows.start, rows.stop), (columns.start, columns.stop)
        is_missing = None
        if self._has_mask:
            is_missing = self._raster.dataset_mask(window=where, out_shape=shape) == 0
        elif self._alpha is not None:
            is_missing = self._raster.read(self._alpha, window=where, out_shape=shape) == 0
        return self._raster.read(self._indexes, window=where, out_shape=(len(self._indexes), *shape)), is_missing

    def _on_grid(self, raster: "DatasetReader", files: ExitStack) -> "DatasetReader | WarpedVRT":
        """The file itself if it lies on the scene's grid, else a view of it resampled to that grid."""
        from rasterio import Affine
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        grid = self._source.grid
        if _same_grid(raster, grid):
            return raster
        if raster.crs is None or grid.crs is None:
            raise InvalidScene(
                f"{self._path} measures {raster.width} x {raster.height} pixels, not {grid.width} x {grid.height}; "
                "without a coordinate reference system in both their relative position is unknown."
            )
        is_coarser = abs(grid.transform[0]) > abs(raster.transform.a) * 1.001
        nodata = self._bands[0].nodata if self._bands[0].nodata is not None else self._source.profile.nodata
        view = WarpedVRT(
            raster,
            crs=grid.crs,
            transform=Affine(*grid.transform),
            height=grid.height,
            width=grid.width,
            resampling=Resampling.average if is_coarser else Resampling.bilinear,
            src_nodata=nodata,
            nodata=nodata,
        )
        return files.enter_context(view)


class _Conversion:
    """From the digital numbers of one product to those of the instrument's profile."""

    def __init__(self, band: SceneBand, profile: Instrument, native: np.dtype[Any]) -> None:
        self._profile = profile
        self._scale = profile.scale if band.scale is None else band.scale
        self._offset = profile.offset if band.offset is None else band.offset
        self._nodata = profile.nodata if band.nodata is None else band.nodata
        # Beside the file's own number, the instrument's marks missing pixels in its digital numbers.
        self._is_native = np.issubdtype(native, np.integer)
        is_profile = (self._scale, self._offset, native) == (profile.scale, profile.offset, np.dtype(profile.dtype))
        self.is_identity = is_profile and (self._nodata == profile.nodata or not _is_number(self._nodata))
        self._table: npt.NDArray[Any] | None = None
        self._lowest = 0
        if not self.is_identity and native.itemsize <= 2 and np.issubdtype(native, np.integer):
            limits = np.iinfo(native)
            # A table of all numbers there are: exact, and faster than arithmetic on every pixel.
            self._table = self._convert(np.arange(limits.min, limits.max + 1))
            self._lowest = int(limits.min)

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.is_identity:
            return values
        if self._table is not None:
            return self._table[values.astype(np.int32) - self._lowest if self._lowest else values]
        return self._convert(values)

    def _convert(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        physical = values.astype(np.float64) * self._scale + self._offset
        physical[~np.isfinite(values)] = np.nan
        if _is_number(self._nodata):
            physical[values == self._nodata] = np.nan
        if self._is_native and _is_number(self._profile.nodata):
            physical[values == self._profile.nodata] = np.nan
        return self._profile.to_dn(physical)


def _required(profile: Instrument, bands: Sequence[str]) -> list[int]:
    """Places of the bands in which the number for nodata cannot be an observation.

    Pictures have black pixels, and over dry air the cirrus band sees nothing.
    """
    if profile.nodata is None or not np.isfinite(profile.nodata) or profile.bands[0].resolution_m is None:
        return []
    return [place for place, name in enumerate(bands) if profile.find(name).common_name != "cirrus"]


def _is_number(nodata: float | None) -> bool:
    return nodata is not None and bool(np.isfinite(nodata))


def _same_grid(raster: "DatasetReader", grid: Grid) -> bool:
    if (raster.height, raster.width) != (grid.height, grid.width):
        return False
    tolerance = 1e-3 * max(abs(grid.transform[0]), abs(grid.transform[1]))
    same_place = all(
        abs(own - wanted) <= tolerance for own, wanted in zip(raster.transform[:6], grid.transform, strict=True)
    )
    return same_place and (raster.crs is None or grid.crs is None or raster.crs.to_string() == grid.crs)
