"""Which share of the pixels is called cloud, by the optical depth of the cloud above them, seen by real instruments.

    python benchmarks/detection_by_depth.py [--model simulation] [--scenes 32] [--side 256] [--figure FILE]

The same simulated ground and skies are looked at by Landsat 5 TM, Landsat 7 ETM+, Landsat 8/9 OLI (30 m) and, on 10 m
pixels, Sentinel-2 MSI, with the detectors of ``cloud_assets/simulation/instruments.csv``: 8, 8, 12 or 14
and 12 bits, saturation by band and height of the sun, noise, point spread. Four rules: the model at its three operating
points (one pass without test-time augmentation; masks grow by the outline that a point names), a threshold on the mean
of red, green and blue, chosen on other simulated scenes of the same instrument, and ukis-csmask where it is installed.

Printed are percentages called cloud by optical depth over ground without snow and ice, and of cloudless pixels; and the
optical depth from which half of the pixels are called cloud.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mask_scoring import UkisMask

from cloud_assets import load_model, predict_array
from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD
from cloud_assets.families.segmentation.recipe import SegmentationSection
from cloud_assets.imagery.geometry import grow
from cloud_assets.patches.store import Role
from cloud_assets.reports.figures import drawing, png
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import Model
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import InstrumentName, SensorRecipe
from cloud_assets.simulation.spectra import SURFACE_NAMES
from cloud_assets.storage import atomic_file

BANDS = ("red", "green", "blue", "nir")
SEED, FITTING_SEED, FITTING_SCENES = 2410, 2411, 32
SENSORS: Mapping[InstrumentName, tuple[str, str, float]] = {
    "landsat_tm": ("Landsat 5 TM", "landsat_tm_toa", 30.0),
    "landsat_etm": ("Landsat 7 ETM+", "landsat_etm_toa", 30.0),
    "landsat_oli": ("Landsat 8/9 OLI", "landsat8_toa", 30.0),
    "sentinel2_msi": ("Sentinel-2 MSI", "sentinel2_l1c", 10.0),
}
"""What people call them, the products' numbers, metres a pixel."""
EDGES = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, np.inf])
"""Optical depths between which pixels are counted together, where there is neither snow nor ice."""
MIDDLES = np.sqrt(np.maximum(EDGES[:-1], 0.025) * np.minimum(EDGES[1:], 51.2))
FIRST = 2
"""Before the intervals: cloudless ground, cloudless snow and ice. After them: cloud over snow and ice."""
BINS = FIRST + len(EDGES)
WHITE = [index for index, name in enumerate(SURFACE_NAMES) if {"snow", "ice"} & set(name.replace("_", " ").split())]
LABELLED_FROM = (0.05 / 0.95 * 3.0, 0.05 / 0.95 * 9.0)
"""Optical depth from which the simulation's labels say cloud: a layer that reflects 0.05, see ``CloudRecipe``."""
CURVES = {
    "sensitive": ("#2b6cb0", ":"),
    "balanced": ("#2b6cb0", "-"),
    "strict": ("#2b6cb0", "--"),
    "ukis-csmask": ("#c05621", "-"),
    "brightness threshold": ("#718096", "-"),
}
Counts = npt.NDArray[np.int64]
Masks = dict[str, npt.NDArray[np.bool_]]


