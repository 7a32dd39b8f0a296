"""A scene and its products as layers of a map in the browser, for this machine only.

The page takes names and classes from the STAC item. Tiles and values are read from the Cloud-Optimised GeoTIFFs and the
scene itself, by row and column, so that scenes without a place on Earth show as well.
"""

import math
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import AlreadyRunning, CloudAssetsError, InvalidScene
from cloud_assets.imagery.formats.geotiff import open_geotiff
from cloud_assets.imagery.formats.names import is_address
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling import Window
from cloud_assets.imagery.writing import LONGEST_SIDE, Picture, pictured_bands, png, ramped, shaded
from cloud_assets.reports.report import PAGE_FILE
from cloud_assets.scenes.product_record import STAC_FILE, SceneProducts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
_TILE = 256
_Box = tuple[tuple[float, float], tuple[float, float]]  # first and last edge of rows, then of columns
_Values = np.ma.MaskedArray[Any, np.dtype[Any]]  # (bands, H, W), masked where nothing was observed


class _Scene:
    """A scene, or a product that is one: the cloud-free estimate, a composite."""

    range = None

    def __init__(self, source: SceneSource) -> None:
        self.grid, self.instrument, self._profile = source.grid, source.instrument, source.profile
        self.names = pictured_bands(source)
        self._reader, self._lock = source.open(self.names), Lock()

    def read(self, box: _Box, shape: tuple[int, int]) -> _Values:
        (top, bottom), (left, right) = ((round(first), round(last)) for first, last in box)
        window = Window(top, left, max(1, bottom - top), max(1, right - left))
        with self._lock:  # a reader belongs to one thread at a time
            dn = self._reader.scaled(window.inside(self.grid.height, self.grid.width), shape)
        hidden = np.broadcast_to(~self._profile.valid(dn), dn.shape)
        return np.ma.MaskedArray(self._profile.to_physical(dn), hidden)

    def picture(self, values: _Values) -> Picture:
        return shaded(values.data, ~np.ma.getmaskarray(values)[0], is_radar=self._profile.unit == "dB")


class _Product:
    """A raster of codes with a colour table, of one or two measurements, or of predicted reflectance."""

    def __init__(self, path: Path) -> None:
        import rasterio

        self._path = path
        with rasterio.open(path) as raster:
            crs = raster.crs.to_string() if raster.crs else None
            self.grid = Grid(raster.height, raster.width, crs, raster.transform[:6])
            self.instrument = raster.tags().get("CLOUD_ASSETS_INSTRUMENT")
            self.names = [name or f"band {index}" for index, name in enumerate(raster.descriptions, start=1)]
            is_coded = raster.colorinterp[0].name == "palette"
            self._table = np.array([raster.colormap(1)[code] for code in range(256)]) if is_coded else None
            side = min(LONGEST_SIDE, max(raster.shape))
            seen = raster.read(raster.count, out_shape=(side, side), masked=True).compressed()
            is_percentage = "percent" in f"{raster.units[-1]} {self.names[-1]}"
        low, high = (0, 100) if is_percentage or not seen.size else np.percentile(seen, (2, 98)).tolist()
        # Shown darkest and brightest, where a colour stands for a measurement.
        self.range = (low, high) if self._table is None and len(self.names) < 3 else None

    def read(self, box: _Box, shape: tuple[int, int]) -> _Values:
        import rasterio

        with rasterio.open(self._path) as raster:
            values: _Values = raster.read(window=box, out_shape=(raster.count, *shape), masked=True)
        return values

    def picture(self, values: _Values) -> Picture:
        seen = np.asarray(~np.ma.getmaskarray(values).all(axis=0))
        if self._table is not None:
            return np.moveaxis(np.where(seen[..., None], self._table[values.data[0]], 0), -1, 0).astype(np.uint8)
        return ramped(values.data[-1], seen, *self.range) if self.range else shaded(values.data[:3], seen)


