"""Cloud shadows without and with the check against the sun, on simulated scenes whose truth is known.

    python benchmarks/shadow_geometry.py [--model simulation] [--scenes 24] [--side 1024] [--pictures FOLDER]

Scenes of 30 m pixels, a third of them without a cloud. The sun and the heights of the clouds are the simulation's; the
check (:mod:`cloud_assets.families.segmentation.shadow_geometry`) knows the sun and nothing of the clouds but the mask.
``--pictures`` writes for each scene in which something changed: the scene, the mask before, the mask after (doubted
shadows red), the truth.
"""

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud_assets import load_model, predict_array
from cloud_assets.bands import CLOUD_SHADOW, INSTRUMENTS, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.segmentation.products import MASK_COLOURS
from cloud_assets.families.segmentation.shadow_geometry import ShadowGeometry
from cloud_assets.imagery.geometry import SunPosition
from cloud_assets.imagery.tiling import Window
from cloud_assets.simulation.clouds import CLEAR_SKY, SHAPES, CloudRecipe, draw_sun
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.sensor import SensorRecipe

BANDS = ("red", "green", "blue", "nir")
METRES = 30.0
SEED = 2012
SENSOR = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)
SCATTERED = CloudRecipe(**dict.fromkeys(("none", *SHAPES), 0.0) | {"cumulus": 2.0, "broken": 1.0, "mixed": 1.0})
SKIES = {"no cloud": CLEAR_SKY, "scattered": SCATTERED, "any sky with cloud": CloudRecipe(none=0)}
PROFILE = INSTRUMENTS["landsat8_toa"]
DOUBTED = (220, 40, 40)


def main() -> None:
    """Simulates, masks, checks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    counts = {sky: np.zeros((2, 3), np.int64) for sky in SKIES}
    for number in range(options.scenes):
        sky = list(SKIES)[number % len(SKIES)]
        patch, sun = simulated(number, options.side, SKIES[sky])
        before = predict_array(model, PROFILE.to_dn(patch.reflectance), BANDS, instrument=PROFILE.name)["mask"]
        after = checked(before, sun)
        for row, mask in enumerate((before, after)):
            found, there = mask == CLOUD_SHADOW, patch.mask == CLOUD_SHADOW
            found &= patch.mask != UNLABELLED
            counts[sky][row] += [(found & there).sum(), found.sum(), there.sum()]
        if options.pictures is not None and (before != after).any():
            write_picture(options.pictures / f"{number:02}.png", patch, before, after)
    print("sky", "shadow, % of pixels", "precision before", "after", "recall before", "after", sep=" | ")
    pixels = options.side**2 * len(range(options.scenes)) / len(SKIES)
    for sky, rows in {**counts, "all": sum(counts.values())}.items():
        (hit, found, there), (hit_after, found_after, _) = rows
        share = 100 * there / (pixels * (len(SKIES) if sky == "all" else 1))
        cells = [ratio(hit, found), ratio(hit_after, found_after), ratio(hit, there), ratio(hit_after, there)]
        print(sky, f"{share:.1f}", *cells, sep=" | ")
        print(f"  wrong shadow pixels {found - hit} -> {found_after - hit_after}, lost right ones {hit - hit_after}")


def simulated(number: int, side: int, clouds: CloudRecipe) -> tuple[SimulatedPatch, SunPosition]:
    """A scene, and the sun that it was seen under."""
    ground = GroundRecipe(pixel_metres=(METRES, METRES))
    recipe = SimulationRecipe(ground=ground, clouds=clouds, sensor=SENSOR, illumination=(1, 1))
    rng = patch_generator(SEED, number)
    drawn = simulate_ground(rng, (side, side), recipe.ground)
    # The sun is what an observation draws first.
    sun = draw_sun(copy.deepcopy(rng), recipe.sun_elevation, recipe.ozone)
    east, north = -math.cos(sun.azimuth), math.sin(sun.azimuth)
    position = SunPosition(math.degrees(math.atan2(east, north)) % 360, math.degrees(sun.elevation))
    return observe(rng, drawn, BANDS, recipe), position


def checked(mask: npt.NDArray[np.uint8], sun: SunPosition) -> npt.NDArray[np.uint8]:
    """The mask of a scene in the middle of a zone of the UTM projection, after the check."""
    height, width = mask.shape
    geometry = ShadowGeometry(Grid(height, width, "EPSG:32633", (METRES, 0, 500_000, 0, -METRES, 4_600_000)), sun)
    whole = Window(0, 0, height, width)
    geometry.add(whole, mask)
    return geometry.cleared(whole, mask)


def ratio(part: int, whole: int) -> str:
    """A share, as text."""
    return f"{part / whole:.3f}" if whole else "-"


def write_picture(
    path: Path, patch: SimulatedPatch, before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]
) -> None:
    """Scene, mask before and after, truth, side by side."""
    from PIL import Image

    colours = np.zeros((256, 3), np.uint8)
    for code, colour in MASK_COLOURS.items():
        colours[code] = colour[:3]
    scene = (255 * np.clip(np.moveaxis(patch.reflectance[:3], 0, -1) / 0.5, 0, 1) ** 0.7).astype(np.uint8)
    changed = colours[after]
    changed[before != after] = DOUBTED
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([scene, colours[before], changed, colours[patch.mask]], axis=1)).save(path)


if __name__ == "__main__":
    main()