def main() -> None:
    """Simulates, masks, counts, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="simulation")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--figure", type=Path, help="PNG file with the curves")
    options = parser.parse_args()
    model = load_model(options.model)
    counts: dict[tuple[str, str], Counts] = defaultdict(lambda: np.zeros((2, BINS), np.int64))
    for sensor, (title, instrument, metres) in SENSORS.items():
        role = Role(bands=BANDS, instrument=instrument, nodata=0, dtype="uint16", shape=(4, options.side, options.side))
        brightness = fitted_threshold(sensor, options.side)
        for number in range(options.scenes):
            patch, dn = seen_by(sensor, SEED, number, options.side)
            masks = masks_of_model(model, dn, instrument, metres)
            masks["brightness threshold"] = visible(instrument, dn) >= brightness
            if (ukis := UkisMask.fitting(role)) is not None:
                masks["ukis-csmask"] = np.isin(ukis.mask(dn[None])[0], (THICK_CLOUD, THIN_CLOUD))
            bins = np.digitize(patch.cloud_optical_depth, EDGES[1:]) + FIRST
            is_white = np.isin(patch.land_cover, WHITE)
            is_cloudless = patch.cloud_optical_depth == 0
            bins = np.where(
                is_white, np.where(is_cloudless, 1, FIRST + len(EDGES) - 1), np.where(is_cloudless, 0, bins)
            )
            for rule, mask in masks.items():
                chosen = (mask, np.ones_like(mask))
                counts[title, rule] += [np.bincount(bins[one], minlength=BINS) for one in chosen]
        print(f"{title}: brightness threshold {brightness:.2f}", flush=True)
    spans = [f"{low:g}-{high:g}" if np.isfinite(high) else f"> {low:g}" for low, high in pairwise(EDGES)]
    white = ("cloudless snow, ice", "cloud over snow, ice")
    print("instrument", "rule", "half found from", "cloudless", white[0], *spans, white[1], sep=" | ")
    for title, rule in ordered(counts):
        cells = [f"{100 * share:.0f}" for share in shares(counts[title, rule])]
        print(title, rule, half_found(counts[title, rule]), *cells, sep=" | ")
    if options.figure is not None:
        with atomic_file(options.figure) as path:
            path.write_bytes(figure(counts))


def seen_by(sensor: InstrumentName, seed: int, number: int, side: int) -> tuple[SimulatedPatch, npt.NDArray[np.uint16]]:
    """A cloudy scene through an instrument, and its digital numbers; the landscapes and skies are those of a seed."""
    _, instrument, metres = SENSORS[sensor]
    recipe = SimulationRecipe(
        ground=GroundRecipe(pixel_metres=(metres, metres)),
        clouds=CloudRecipe(none=0, strength=(0.15, 2.2)),
        # The point spread leaves 0.15 to 0.4 of the contrast of stripes of one pixel; of Sentinel-2 0.15 to 0.3 are
        # required.
        sensor=SensorRecipe(instruments=(sensor,), blur_chance=1, blur=(0.55, 0.65), wedge_chance=0),
        illumination=(1, 1),
    )
    patch = simulate_patch(patch_generator(seed, number), side, BANDS, recipe)
    return patch, INSTRUMENTS[instrument].to_dn(patch.reflectance).astype(np.uint16)


def masks_of_model(model: Model, dn: npt.NDArray[np.uint16], instrument: str, metres: float) -> Masks:
    """The model's masks at its operating points."""
    options = SceneOptions(test_time_augmentation=False, accept_other_level=True)
    probability = predict_array(model, dn, BANDS, instrument=instrument, options=options)["cloud_probability"]
    points = SegmentationSection.of(model.card).operating_points or {}
    return {
        name: grow(np.nan_to_num(probability) >= point.threshold, point.outline_metres / metres)
        for name, point in points.items()
    }


def visible(instrument: str, dn: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Mean reflectance of red, green and blue."""
    return np.asarray(INSTRUMENTS[instrument].to_physical(dn[:3]).mean(axis=0))


def fitted_threshold(sensor: InstrumentName, side: int) -> float:
    """The brightness that separates cloud from the rest best on other scenes, by IoU."""
    candidates = np.arange(0.05, 0.7, 0.01)
    both, either = np.zeros((2, len(candidates)))
    for number in range(FITTING_SCENES):
        patch, dn = seen_by(sensor, FITTING_SEED, number, side)
        is_cloud, brightness = np.isin(patch.mask, (THICK_CLOUD, THIN_CLOUD)), visible(SENSORS[sensor][1], dn)
        for place, candidate in enumerate(candidates):
            found = brightness >= candidate
            both[place] += (found & is_cloud).sum()
            either[place] += (found | is_cloud).sum()
    return float(candidates[(both / np.maximum(either, 1)).argmax()])


def shares(count: Counts) -> npt.NDArray[np.float64]:
    """Share called cloud in each bin; not a number without pixels."""
    found, there = count
    return np.where(there > 0, found / np.maximum(there, 1), np.nan)


def half_found(count: Counts) -> str:
    """Optical depth from which on half of the pixels are called cloud, between the middles of the intervals."""
    share = shares(count)[FIRST:-1]
    below = np.flatnonzero(share < 0.5)
    if not below.size:
        return f"< {EDGES[1]:g}"
    last = int(below[-1])
    if last == len(share) - 1:
        return "-"
    part = (0.5 - share[last]) / (share[last + 1] - share[last])
    return f"{MIDDLES[last] ** (1 - part) * MIDDLES[last + 1] ** part:.2f}"


def ordered(counts: Mapping[tuple[str, str], Counts]) -> list[tuple[str, str]]:
    """Instruments and rules in the order in which they are shown."""
    return [(title, rule) for title, _, _ in SENSORS.values() for rule in CURVES if (title, rule) in counts]


def figure(counts: Mapping[tuple[str, str], Counts]) -> bytes:
    """One panel for each instrument."""
    with drawing(10, 7.5, 2, 2, sharex=True) as (drawn, panels):
        for axes, (title, _, metres) in zip(panels.ravel(), SENSORS.values(), strict=True):
            axes.axvspan(*LABELLED_FROM, color="#e2e8f0", label="labels begin")
            for rule, (colour, line) in CURVES.items():
                if (title, rule) not in counts:
                    continue
                share = shares(counts[title, rule])
                label = f"{rule} ({100 * share[0]:.0f} % of cloudless ground)"
                axes.plot(MIDDLES, 100 * share[FIRST:-1], line, color=colour, marker=".", label=label)
            axes.set_xscale("log")
            axes.set_ylim(-2, 102)
            axes.set_title(f"{title}, {metres:g} m")
            axes.set_xlabel("optical depth of the cloud")
            axes.set_ylabel("called cloud, %")
            axes.legend(fontsize=7, loc="lower right")
        return png(drawn)


if __name__ == "__main__":
    main()
