"""Clouds that are too bright for the detectors of Landsat 4 to 7: masks without and with completed pixels.

    python benchmarks/saturated_clouds.py [--scenes 24] [--side 256]

Simulated scenes whose red, green and blue end at a reflectance of 0.55, 0.5 and 0.38 and near infrared at 0.9, masked
by the model that comes with the package: as if nothing ended, as the detectors end, and with
:mod:`cloud_assets.imagery.saturation`, which is what ``predict`` does.
"""

import argparse

import numpy as np
import numpy.typing as npt

from cloud_assets import load_model
from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.imagery.saturation import Saturation
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe

COLOURS, NAMES = ("red", "green", "blue", "nir"), ("B3", "B2", "B1", "B4")
ENDS = np.array([0.55, 0.5, 0.38, 0.9])[:, None, None]
PROFILE = INSTRUMENTS["landsat_tm_toa"]
SEED = 77
LEAST_CLOUD = 0.05
WAYS = ("never saturated", "saturated", "completed")


def main() -> None:
    """Simulates, masks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    sensor = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)
    recipe = SimulationRecipe(clouds=CloudRecipe(none=0), sensor=sensor)
    model = load_model("simulation")
    print("scene", "saturated, %", *(f"IoU, {way}" for way in WAYS), sep=" | ")
    rows = []
    for number in range(options.scenes):
        patch = simulate_patch(patch_generator(number, SEED), options.side, COLOURS, recipe)
        reflectance, cloud = np.clip(patch.reflectance, 0.01, 1.2), _is_cloud(patch.mask)
        if cloud.mean() < LEAST_CLOUD:
            continue
        ended = PROFILE.to_dn(np.minimum(reflectance, ENDS))
        saturation = Saturation.of(ended, PROFILE, NAMES)
        seen = (PROFILE.to_dn(reflectance), ended, ended if saturation is None else saturation.completed(ended))
        found = _is_cloud(model.predict(np.stack(seen))["mask"])
        scores = [float((one & cloud).sum() / (one | cloud).sum()) for one in found]
        share = 100 * float((reflectance >= ENDS).any(axis=0).mean())
        rows.append(scores)
        print(number, f"{share:.0f}", *(f"{score:.3f}" for score in scores), sep=" | ", flush=True)
    print("mean", "", *(f"{score:.3f}" for score in np.mean(rows, axis=0)), sep=" | ")


def _is_cloud(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.isin(mask, (THICK_CLOUD, THIN_CLOUD))


if __name__ == "__main__":
    main()
