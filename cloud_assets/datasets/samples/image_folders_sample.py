"""Writes small folders of simulated pictures with and without clouds, as PNG and JPEG of various sizes.

File names begin with what is to be seen: ``snow_``, ``sand_``, ``glint_`` and ``salt_`` are the cloud-free pictures
that are easily taken for clouds.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.datasets.samples.sample_writer import STATEMENT
from cloud_assets.simulation.clouds import CLEAR_SKY, CloudRecipe
from cloud_assets.simulation.ground import VARIED, GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.worker_processes import map_in_processes

TITLE = "cloud / non-cloud pictures"
NORMAL, CLOUDY = 150, 70  # pictures at scale 1
SMALLEST, LARGEST = 256, 512  # range of heights and widths in pixels
LEAST_CLOUD = 0.15  # share of a cloudy picture that is cloud at least
MOST_WHITE = 0.8  # share of a picture that is saturated at most

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


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> tuple[str, str]:
    """Writes the sample as :func:`~cloud_assets.datasets.samples.sample_writer.write_sample` asks for it."""
    normal, cloudy = max(20, round(NORMAL * scale)), max(8, round(CLOUDY * scale))
    for name in ("noncloud", "cloud"):
        (folder / name).mkdir()
    total = normal + cloudy
    write_one = partial(_write_picture, seed, folder, normal)
    hard = sum(map_in_processes(write_one, range(total), total, workers=workers, label=TITLE, progress=progress))
    contents = f"{normal} pictures without clouds ({hard} of snow, sand, glint or salt) and {cloudy} with clouds"
    return contents, "; white is a reflectance of 0.4."


def _write_picture(seed: int, folder: Path, normal: int, index: int) -> bool:
    """Writes one picture; tells whether it is one of the hard cloud-free ones."""
    rng, cloudy = patch_generator(seed, index), index >= normal
    turn = "" if cloudy else _HARD_TURNS[index % len(_HARD_TURNS)]
    biomes = VARIED if cloudy else HARD.get(turn, _EASY)
    recipe = SimulationRecipe(
        ground=GroundRecipe(biomes=biomes),
        clouds=CloudRecipe(none=0) if cloudy else CLEAR_SKY,
        sensor=_SENSOR,
        illumination=(0.4, 1.0),
    )
    height, width = (int(length) for length in rng.integers(SMALLEST // 32, LARGEST // 32 + 1, 2) * 32)
    while True:
        patch = simulate_patch(rng, (height, width), _BANDS, recipe)
        cloud = float(np.isin(patch.mask, (THICK_CLOUD, THIN_CLOUD)).mean())
        is_white = float((patch.reflectance >= _WHITE).mean()) > MOST_WHITE
        if not is_white and (cloud >= LEAST_CLOUD or not cloudy):
            break
    name = patch.sky if cloudy else turn or patch.biome.replace(" ", "_")
    picture = Image.fromarray(np.moveaxis(INSTRUMENTS["rgb_8bit"].to_dn(patch.reflectance), 0, -1))
    path = folder / ("cloud" if cloudy else "noncloud") / f"{name}_{index:03d}"
    if index % 5 == 4:
        picture.save(path.with_suffix(".jpg"), quality=92, comment=STATEMENT)
    else:
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", STATEMENT)
        picture.save(path.with_suffix(".png"), pnginfo=note, compress_level=3)
    return bool(turn)
