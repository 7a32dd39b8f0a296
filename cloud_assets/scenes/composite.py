"""Cloud-free composites of several dates: of each pixel one value from the dates at which it was clear."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import Instrument
from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidRecipe, InvalidScene
from cloud_assets.imagery.formats.geotiff import open_geotiff
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling import Window
from cloud_assets.imagery.writing import RasterDraft, RasterForm, natural_colours, png, storage_errors, write_cog
from cloud_assets.scenes.product_record import PROCESSING, placed_item, refuse_other_files, timestamp
from cloud_assets.storage import atomic_directory
from cloud_assets.version import __version__

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

Method = Literal["median", "medoid", "latest"]
METHODS: tuple[Method, ...] = get_args(Method)
_BLOCK = 512
_COUNT = RasterForm("uint16", ("number of clear dates",))
_DATE = RasterForm("int32", ("date of observation, YYYYMMDD",), nodata=0)


@dataclass(frozen=True)
class Observation:
    """A scene and which of its pixels can be relied on."""

    source: SceneSource
    usable: Path  # raster of 1 where the scene is clear, observed and far enough from clouds and shadows; else 0


@dataclass(frozen=True)
class Composite:
    """What was made."""

    directory: Path
    covered: float  # share of the pixels that some scene covers which were clear at one date at least
    clear_dates: float  # mean number of clear dates of a pixel that has one


def make_composite(
    observations: Sequence[Observation],
    directory: Path,
    *,
    method: Method = "median",
    bands: Sequence[str] | None = None,
    resolution_metres: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> Composite:
    """Makes a composite: ``composite.tif``, ``count.tif``, ``date.tif``, a quick-look and a STAC item, or nothing.

    ``median`` takes the median of each band, ``medoid`` the whole observation that differs least from all others
    (Flood 2013, https://doi.org/10.3390/rs5126481), ``latest`` the last clear one. The date is that of the observation
    taken; with ``median`` of the one nearest to it. Pixels that were never clear are nodata.

    Args:
        observations: Scenes of one instrument; they may cover different ground in different projections.
        directory: Replaced in one step.
        method: How the value is chosen.
        bands: Own or common names; None: all that every scene has.
        resolution_metres: None: that of the first scene, whose projection is taken too.
        progress: Called with the number of finished pixels.

    Raises:
        InvalidRecipe: If there is no such method, or no scene.
        InvalidScene: If the scenes are of different instruments, have no date, common band or reference system.
        InvalidData: If a scene cannot be read.
        StorageFull: If the disk is full.
    """
    if method not in METHODS or not observations:
        raise InvalidRecipe(f"a composite needs scenes and a method of {', '.join(METHODS)}; got {method!r}.")
    ordered = sorted(observations, key=lambda one: (date_of(one.source), one.source.name))
    profile = _instrument(ordered)
    names = _bands(ordered, bands)
    grid = _common_grid([one.source for one in observations], resolution_metres)
    placed = [replace(one, source=replace(one.source, grid=grid)) for one in ordered]
    form = RasterForm(
        profile.dtype, names, profile.nodata, scale=profile.scale, offset=profile.offset, overviews="average"
    )
    counted = np.zeros(3, np.int64)  # seen, clear, dates
    refuse_other_files(directory, "composite.tif", *(one.source.location for one in placed))
    with atomic_directory(directory) as folder, storage_errors(directory), ExitStack() as files:
        scratch = {name: folder / f"{name}.draft.tif" for name in ("composite", "count", "date")}
        drafts = {
            name: RasterDraft(scratch[name], grid, wanted)
            for name, wanted in (("composite", form), ("count", _COUNT), ("date", _DATE))
        }
        readers = [
            (files.enter_context(one.source.open(names)), files.enter_context(_on_grid(one.usable, grid)))
            for one in placed
        ]
        dates = np.array([date_of(one.source) for one in placed], np.int32)
        with ExitStack() as open_drafts:
            for draft in drafts.values():
                open_drafts.enter_context(draft)
            for row in range(0, grid.height, _BLOCK):
                for column in range(0, grid.width, _BLOCK):
                    window = Window(row, column, _BLOCK, _BLOCK).inside(grid.height, grid.width)
                    dn = np.stack([reader.read(window) for reader, _ in readers])
                    seen = profile.valid(dn)
                    where = tuple((part.start, part.stop) for part in window.slices)
                    clear = seen & np.stack([usable.read(1, window=where) == 1 for _, usable in readers])
                    values, date = combined(profile.to_physical(dn), clear, dates, method)
                    drafts["composite"].write(window, profile.to_dn(values))
                    drafts["count"].write(window, clear.sum(axis=0))
                    drafts["date"].write(window, date)
                    counted += [seen.any(axis=0).sum(), clear.any(axis=0).sum(), clear.sum()]
                    if progress is not None:
                        progress(window.height * window.width)
        tags = {"TIFFTAG_SOFTWARE": f"cloud-assets {__version__}", "CLOUD_ASSETS_INSTRUMENT": profile.name}
        for name, draft in drafts.items():
            write_cog(draft, folder / f"{name}.tif", tags)
            scratch[name].unlink()
        picture = natural_colours(open_geotiff(folder / "composite.tif"))
        (folder / "quicklook.png").write_bytes(png(picture))
        seen_pixels, clear_pixels, clear_dates = (int(number) for number in counted)
        made = Composite(directory, clear_pixels / max(seen_pixels, 1), clear_dates / max(clear_pixels, 1))
        item = json.dumps(_stac_item(directory.name, ordered, made, method, grid), indent=2, ensure_ascii=False)
        (folder / "stac_item.json").write_text(item, encoding="utf-8")
    return made


def combined(
    physical: npt.NDArray[np.float32], clear: npt.NDArray[np.bool_], dates: npt.NDArray[np.int32], method: Method
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Chooses a value for each pixel of (T, C, H, W) reflectance, in order of time, where it is ``clear`` (T, H, W).

    Returns:
        (C, H, W) reflectance, NaN without a clear date; and (H, W) dates, 0 without one.
    """
    masked = np.where(clear[:, None], physical, np.float32(np.nan))
    if method == "median":
        values = _median(masked, clear)
        distance = np.square(masked - values).sum(axis=1)
    elif method == "medoid":
        distance = sum(np.nan_to_num(np.sqrt(np.square(masked - other).sum(axis=1))) for other in masked)
    else:
        distance = -np.arange(len(masked), dtype=np.float32)[:, None, None] * np.ones(clear.shape[1:], np.float32)
    distance = np.where(clear, distance, np.inf)
    chosen = np.argmin(distance, axis=0)
    is_clear = clear.any(axis=0)
    if method != "median":
        values = np.take_along_axis(masked, chosen[None, None], axis=0)[0]
    return values, np.where(is_clear, dates[chosen], 0).astype(np.int32)


def _median(masked: npt.NDArray[np.float32], clear: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The median over dates without NaN, several times as fast as numpy's: NaN is sorted behind the clear dates."""
    ordered = np.sort(masked, axis=0)
    count = np.maximum(clear.sum(axis=0), 1)
    low, high = (np.take_along_axis(ordered, place[None, None], 0)[0] for place in ((count - 1) // 2, count // 2))
    values: npt.NDArray[np.float32] = (low + high) / 2
    return values


@contextmanager
def _on_grid(path: Path, grid: Grid) -> "Iterator[DatasetReader | WarpedVRT]":
    """Usable pixels of a scene on the grid of the composite, 0 outside the scene."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    with rasterio.open(path) as raster:
        if grid.crs is None:
            yield raster
            return
        # A coarser pixel is usable if all the ground in it is.
        is_coarser = abs(grid.transform[0]) > abs(raster.transform.a) * 1.5
        resampling = Resampling.min if is_coarser else Resampling.nearest
        with WarpedVRT(raster, **grid.raster_options, resampling=resampling) as view:
            yield view


def date_of(source: SceneSource) -> int:
    """The date of a scene as a number, 20240131; :class:`InvalidScene` if it has none."""
    if source.acquired is None:
        raise InvalidScene(
            f"{source.location}: no date of acquisition in its metadata or name. Put it into the name of the file, as "
            "in scene_20240131.tif."
        )
    return int(source.acquired.strftime("%Y%m%d"))


def _instrument(observations: Sequence[Observation]) -> Instrument:
    first = observations[0].source
    other = next((one.source for one in observations if one.source.instrument != first.instrument), None)
    if other is not None:
        raise InvalidScene(
            f"{first.location} is of {first.instrument}, {other.location} of {other.instrument}: the scenes of a "
            "composite are of one instrument and level. Leave one out."
        )
    return first.profile


def _bands(observations: Sequence[Observation], wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is not None:
        return next(iter([one.source.resolve(wanted) for one in observations]))
    # A band of another grid, such as the panchromatic one, would only be blurred.
    own = [band.name for band in observations[0].source.profile.bands if band.common_name != "pan"]
    shared = tuple(name for name in own if all(name in one.source.bands for one in observations))
    if not shared:
        raise InvalidScene("the scenes have no band in common. Leave out those that lack bands.")
    return shared


def _common_grid(sources: Sequence[SceneSource], metres: float | None) -> Grid:
    """The first scene's pixels, over the ground that any scene covers."""
    from rasterio import Affine
    from rasterio.transform import array_bounds, rowcol
    from rasterio.warp import transform_bounds

    first = sources[0] if metres is None else sources[0].at_resolution(metres)
    grid = first.grid
    if all((one.grid.crs, one.grid) == (sources[0].grid.crs, sources[0].grid) for one in sources):
        return grid
    without = next((one.location for one in sources if one.grid.crs is None), None)
    if without is not None:
        raise InvalidScene(f"{without} has no coordinate reference system: give it one, or leave it out.")
    rows, columns = [0, grid.height], [0, grid.width]
    for one in sources:
        own = array_bounds(one.grid.height, one.grid.width, Affine(*one.grid.transform))
        west, south, east, north = transform_bounds(one.grid.crs, grid.crs, *own)
        eastings, northings = (west, east, west, east), (north, south, south, north)
        found = rowcol(Affine(*grid.transform), eastings, northings, op=np.rint)
        rows += [int(row) for row in found[0]]
        columns += [int(column) for column in found[1]]
    a, b, c, d, e, f = grid.transform
    left, top = min(columns), min(rows)
    corner = (a, b, c + a * left + b * top, d, e, f + d * left + e * top)
    return Grid(max(rows) - top, max(columns) - left, grid.crs, corner)


def _stac_item(
    name: str, observations: Sequence[Observation], made: Composite, method: Method, grid: Grid
) -> Mapping[str, Any]:
    import pystac

    times = [one.source.acquired for one in observations if one.source.acquired is not None]
    item = placed_item(
        name,
        grid,
        datetime=None,
        start_datetime=min(times),
        end_datetime=max(times),
        properties={
            "created": timestamp(),
            "processing:lineage": f"{method} of the clear pixels of {len(observations)} scenes",
            "processing:software": {"cloud-assets": __version__},
            "cloud_assets:scenes": [one.source.name for one in observations],
            "cloud_assets:covered": round(made.covered, 4),
            "cloud_assets:clear_dates": round(made.clear_dates, 2),
        },
        stac_extensions=[PROCESSING],
    )
    for key, title in (("composite", f"Cloud-free {method}"), ("count", "Clear dates"), ("date", "Date taken")):
        item.add_asset(key, pystac.Asset(f"./{key}.tif", title, None, pystac.MediaType.COG, ["data"]))
    item.add_asset("quicklook", pystac.Asset("./quicklook.png", "Quick-look", None, pystac.MediaType.PNG, ["overview"]))
    content: dict[str, Any] = item.to_dict(include_self_link=False)
    return content
