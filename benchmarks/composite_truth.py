"""Cloud-free composites of simulated dates against the ground without clouds, beside the plain median of all pixels.

    python benchmarks/composite_truth.py [--model simulation] [--dates 5] [--size 512] [--out FOLDER]

One piece of simulated ground is seen on several dates, each with its own sky; the truth is the same ground under the
same air without clouds. Pixels that no date shows clear (by the masks) are nodata in the composite and left out of its
error; the plain median has no such gaps. Writes the scenes, the composites and a picture into FOLDER.
"""

import argparse
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from cloud_assets import load_model, predict_scene
from cloud_assets.bands import INSTRUMENTS
from cloud_assets.imagery.formats.geotiff import open_geotiff
from cloud_assets.scenes.composite import METHODS, Observation, make_composite
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.simulation.clouds import CLEAR_SKY, CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.sensor import SensorRecipe

BANDS = ("red", "green", "blue", "nir")
INSTRUMENT = "landsat8_toa"
SENSOR = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0, blur_chance=0)
AIR = {"sensor": SENSOR, "haze": (0.05, 0.06), "sun_elevation": (45.0, 50.0), "illumination": (1, 1)}
SKIES = CloudRecipe(none=0.1, overcast=0, stratus=0.05)
BIOMES = ("farmland", "forest", "coast", "city", "savanna")


def main() -> None:
    """Simulates, composes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--dates", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("composite_truth"))
    options = parser.parse_args()
    model = load_model(options.model)
    print("landscape", "rule", "covered", "RMSE", "95th percentile of the error", sep=" | ")
    for number, biome in enumerate(BIOMES):
        folder = options.out / biome
        recipe = GroundRecipe(biomes=(biome,), pixel_metres=(30.0, 30.0))
        ground = simulate_ground(patch_generator(31, number), (options.size, options.size), recipe)
        clear = SimulationRecipe(clouds=CLEAR_SKY, **AIR)
        truth = observe(patch_generator(41, number), ground, BANDS, clear).reflectance
        observations, seen = [], []
        for day in range(options.dates):
            rng = patch_generator(51, 100 * number + day)
            patch = observe(rng, ground, BANDS, SimulationRecipe(clouds=SKIES, **AIR))
            taken = date(2024, 5, 1) + timedelta(days=16 * day)
            path = _write(folder / f"scene_{taken:%Y%m%d}.tif", INSTRUMENTS[INSTRUMENT].to_dn(patch.reflectance))
            made = predict_scene(
                model, path, folder / "products", SceneOptions(products=("mask", "validity")), instrument=INSTRUMENT
            )
            observations.append(Observation(open_geotiff(path, instrument=INSTRUMENT), made.paths["validity"]))
            seen.append(patch.reflectance)
        plain = np.median(np.stack(seen), axis=0)
        _print(biome, "plain median", plain, truth, np.ones(truth.shape[1:], bool))
        panels = [seen[0], plain]
        for method in METHODS:
            make_composite(observations, folder / method, method=method, bands=BANDS)
            with rasterio.open(folder / method / "composite.tif") as raster:
                dn = raster.read()
            values = INSTRUMENTS[INSTRUMENT].to_physical(dn)
            _print(biome, f"clear {method}", values, truth, (dn != 0).all(axis=0))
            panels += [np.where(dn != 0, values, 0)] if method == "median" else []
        picture = np.concatenate([np.clip(one[:3] / 0.3, 0, 1) for one in (*panels, truth)], axis=2)
        Image.fromarray((255 * picture.transpose(1, 2, 0) ** 0.7).astype(np.uint8)).save(folder / "panels.png")


def _write(path: Path, dn: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 500_000, 0, -30, 4_600_000)}
    size = {"count": len(dn), "height": dn.shape[1], "width": dn.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=dn.dtype, nodata=0, **size, **place) as raster:
        raster.write(dn)
        raster.descriptions = BANDS
    return path


def _print(biome: str, rule: str, found: np.ndarray, truth: np.ndarray, there: np.ndarray) -> None:
    error = np.abs(found - truth)[:, there]
    numbers = f"{100 * there.mean():.1f} %", f"{np.sqrt((error**2).mean()):.4f}", f"{np.percentile(error, 95):.4f}"
    print(biome, rule, *numbers, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
