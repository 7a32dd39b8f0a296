"""Writes small folders of simulated pictures with and without clouds, as PNG and JPEG of various sizes.

File names begin with what is to be seen: ``snow_``, ``sand_``, ``glint_`` and ``salt_`` are the cloud-free pictures
that are easily taken for clouds.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.datasets.samples.sample_files import STATEMENT, write_marker
from cloud_assets.simulation.biomes import VARIED
from cloud_assets.simulation.clouds import CLEAR_SKY, CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.worker_processes import map_in_processes

TITLE = "cloud / non-cloud pictures"
NORMAL, CLOUDY = 150, 70
"""Pictures at scale 1."""
SMALLEST, LARGEST = 256, 512
"""Range of heights and widths in pixels."""
LEAST_CLOUD = 0.15
"""Share of a cloudy picture that is cloud at least."""
MOST_WHITE = 0.8
"""Share of a picture that is saturated at most."""

HARD: dict[str, tuple[str, ...]] = {
    "snow": ("snow field", "snowy land", "thin snow", "snowy mountains", "glacier", "sea ice"),
    "sand": ("sand desert",),
    "glint": ("sun glint",),
    "salt": ("salt flat",),
}
"""Landscapes that look like clouds, by the name that files of them get."""

_HARD_TURNS = ("", "", "snow", "", "", "sand", "", "", "glint", "", "snow", "", "salt", "", "")
_BANDS = ("red", "green", "blue")
_WHITE = 0.4
_EASY = tuple(name for name in VARIED if not any(name in biomes for biomes in HARD.values()))
_SENSOR = SensorRecipe(coarse_chance=0.0, quantisation_chance=0.0, wedge_chance=0.0)


@dataclass(frozen=True)
class _PictureJob:
    """What a worker needs to make one picture."""

    seed: int
    index: int
    folder: Path
    cloudy: bool


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> str:
    """Writes the sample.

    Args:
        folder: An empty folder, the data set's own.
        seed: Same seed, same bytes.
        scale: Size relative to the embedded sample of 150 pictures without and 70 with clouds.
        progress: Whether to show a progress bar.
        workers: Number of processes; None for what the machine has.

    Returns:
        One sentence on what was written.
    """
    normal, cloudy = max(20, round(NORMAL * scale)), max(8, round(CLOUDY * scale))
    for name in ("noncloud", "cloud"):
        (folder / name).mkdir()
    total = normal + cloudy
    jobs = (
        _PictureJob(seed, index, folder / ("noncloud" if index < normal else "cloud"), index >= normal)
        for index in range(total)
    )
    hard = sum(map_in_processes(_write_picture, jobs, total, workers=workers, label=TITLE, progress=progress))
    contents = f"{normal} pictures without clouds ({hard} of snow, sand, glint or salt) and {cloudy} with clouds"
    write_marker(folder, TITLE, f"{contents}; white is a reflectance of 0.4.", seed)
    return contents


def _write_picture(job: _PictureJob) -> bool:
    """Writes one picture; tells whether it is one of the hard cloud-free ones."""
    rng = patch_generator(job.seed, job.index)
    turn = "" if job.cloudy else _HARD_TURNS[job.index % len(_HARD_TURNS)]
    biomes = VARIED if job.cloudy else HARD.get(turn, _EASY)
    recipe = SimulationRecipe(
        ground=GroundRecipe(biomes=biomes),
        clouds=CloudRecipe(none=0) if job.cloudy else CLEAR_SKY,
        sensor=_SENSOR,
        illumination=(0.4, 1.0),
    )
    height, width = (int(length) for length in rng.integers(SMALLEST // 32, LARGEST // 32 + 1, 2) * 32)
    patch = simulate_patch(rng, (height, width), _BANDS, recipe)
    while _is_useless(patch, job.cloudy):
        patch = simulate_patch(rng, (height, width), _BANDS, recipe)
    name = patch.sky if job.cloudy else turn or patch.biome.replace(" ", "_")
    picture = Image.fromarray(np.moveaxis(INSTRUMENTS["rgb_8bit"].to_dn(patch.reflectance), 0, -1))
    path = job.folder / f"{name}_{job.index:03d}"
    if job.index % 5 == 4:
        picture.save(path.with_suffix(".jpg"), quality=92, comment=STATEMENT)
    else:
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", STATEMENT)
        picture.save(path.with_suffix(".png"), pnginfo=note, compress_level=3)
    return bool(turn)


def _is_useless(patch: SimulatedPatch, cloudy: bool) -> bool:
    """Whether a picture shows too little cloud for a cloudy one, or nothing but white."""
    cloud = float(np.isin(patch.mask, (THICK_CLOUD, THIN_CLOUD)).mean())
    return (cloudy and cloud < LEAST_CLOUD) or float((patch.reflectance >= _WHITE).mean()) > MOST_WHITE
