"""Cloud shadows without and with the check against the sun, on simulated scenes whose truth is known.

    python benchmarks/shadow_geometry.py [--model simulation|truth] [--scenes 12] [--side 1024] [--pictures FOLDER]

Scenes of 30 m pixels, a third of them without a cloud, a third with clouds on the left half only. The sun and the
heights of the clouds are the simulation's; the check (:mod:`cloud_assets.families.segmentation.shadow_geometry`) knows
the sun, and of the clouds the mask alone. Two masks are checked: the model's (without test-time augmentation), and the
same clouds with every dark pixel beside them as shadow: what the check is worth where water is taken for shadow. With
``--model truth`` the clouds are the simulation's own, and the latter mask alone is checked.
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
from cloud_assets.bands import CLEAR, CLOUD_SHADOW, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.scene import Grid
from cloud_assets.families.segmentation.products import MASK_COLOURS
from cloud_assets.families.segmentation.shadow_geometry import ShadowGeometry
from cloud_assets.imagery.geometry import SunPosition
from cloud_assets.imagery.tiling import Window
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.simulation.clouds import CLEAR_SKY, SHAPES, CloudRecipe, draw_sun
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.sensor import SensorRecipe

BANDS = ("red", "green", "blue", "nir")
METRES = 30.0
SEED = 2012
SENSOR = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)
SCATTERED = CloudRecipe(**dict.fromkeys(("none", *SHAPES), 0.0) | {"cumulus": 2.0, "broken": 1.0, "mixed": 1.0})
SKIES = {"no cloud": CLEAR_SKY, "clouds all over": SCATTERED, "clouds over one half": SCATTERED}
PROFILE = INSTRUMENTS["landsat8_toa"]
OPTIONS = SceneOptions(test_time_augmentation=False)
RULES = ("the model", "darkness")
DARK = 0.1
"""Reflectance in the near infrared below which a pixel is dark."""
DOUBTED = (220, 40, 40)


def main() -> None:
    """Simulates, masks, checks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    model = None if options.model == "truth" else load_model(options.model)
    rules = RULES if model else RULES[1:]
    counts = {(rule, sky): np.zeros((2, 3), np.int64) for rule in rules for sky in SKIES}
    for number in range(options.scenes):
        sky = list(SKIES)[number % len(SKIES)]
        patch, sun = simulated(number, options.side, sky)
        dn = PROFILE.to_dn(patch.reflectance)
        mask = patch.mask
        if model:
            mask = predict_array(model, dn, BANDS, instrument=PROFILE.name, options=OPTIONS)["mask"]
        is_dark = (patch.reflectance[3] < DARK) & ~np.isin(mask, (THICK_CLOUD, THIN_CLOUD, UNLABELLED))
        for rule in rules:
            before = mask if rule == RULES[0] else with_shadow(mask, is_dark)
            after = checked(before, sun)
            for row, one in enumerate((before, after)):
                found, there = one == CLOUD_SHADOW, patch.mask == CLOUD_SHADOW
                counts[rule, sky][row] += [(found & there).sum(), found.sum(), there.sum()]
            if options.pictures is not None and (before != after).any():
                write_picture(options.pictures / f"{number:02}_{RULES.index(rule)}.png", patch, before, after)
    print(
        "shadow by",
        "sky",
        "precision before",
        "after",
        "recall before",
        "after",
        "wrong pixels before",
        "after",
        sep=" | ",
    )
    for (rule, sky), ((hit, found, there), (hit_after, found_after, _)) in counts.items():
        shares = [ratio(hit, found), ratio(hit_after, found_after), ratio(hit, there), ratio(hit_after, there)]
        print(rule, sky, *shares, found - hit, found_after - hit_after, sep=" | ")


def with_shadow(mask: npt.NDArray[np.uint8], is_shadow: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The clouds of a mask, and other shadows than its own."""
    clouds = np.where(mask == CLOUD_SHADOW, np.uint8(CLEAR), mask)
    return np.where(is_shadow, np.uint8(CLOUD_SHADOW), clouds)


def simulated(number: int, side: int, sky: str) -> tuple[SimulatedPatch, SunPosition]:
    """A scene, and the sun that it was seen under."""
    rng = patch_generator(SEED, number)
    drawn = simulate_ground(rng, (side, side), GroundRecipe(pixel_metres=(METRES, METRES)))
    cloudy, clear = (
        SimulationRecipe(clouds=clouds, sensor=SENSOR, illumination=(1, 1)) for clouds in (SKIES[sky], CLEAR_SKY)
    )
    # The sun is what an observation draws first, ground and haze are seen alike under both skies.
    sun = draw_sun(copy.deepcopy(rng), cloudy.sun_elevation, cloudy.ozone)
    patch, without = observe(copy.deepcopy(rng), drawn, BANDS, cloudy), observe(rng, drawn, BANDS, clear)
    if sky == "clouds over one half":
        patch.reflectance[..., side // 2 :] = without.reflectance[..., side // 2 :]
        patch.mask[:, side // 2 :] = without.mask[:, side // 2 :]
    east, north = -math.cos(sun.azimuth), math.sin(sun.azimuth)
    return patch, SunPosition(math.degrees(math.atan2(east, north)) % 360, math.degrees(sun.elevation))


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
