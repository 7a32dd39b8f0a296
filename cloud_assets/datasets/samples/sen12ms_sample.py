"""Writes a small SEN12MS: simulated Sentinel-1 and Sentinel-2 patches of the same ground, in the original's archives.

The cloudy archive has the names of SEN12MS-CR: the same places on another date, under clouds.
"""

import gzip
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.samples.cloudsen12_sample import digital_numbers
from cloud_assets.datasets.samples.sample_files import write_geotiff, write_marker
from cloud_assets.simulation.clouds import CLEAR_SKY, CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.radar import POLARISATIONS, simulate_backscatter
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.worker_processes import map_in_processes

TITLE = "SEN12MS"
SCENES = 108
"""Scenes at scale 1. Many small ones: how radar translates into colour differs from place to place, not within one."""
ROWS, COLUMNS, PATCH = 1, 1, 256
"""Patches of a scene, and their pixels a side."""
SEASON = "ROIs2017_winter"
SENSORS = ("s1", "s2", "s2_cloudy")

_INSTRUMENT = INSTRUMENTS["sentinel2_l1c"]
_BANDS = tuple(band.common_name for band in _INSTRUMENT.bands)
# One season of land with plants and towns. Sand and salt are left out: to radar they are as dark as water, and
# the few pixels where a translation has to guess which of the two it sees would outweigh the rest.
_GROUND = GroundRecipe(
    pixel_metres=(10.0, 10.0),
    biomes=("farmland", "dry farmland", "forest", "wetland", "savanna", "city"),
    brightness=(0.9, 1.1),
    spectral_jitter=0.015,
)
_STEADY_SENSOR = SensorRecipe(
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
    ground=_GROUND,
    clouds=CLEAR_SKY,
    sensor=_STEADY_SENSOR,
    sun_elevation=(35, 50),
    illumination=(0.95, 1.05),
    haze=(0.04, 0.1),
)
_CLOUDY = _CLEAR.model_copy(update={"clouds": CloudRecipe(none=0)})


@dataclass(frozen=True)
class _SceneJob:
    """What a worker needs to make one scene."""

    seed: int
    index: int
    folder: Path


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> str:
    """Writes the sample.

    Args:
        folder: An empty folder, the data set's own.
        seed: Same seed, same bytes.
        scale: Size relative to the embedded sample of 108 scenes of one patch.
        progress: Whether to show a progress bar.
        workers: Number of processes; None for what the machine has.

    Returns:
        One sentence on what was written.
    """
    scenes = max(16, round(SCENES * scale))
    parts = Path(tempfile.mkdtemp(prefix=".parts-", dir=folder))
    try:
        with ExitStack() as stack:
            archives = {
                sensor: stack.enter_context(_archive(folder / f"{SEASON}_{sensor}.tar.gz")) for sensor in SENSORS
            }
            jobs = (_SceneJob(seed, index, parts) for index in range(scenes))
            results = map_in_processes(_write_scene, jobs, scenes, workers=workers, label=TITLE, progress=progress)
            for files in results:
                for sensor, path in files:
                    _add(archives[sensor], path, f"{SEASON}/{sensor}_{_scene_of(path)}/{path.name}")
                    path.unlink()
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    contents = f"{scenes * ROWS * COLUMNS} pairs of Sentinel-1 and Sentinel-2 patches from {scenes} scenes"
    write_marker(
        folder, TITLE, f"{contents}, {PATCH} x {PATCH} pixels of 10 m, and the same places under clouds.", seed
    )
    return contents


def _write_scene(job: _SceneJob) -> list[tuple[str, Path]]:
    rng = patch_generator(job.seed, job.index)
    ground = simulate_ground(rng, (ROWS * PATCH, COLUMNS * PATCH), _GROUND)
    clear, cloudy = observe(rng, ground, _BANDS, _CLEAR), observe(rng, ground, _BANDS, _CLOUDY)
    pictures = {
        "s1": simulate_backscatter(rng, ground),
        "s2": digital_numbers(clear),
        "s2_cloudy": digital_numbers(cloudy),
    }
    crs = f"EPSG:{32600 + int(rng.integers(1, 61))}"
    west, north = float(rng.integers(30_000, 60_000) * 10), float(rng.integers(100_000, 600_000) * 10)
    names = {"s1": POLARISATIONS, "s2": _INSTRUMENT.names, "s2_cloudy": _INSTRUMENT.names}
    files = []
    for index in range(ROWS * COLUMNS):
        row, column = divmod(index, COLUMNS)
        window = np.s_[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        place = (10.0, 0.0, west + column * PATCH * 10, 0.0, -10.0, north - row * PATCH * 10)
        for sensor in SENSORS:
            path = job.folder / f"{SEASON}_{sensor}_{job.index + 1}_p{30 + index}.tif"
            pixels = np.ascontiguousarray(pictures[sensor][window])
            write_geotiff(path, pixels, crs=crs, transform=place, descriptions=names[sensor], compress="deflate")
            files.append((sensor, path))
    return files


def _scene_of(path: Path) -> str:
    return path.stem.rsplit("_", 2)[1]


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    """A compressed archive whose bytes depend on its members only, not on when it is written."""
    with (
        path.open("wb") as stream,
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        yield archive


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = path.stat().st_size
    with path.open("rb") as stream:
        archive.addfile(member, stream)
