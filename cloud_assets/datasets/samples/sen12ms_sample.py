"""Writes a small SEN12MS: simulated Sentinel-1 and Sentinel-2 patches of the same ground, in the original's archives.

The cloudy archive has the names of SEN12MS-CR: the same places on another date, under clouds.
"""

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.samples.cloudsen12_sample import digital_numbers
from cloud_assets.datasets.samples.sample_writer import write_geotiff
from cloud_assets.simulation.clouds import CLEAR_SKY, CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.radar import POLARISATIONS, simulate_backscatter
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.worker_processes import map_in_processes

TITLE = "SEN12MS"
SCENES = 108
"""Scenes at scale 1. Many small ones: how radar translates into colour differs from place to place, not within one."""
PATCH = 256  # pixels a side of a scene's only patch
SEASON = "ROIs2017_winter"
SENSORS = ("s1", "s2", "s2_cloudy")

_INSTRUMENT = INSTRUMENTS["sentinel2_l1c"]
_BANDS = tuple(band.common_name for band in _INSTRUMENT.bands)
# One season of land with plants and towns. Sand and salt are left out: to radar they are as dark as water, and
# the few pixels where a translation has to guess which of the two it sees would outweigh the rest.
_LAND = GroundRecipe(
    pixel_metres=(10.0, 10.0),
    biomes=("farmland", "dry farmland", "forest", "wetland", "savanna", "city"),
    brightness=(0.9, 1.1),
    spectral_jitter=0.015,
)
_STEADY = SensorRecipe(
    gain_spread=0.005,
    offset_spread=0.001,
    noise=(0.0006, 0.0015),
    blur_chance=0.0,
    coarse_chance=0.0,
    saturation_chance=0.0,
    quantisation_chance=0.0,
    wedge_chance=0.0,
)
_CLEAR = SimulationRecipe(
    ground=_LAND, clouds=CLEAR_SKY, sensor=_STEADY, sun_elevation=(35, 50), illumination=(0.95, 1.05), haze=(0.04, 0.1)
)
_CLOUDY = _CLEAR.model_copy(update={"clouds": CloudRecipe(none=0)})


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> tuple[str, str]:
    """Writes the sample as :func:`~cloud_assets.datasets.samples.sample_writer.write_sample` asks for it."""
    scenes = max(16, round(SCENES * scale))
    with TemporaryDirectory(prefix=".parts-", dir=folder) as parts, ExitStack() as stack:
        archives = {sensor: stack.enter_context(_archive(folder / f"{SEASON}_{sensor}.tar.gz")) for sensor in SENSORS}
        write_one = partial(_write_scene, seed, Path(parts))
        results = map_in_processes(write_one, range(scenes), scenes, workers=workers, label=TITLE, progress=progress)
        for index, files in enumerate(results):
            for sensor, path in files.items():
                member = tarfile.TarInfo(f"{SEASON}/{sensor}_{index + 1}/{path.name}")
                member.size = path.stat().st_size
                with path.open("rb") as stream:
                    archives[sensor].addfile(member, stream)
                path.unlink()
    contents = f"{scenes} pairs of Sentinel-1 and Sentinel-2 patches from {scenes} scenes"
    return contents, f", {PATCH} x {PATCH} pixels of 10 m, and the same places in clouds."


def _write_scene(seed: int, folder: Path, index: int) -> dict[str, Path]:
    rng = patch_generator(seed, index)
    ground = simulate_ground(rng, (PATCH, PATCH), _LAND)
    clear, cloudy = observe(rng, ground, _BANDS, _CLEAR), observe(rng, ground, _BANDS, _CLOUDY)
    pictures = {
        "s1": simulate_backscatter(rng, ground),
        "s2": digital_numbers(clear),
        "s2_cloudy": digital_numbers(cloudy),
    }
    crs = f"EPSG:{32600 + int(rng.integers(1, 61))}"
    west, north = float(rng.integers(30_000, 60_000) * 10), float(rng.integers(100_000, 600_000) * 10)
    place = (10.0, 0.0, west, 0.0, -10.0, north)
    names = {"s1": POLARISATIONS, "s2": _INSTRUMENT.names, "s2_cloudy": _INSTRUMENT.names}
    files = {sensor: folder / f"{SEASON}_{sensor}_{index + 1}_p30.tif" for sensor in SENSORS}
    for sensor, path in files.items():
        pixels = np.ascontiguousarray(pictures[sensor])
        write_geotiff(path, pixels, crs=crs, transform=place, descriptions=names[sensor], compress="deflate")
    return files


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    """A compressed archive whose bytes depend on its members only, not on when it is written."""
    with (
        path.open("wb") as stream,
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        yield archive
