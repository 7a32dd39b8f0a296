"""Level 1 of Landsat under a low sun: masks without and with the correction for the height of the sun.

    python benchmarks/sun_angle.py [--model simulation] [--scenes 6] [--size 512]

The same simulated ground and sky, seen with the sun at several heights. Level 1 states reflectance as if the sun stood
overhead, so a scene gets darker as the sun gets lower; a reader that knows the elevation divides by its sine.
"""

import argparse

import numpy as np

from cloud_assets import load_model, predict_array
from cloud_assets.bands import INSTRUMENTS
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe

BANDS = ("red", "green", "blue", "nir")
ELEVATIONS = (60.0, 30.0, 15.0, 7.0)
PLAIN = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)


def main() -> None:
    """Simulates, predicts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    model = load_model(options.model)
    print("sun", "truth, % cloud", "found before", "IoU before", "found after", "IoU after", "thin found", sep=" | ")
    for elevation in ELEVATIONS:
        recipe = SimulationRecipe(
            clouds=CloudRecipe(none=0),
            sensor=PLAIN,
            sun_elevation=(elevation, elevation),
            illumination=(1, 1),
            haze=(0.05, 0.15),
        )
        counts = np.zeros((2, 4))
        for number in range(options.scenes):
            patch = simulate_patch(patch_generator(77, number), options.size, BANDS, recipe)
            is_cloud = np.isin(patch.mask, (1, 2))
            sine = np.sin(np.radians(elevation))
            # What the product holds, and the same numbers after the correction, with the product's steps.
            stored = INSTRUMENTS["landsat8_l1"].to_dn(patch.reflectance * sine)
            corrected = INSTRUMENTS["landsat8_toa"].to_dn(INSTRUMENTS["landsat8_l1"].to_physical(stored) / sine)
            for row, (dn, name) in enumerate(((stored, "landsat8_l1"), (corrected, "landsat8_toa"))):
                answer = predict_array(model, dn, BANDS, instrument=name, options=SceneOptions())
                found = np.isin(answer["mask"], (1, 2))
                thin = patch.mask == 2
                counts[row] += [(found & is_cloud).sum(), (found | is_cloud).sum(), found.sum(), (found & thin).sum()]
            if number == 0:
                total = thin_total = truth = 0
            total, thin_total, truth = total + is_cloud.size, thin_total + thin.sum(), truth + is_cloud.sum()
        cells = [f"{100 * truth / total:.1f}"]
        for both, either, found_pixels, _ in counts:
            cells += [f"{100 * found_pixels / total:.1f}", f"{both / either:.3f}"]
        cells.append(" -> ".join(f"{100 * thin_found / thin_total:.1f} %" for *_, thin_found in counts))
        print(f"{elevation:g} degrees", *cells, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