def _layers(folder: Path) -> dict[str, _Scene | _Product]:
    if not (folder / STAC_FILE).is_file() or not any(folder.glob("*.tif")):
        shown = {path.parent.name for name in (PAGE_FILE, "*.tif") for path in folder.glob(f"*/{name}")}
        inside = ", ".join(sorted(shown)[:5]) or "none"
        raise InvalidScene(f"{folder} holds neither products nor a report: name another (inside of it: {inside}).")
    layers: dict[str, _Scene | _Product] = {}
    for path in sorted(folder.glob("*.tif")):
        try:
            layers[path.stem] = _Scene(open_geotiff(path))
        except CloudAssetsError:  # no band of an instrument
            layers[path.stem] = _Product(path)
    with suppress(CloudAssetsError):  # moved, or described by hand: the page shows the quick-look
        source = SceneProducts.open(folder).source
        # Metadata tell the instrument of the agencies' products; of a raster file, the user may have.
        instrument = next(iter(layers.values())).instrument if source.lower().endswith((".tif", ".tiff")) else None
        if not is_address(source):
            layers["scene"] = _Scene(open_scene(Path(source), instrument=instrument))
    return layers


def viewer(folder: Path) -> "Starlette":
    """The web application that shows a scene's products, a composite, or the page of a report.

    Raises:
        InvalidScene: If the folder holds neither.
    """
    from rasterio import Affine
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    # A page of the web whose host name was made to lead to this machine is refused.
    guard = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]
    if (page := folder / PAGE_FILE).is_file():
        return Starlette(routes=[Route("/", lambda _: FileResponse(page))], middleware=guard)
    layers = _layers(folder)
    # As the page finds it: products may have coarser cells, the scene finer pixels.
    grid = max((layers[name].grid for name in layers if name != "scene"), key=lambda one: one.height * one.width)

    def own(layer: _Scene | _Product, rows: tuple[float, float], columns: tuple[float, float]) -> _Box:
        to_own = ~Affine(*layer.grid.transform) * Affine(*grid.transform)
        (left, top), (right, bottom) = (to_own * corner for corner in zip(columns, rows, strict=True))
        return (top, bottom), (left, right)

    def tile(request: "Request") -> "Response":
        place, layer = request.path_params, layers.get(request.path_params["layer"])
        step = 2 ** min(place["level"], 30)
        top, left = place["row"] * _TILE * step, place["column"] * _TILE * step
        bottom, right = min(top + _TILE * step, grid.height), min(left + _TILE * step, grid.width)
        if layer is None or bottom <= top or right <= left:
            return Response(status_code=404)
        height, width = math.ceil((bottom - top) / step), math.ceil((right - left) / step)
        picture = np.zeros((4, _TILE, _TILE), np.uint8)
        values = layer.read(own(layer, (top, bottom), (left, right)), (height, width))
        picture[:, :height, :width] = layer.picture(values)
        return Response(png(picture), media_type="image/png")

    def values(request: "Request") -> "Response":
        row, column = request.path_params["row"], request.path_params["column"]
        if row >= grid.height or column >= grid.width:
            return Response(status_code=404)
        found = {}
        for name, layer in layers.items():
            pixel = layer.read(own(layer, (row, row + 1), (column, column + 1)), (1, 1))[:, 0, 0].tolist()
            found[name] = list(zip(layer.names, pixel, strict=True))
        return JSONResponse(found)

    about = {"layers": {name: layer.range for name, layer in layers.items()}, **asdict(grid)}
    routes = [
        Route("/layers", lambda _: JSONResponse(about)),
        Route("/values/{row:int}/{column:int}", values),
        Route("/tiles/{layer}/{level:int}/{row:int}/{column:int}", tile),
        Mount("/files", StaticFiles(directory=folder)),
        Mount("/", StaticFiles(directory=Path(__file__).parent / "viewer_page", html=True)),
    ]
    return Starlette(routes=routes, middleware=guard)


def serve(folder: Path, port: int, say: Callable[[str], None], *, opens: bool) -> None:
    """Serves the viewer until it is interrupted; port 0 takes one that is free, ``say`` is told the address.

    Raises:
        InvalidScene: If the folder holds no products.
        AlreadyRunning: If the port is taken.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(viewer(folder), log_level="warning"))
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise AlreadyRunning(f"port {port} of {HOST} is taken ({error}). Choose another: --port 0.") from error
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    say(address)
    if opens:
        webbrowser.open(address)
    server.run(sockets=[listener])
