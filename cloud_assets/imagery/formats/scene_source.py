"""A scene on disk: described, so that any thread or process can open it for itself, and the reader of its windows.

Windows have all bands on one grid, as the digital numbers of the instrument's profile.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.datasets.rasters import read_header
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.container import Container
from cloud_assets.imagery.formats.names import is_address
from cloud_assets.imagery.geometry import METRES_A_DEGREE, SunPosition, middle, thumbnail_shape
from cloud_assets.imagery.saturation import Saturation, can_saturate
from cloud_assets.imagery.tiling import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

DN = npt.NDArray[Any]
STATED_CLOUD = "stated_cloud_percentage"
"""Attribute of a scene whose metadata tell how cloudy it is, by the agency's own rule of thumb."""
_LOW_SUN = 5.0  # degrees above the horizon below which a warning is given

_WINDOW = 768  # rows of windows, at most as a rule
_SAMPLED_SIDE, _SAMPLED_WINDOWS = 192, 4
"""Pixels and number, along each side, of the windows that tell where a scene is saturated."""


@dataclass(frozen=True)
class SceneBand:
    """One band of a scene, and how this very product scales it."""

    raster: RasterBand
    scale: float | None = None  # physical units a digital number in this product; None: as in the instrument's profile
    offset: float | None = None  # physical units, as STAC's ``raster:bands.offset``; None: as in the profile
    nodata: float | None = None  # digital number of missing pixels in this file; None: as in the profile


@dataclass(frozen=True)
class SceneSource:
    """A scene: its bands, its grid, and what is known about it."""

    name: str  # names the folder of its products
    instrument: str  # key in :data:`cloud_assets.bands.INSTRUMENTS`
    bands: Mapping[str, SceneBand]  # by the instrument's own band names
    grid: Grid  # the grid that all bands are brought to
    location: str  # what the user named: a file or a folder
    fingerprint: str  # changes when a file of the scene does
    acquired: datetime | None = None
    sun_elevation: float | None = None  # degrees above the horizon, where level 1 was corrected for it
    warnings: tuple[str, ...] = ()  # what a user of the products should know
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Whatever else the metadata tell, such as the processing baseline."""
    container: Container | None = field(default=None, compare=False)
    """What holds the files, where that is an archive or a folder."""
    cache_bytes: int | None = field(default=None, compare=False)
    """Most memory for blocks of its files, a tenth at least; None: the raster library's own limit."""

    @property
    def profile(self) -> Instrument:
        """The instrument's profile: digital numbers that a reader hands out are to be read with it."""
        return INSTRUMENTS[self.instrument]

    @property
    def address(self) -> str:
        """The same from any working folder: an address, or an absolute path."""
        return self.location if is_address(self.location) else os.path.normpath(Path(self.location).absolute())

    @property
    def megapixels(self) -> float:
        """Pixels of the scene, in millions."""
        return self.grid.height * self.grid.width / 1e6

    @property
    def pixel_metres(self) -> float | None:
        """Side of a pixel in metres, the longer one; None without a coordinate reference system of the Earth."""
        if self.grid.crs is None:
            return None
        from rasterio.crs import CRS

        crs = CRS.from_user_input(self.grid.crs)
        if not (crs.is_geographic or crs.is_projected):
            return None
        a, b, _, d, e, f = self.grid.transform
        east = north = METRES_A_DEGREE if crs.is_geographic else float(crs.linear_units_factor[1])
        if crs.is_geographic:  # at the grid's middle latitude
            east *= math.cos(math.radians(f + d * self.grid.width / 2 + e * self.grid.height / 2))
        return max(math.hypot(a * east, d * north), math.hypot(b * east, e * north))

    @property
    def sun(self) -> SunPosition | None:
        """Where the sun stood, by time and place; None if one is unknown, the time is a mere date, or it was night."""
        if self.grid.crs is None or self.acquired is None or self.acquired.time() == time():
            return None
        sun = SunPosition.at(self.acquired, *middle(self.grid))
        return sun if sun.elevation > 0 else None

    def resolve(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Own names of bands asked for by own or common names.

        Raises:
            UnknownBand: The instrument has no such band.
            InvalidData: The instrument has it, this scene does not.
        """
        names = tuple(self.profile.find(band).name for band in bands)
        missing = [f"{name} ({self.profile.find(name).common_name})" for name in names if name not in self.bands]
        if missing:
            raise InvalidData(
                f"{self.location} has no band {', '.join(missing)}; it has {', '.join(self.bands)}. "
                "Add the missing files, or use a model that does without these bands."
            )
        return names

    def has(self, bands: Sequence[str]) -> bool:
        """Whether the scene holds all these bands."""
        held = [band for band in self.profile.bands if band.name in self.bands]
        known = {name for band in held for name in (band.name, band.common_name)}
        return known.issuperset(bands)

    def read_as(self, instrument: str) -> "SceneSource":
        """The scene for a model that learnt from an instrument: level 1 before the correction for the sun too."""
        if INSTRUMENTS[instrument].is_sun_corrected or self.sun_elevation is None:
            return self
        bands = _times(self.instrument, self.bands, math.sin(math.radians(self.sun_elevation)))
        return replace(self, instrument=self.instrument.replace("_toa", "_l1"), bands=bands, sun_elevation=None)

    def open(self, bands: Sequence[str]) -> "SceneReader":
        """Opens the files of some bands (own or common names, in that order) for reading, in a ``with`` block.

        Raises:
            UnknownBand: The instrument has no such band.
            InvalidData: This scene does not hold one of them. A file cannot be opened.
        """
        return SceneReader(self, self.resolve(bands))

    def at_resolution(self, metres: float) -> "SceneSource":
        """The same scene on a coarser grid of the same corner, of pixels of so many metres.

        Raises:
            InvalidScene: If the scene has no coordinate reference system, or is coarser than that already.
        """
        own = self.pixel_metres
        if own is None or metres < own * 0.999:
            raise InvalidScene(
                f"{self.location} cannot be brought to {metres:g} m: "
                + ("it has no coordinate reference system." if own is None else f"its own pixels measure {own:g} m.")
            )
        factor = metres / own
        height, width = (max(1, round(side / factor)) for side in (self.grid.height, self.grid.width))
        return replace(self, grid=self.grid.scaled(height, width, factor, factor))


def finest_grid(bands: Mapping[str, SceneBand], profile: Instrument) -> Grid:
    """The grid with the smallest pixels among some bands; those that cannot be read are left to whoever reads them."""
    # The panchromatic band has a grid of its own, twice as fine.
    names = [name for name in bands if profile.find(name).common_name != "pan"] or list(bands)
    headers, problems = [], []
    for name in names:
        try:
            headers.append(read_header(bands[name].raster.path))
        except InvalidData as error:
            problems.append(error)
    if not headers:
        raise problems[0]
    finest = min(headers, key=lambda header: abs(header.transform[0]))
    return Grid(finest.height, finest.width, finest.crs, finest.transform)


def sun_notes(location: str, elevation: float | None) -> tuple[str, ...]:
    """What the height of the sun above the horizon (degrees; None: unknown) makes uncertain.

    Raises:
        InvalidScene: If the sun was below the horizon: there is no reflected light to see clouds by.
    """
    if elevation is None:
        return ()
    if elevation <= 0:
        raise InvalidScene(
            f"{location}: the sun was {-elevation:.1f} degrees below the horizon. Cloud masks need reflected "
            "sunlight; night scenes are not masked."
        )
    if elevation < _LOW_SUN:
        return (f"The sun was only {elevation:.1f} degrees above the horizon: clouds and shadows are hard to tell.",)
    return ()


def sun_corrected(
    instrument: str, bands: Mapping[str, SceneBand], elevation: float | None
) -> tuple[str, dict[str, SceneBand]]:
    """Level 1 as reflectance at the top of the atmosphere, where the height of the sun (degrees) is known.

    Landsat's level 1 states reflectance as if the sun stood overhead; divided by the sine of its elevation it is the
    reflectance at the top of the atmosphere (Landsat 8 Data Users Handbook, section 5.2).

    Returns:
        Key of the instrument whose numbers a reader hands out now, and the bands.
    """
    corrected = instrument.replace("_l1", "_toa")
    if elevation is None or INSTRUMENTS[instrument].is_sun_corrected or corrected not in INSTRUMENTS:
        return instrument, dict(bands)
    return corrected, _times(instrument, bands, 1 / math.sin(math.radians(elevation)))


def _times(instrument: str, bands: Mapping[str, SceneBand], factor: float) -> dict[str, SceneBand]:
    profile = INSTRUMENTS[instrument]
    return {
        name: replace(
            band,
            scale=(profile.scale if band.scale is None else band.scale) * factor,
            offset=(profile.offset if band.offset is None else band.offset) * factor,
        )
        for name, band in bands.items()
    }


class SceneReader:
    """Opened files of a scene, its bands (own names) handed out in this order. Belongs to one thread at a time."""

    def __init__(self, source: SceneSource, bands: Sequence[str]) -> None:
        import rasterio

        self.source = source
        self.bands = tuple(bands)
        self.strip = math.inf
        profile = source.profile
        # Bands in which nodata's number cannot be observed: pictures have black pixels, dry air a black cirrus band.
        can_be_zero = profile.nodata is None or not np.isfinite(profile.nodata) or profile.bands[0].resolution_m is None
        others = [place for place, name in enumerate(self.bands) if profile.find(name).common_name != "cirrus"]
        self._required = [] if can_be_zero else others
        if source.container is not None:
            source.container.verify([source.bands[name].raster.path for name in self.bands])
        grouped: dict[str, list[int]] = {}
        for place, name in enumerate(self.bands):
            grouped.setdefault(source.bands[name].raster.path, []).append(place)
        with ExitStack() as files:
            self._files = [
                (places, _BandFile(source, [source.bands[self.bands[place]] for place in places], files))
                for places in grouped.values()
            ]
            if source.cache_bytes is not None:
                self.strip, needed = self._cached(source.cache_bytes - source.cache_bytes // 10)
                files.enter_context(rasterio.Env(GDAL_CACHEMAX=needed + source.cache_bytes // 10))
            self._saturation = Saturation.of(self._sample(), source.profile, self.bands)
            self._open = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Reads (C, height, width) digital numbers of a window as in the instrument's profile, nodata too.

        The window must touch the scene; what lies outside is the scene reflected at its border. Saturated pixels are
        completed (:mod:`cloud_assets.imagery.saturation`).

        Raises:
            InvalidData: If the pixels cannot be read; the message names the window and the file.
        """
        inside = window.inside(self.source.grid.height, self.source.grid.width)
        values = self.scaled(inside, (inside.height, inside.width))
        return window.mirrored(values if self._saturation is None else self._saturation.completed(values), inside)

    def thumbnail(self, longest: int) -> npt.NDArray[Any]:
        """Like :meth:`read`, the whole scene scaled so that neither height nor width is above ``longest``."""
        grid = self.source.grid
        return self.scaled(Window(0, 0, grid.height, grid.width), thumbnail_shape(grid, longest))

    def valid(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which pixels (…, height, width) of (…, C, height, width) digital numbers were observed."""
        return self.source.profile.valid(dn)

    def _cached(self, room: int) -> tuple[float, int]:
        """The widest strip whose rows of windows share their blocks in so many bytes, and the bytes for it."""
        width = self.source.grid.width
        strips = [math.inf, *(width / parts for parts in range(2, width // (2 * _WINDOW) + 1))]
        needed = [sum(file.shared_bytes(strip / width) for _, file in self._files) for strip in strips]
        return next((one for one in zip(strips, needed, strict=True) if one[1] <= room), (math.inf, room))

    def _sample(self) -> npt.NDArray[Any]:
        """(C, n) digital numbers of windows spread over the scene."""
        grid = self.source.grid
        if not can_saturate(self.source.profile):
            return np.empty((len(self.bands), 0), self.source.profile.dtype)
        height, width = (min(_SAMPLED_SIDE, side) for side in (grid.height, grid.width))
        rows, columns = (
            np.linspace(0, side - size, min(_SAMPLED_WINDOWS, -(-side // size)), dtype=int).tolist()
            for side, size in ((grid.height, height), (grid.width, width))
        )
        sample = [np.empty((len(self.bands), 0), self.source.profile.dtype)]
        for row, column in product(rows, columns):
            with suppress(InvalidData):  # said when the window is read for its own sake
                values = self.scaled(Window(row, column, height, width), (height, width))
                sample.append(values.reshape(len(self.bands), -1))
        return np.concatenate(sample, axis=1)

    def scaled(self, window: Window, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Reads (C, *shape) digital numbers of a window inside the scene, saturated pixels as they are."""
        values = np.empty((len(self.bands), *shape), self.source.profile.dtype)
        for places, file in self._files:
            values[places] = file.read(window, shape)
        if self._required:
            # At staggered edges of a swath some bands end before others: what lacks one is no observation.
            lacking = (values[self._required] == self.source.profile.nodata).any(axis=0)
            values[:, lacking] = self.source.profile.nodata
        return values


class _BandFile:
    """The bands of a scene that lie in one file, opened until the stack is closed."""

    def __init__(self, source: SceneSource, bands: Sequence[SceneBand], files: ExitStack) -> None:
        import rasterio
        from rasterio.enums import ColorInterp, MaskFlags
        from rasterio.errors import RasterioError

        self._source = source
        self._bands = bands
        self._path = bands[0].raster.path
        self._indexes = [band.raster.index for band in bands]
        try:
            # Files beside a raster hold masks and nodata; archives and servers are not listed for them.
            listing = "EMPTY_DIR" if self._path.startswith("/vsi") else "FALSE"
            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing):
                raster = files.enter_context(rasterio.open(self._path))
            self._raster = self._on_grid(raster, files)
        except RasterioError as error:
            raise InvalidData(
                f"{self._path} cannot be opened: missing, truncated or no raster ({error}). Copy it again."
            ) from error
        is_plain = self._raster is raster
        self._has_mask = MaskFlags.per_dataset in raster.mask_flag_enums[0] and is_plain
        # GDAL takes alpha for a mask in files of two or four bands only.
        alpha = [index for index, kind in enumerate(raster.colorinterp, start=1) if kind is ColorInterp.alpha]
        self._alpha = alpha[0] if alpha and is_plain and not self._has_mask else None
        native = np.dtype(raster.dtypes[self._indexes[0] - 1])
        self._conversions = [_conversion(band, source.profile, native) for band in bands]
        is_mixed = raster.profile.get("interleave") == "pixel"
        self._pixel_bytes: int = (raster.count if is_mixed else len(bands)) * native.itemsize
        self._blocks = raster.block_shapes[0]
        self._width = raster.width

    def shared_bytes(self, share: float) -> int:
        """Memory of the blocks that a row of windows shares with the next one, in a strip of a share of the width."""
        height, width = self._blocks
        rows = (math.ceil(_WINDOW / height) + 1) * height
        return int(rows * min(self._width, self._width * share + 2 * width)) * self._pixel_bytes

    def read(self, window: Window, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Reads a window inside the scene as (bands, *shape), in the profile's digital numbers."""
        from rasterio.errors import RasterioError

        where, is_missing = window.slices, None
        try:
            if self._has_mask:
                is_missing = self._raster.dataset_mask(window=where, out_shape=shape) == 0
            elif self._alpha is not None:
                is_missing = self._raster.read(self._alpha, window=where, out_shape=shape) == 0
            converted: npt.NDArray[Any] = self._raster.read(
                self._indexes, window=where, out_shape=(len(self._indexes), *shape)
            )
        except RasterioError as error:
            raise InvalidData(
                f"{self._source.location}: {window} cannot be read from {self._path} ({error}). "
                "The file is damaged there: copy or download it again."
            ) from error
        if any(self._conversions):
            both = zip(self._conversions, converted, strict=True)
            converted = np.stack([band if convert is None else convert(band) for convert, band in both])
        if is_missing is not None:
            converted[:, is_missing] = self._source.profile.nodata
        return converted

    def _on_grid(self, raster: "DatasetReader", files: ExitStack) -> "DatasetReader | WarpedVRT":
        """The file itself if it lies on the scene's grid, else a view of it resampled to that grid."""
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        grid = self._source.grid
        if (raster.height, raster.width) == (grid.height, grid.width):
            tolerance = 1e-3 * max(abs(grid.transform[0]), abs(grid.transform[1]))
            shift = np.abs(np.subtract(raster.transform[:6], grid.transform)).max()
            has_one_system = raster.crs is None or grid.crs is None or raster.crs.to_string() == grid.crs
            if shift <= tolerance and has_one_system:
                return raster
        if raster.crs is None or grid.crs is None:
            raise InvalidScene(
                f"{self._path} measures {raster.width} x {raster.height} pixels, not {grid.width} x {grid.height}; "
                "without a coordinate reference system their relative position is unknown. Give both one."
            )
        is_coarser = abs(grid.transform[0]) > abs(raster.transform.a) * 1.001
        nodata = self._bands[0].nodata if self._bands[0].nodata is not None else self._source.profile.nodata
        resampling = Resampling.average if is_coarser else Resampling.bilinear
        return files.enter_context(
            WarpedVRT(raster, **grid.raster_options, resampling=resampling, src_nodata=nodata, nodata=nodata)
        )


def _conversion(band: SceneBand, profile: Instrument, native: np.dtype[Any]) -> Callable[[DN], DN] | None:
    """From the digital numbers of one product to those of the instrument's profile; None where they are the same."""
    scale = profile.scale if band.scale is None else band.scale
    offset = profile.offset if band.offset is None else band.offset
    nodata = profile.nodata if band.nodata is None else band.nodata
    is_integer = np.issubdtype(native, np.integer)
    # Beside the file's own number, the instrument's marks missing pixels, but where numbers may be negative.
    is_marked = is_integer and not (native.kind == "i" and band.nodata is not None and band.nodata < 0)
    missing = [n for n in (nodata, profile.nodata if is_marked else None) if n is not None and np.isfinite(n)]
    is_profile = (scale, offset, native) == (profile.scale, profile.offset, np.dtype(profile.dtype))
    if is_profile and (nodata == profile.nodata or nodata not in missing):
        return None

    def convert(values: DN) -> DN:
        physical = values.astype(np.float64) * scale + offset
        physical[~np.isfinite(values)] = np.nan
        for number in missing:
            physical[values == number] = np.nan
        return profile.to_dn(physical)

    if not is_integer or native.itemsize > 2:
        return convert
    # A table of all numbers there are: exact, and faster than arithmetic on every pixel.
    lowest = int(np.iinfo(native).min)
    table = convert(np.arange(lowest, np.iinfo(native).max + 1))
    return lambda values: table[values.astype(np.int32) - lowest if lowest else values]
