"""How often injected drift is flagged, and how often undisturbed data are.

Batches of new regions are compared with a reference of other regions, undisturbed and with a gain or an offset on the
bands. No region of a batch is in its reference, regions are drawn anew for every batch (they come from one collection,
so batches share some), and patches of a region share their ground.

    python benchmarks/drift_detection.py                            # simulated Sentinel-2 regions, some minutes
    python benchmarks/drift_detection.py --store <labeled_patches>  # the patches of a task, as many regions as it has
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.inference.drift_reference import image_features
from cloud_assets.lifecycle.drift import IMAGES_SAMPLED
from cloud_assets.lifecycle.drift_statistics import DriftDetector, DriftRecipe, Sample
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.ground import GroundRecipe, simulate_ground
from cloud_assets.simulation.patch import SimulationRecipe, observe, patch_generator

SIZE, DATES = 128, 2
BANDS = ("red", "green", "blue", "nir")
Disturbance = tuple[str, float, float]
"""Band that is disturbed (or "all"), gain, offset in reflectance."""
UNDISTURBED: Disturbance = ("all", 1.0, 0.0)
DISTURBANCES: tuple[Disturbance, ...] = (
    UNDISTURBED,
    ("all", 1.0, 0.01), ("all", 1.0, 0.02), ("all", 1.0, 0.05), ("all", 1.0, 0.1), ("all", 1.0, -0.02),
    ("all", 1.0, -0.05), ("all", 1.1, 0.0), ("all", 1.3, 0.0), ("all", 1.5, 0.0), ("all", 0.7, 0.0), ("all", 0.5, 0.0),
    ("red", 1.1, 0.0), ("red", 1.2, 0.0), ("red", 1.4, 0.0), ("red", 1.0, 0.02),
)  # fmt: skip
Pixels = tuple[int, npt.NDArray[np.generic]]


def simulated(regions: int, seed: int) -> Iterator[Pixels]:
    """Region and digital numbers (C, H, W) of patches: each region is one ground, seen on two dates in four patches."""
    instrument, recipe = INSTRUMENTS["sentinel2_l1c"], SimulationRecipe()
    for region in range(regions):
        rng = patch_generator(seed, region)
        ground = simulate_ground(rng, (2 * SIZE, 2 * SIZE), GroundRecipe(pixel_metres=(10.0, 20.0)))
        for _ in range(DATES):
            seen = observe(rng, ground, BANDS, recipe)
            dn = instrument.to_dn(np.where(seen.valid, seen.reflectance, np.nan))
            for row in (0, SIZE):
                for column in (0, SIZE):
                    yield region, dn[:, row : row + SIZE, column : column + SIZE]


def stored(store: PatchStore) -> Iterator[Pixels]:
    """Region and digital numbers of the patches of a store."""
    groups = pd.factorize(store.index["group"])[0]
    for row in range(len(store)):
        yield int(groups[row]), store.array(IMAGES)[row]


def described(patches: Iterator[Pixels], preprocessing: Preprocessing, total: int) -> dict[Disturbance, Sample]:
    """Features of all patches, undisturbed and with each gain and offset put on their digital numbers."""
    rows: dict[Disturbance, list[dict[str, float]]] = {disturbance: [] for disturbance in DISTURBANCES}
    groups = []
    for group, dn in tqdm(patches, desc="describing patches", total=total):
        physical, valid = preprocessing.to_physical(np.asarray(dn))
        if not valid.any():
            continue
        groups.append(group)
        for disturbance in DISTURBANCES:
            changed = disturbed(np.where(valid, physical, np.nan), preprocessing, disturbance)
            rows[disturbance].append(image_features(changed, preprocessing))
    numbers = np.asarray(groups, np.int64)
    return {
        disturbance: Sample({name: np.array([row[name] for row in listed]) for name in listed[0]}, numbers)
        for disturbance, listed in rows.items()
    }


def disturbed(
    physical: npt.NDArray[np.float32], preprocessing: Preprocessing, disturbance: Disturbance
) -> npt.NDArray[np.generic]:
    """Digital numbers (C, H, W) of a disturbed sensor."""
    band, gain, offset = disturbance
    profile = preprocessing.profile
    hit = [band == "all" or profile.find(name).common_name == band for name in preprocessing.bands]
    changed = np.where(np.array(hit)[:, None, None], physical * gain + offset, physical)
    return profile.to_dn(changed)


def chosen(sample: Sample, regions: npt.NDArray[np.int64]) -> Sample:
    """The patches of some regions."""
    rows = np.isin(sample.groups, regions)
    return Sample({name: values[rows] for name, values in sample.features.items()}, sample.groups[rows])


def as_in_card(sample: Sample) -> Sample:
    """So many patches as a model card keeps, of all regions in turn."""
    turn = pd.Series(sample.groups).groupby(sample.groups).cumcount().to_numpy()
    rows = np.sort(np.argsort(turn, kind="stable")[:IMAGES_SAMPLED])
    return Sample({name: values[rows] for name, values in sample.features.items()}, sample.groups[rows])


def rates(samples: dict[Disturbance, Sample], reference: int, batch: int, batches: int) -> pd.DataFrame:
    """Share of batches with a warning and with a severe finding, by gain and offset."""
    recipe = DriftRecipe(resamples=499)
    undisturbed = samples[UNDISTURBED]
    regions = np.unique(undisturbed.groups)
    found: dict[Disturbance, list[str]] = {disturbance: [] for disturbance in samples}
    for number in tqdm(range(batches), desc=f"batches of {batch} regions"):
        order = np.random.default_rng(number).permutation(regions)
        detector = DriftDetector(as_in_card(chosen(undisturbed, order[:reference])), recipe)
        for disturbance, sample in samples.items():
            drift = detector.compare(chosen(sample, order[reference : reference + batch]))
            found[disturbance].append(drift.level(recipe))
    return pd.DataFrame(
        [
            {
                "band": band,
                "gain": gain,
                "offset": offset,
                "flagged": np.mean([level != "steady" for level in levels]),
                "severe": np.mean([level == "severe" for level in levels]),
            }
            for (band, gain, offset), levels in found.items()
        ]
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="folder of a task's labeled_patches; default: simulated regions")
    parser.add_argument("--regions", type=int, default=150, help="how many to simulate")
    parser.add_argument("--reference", type=float, default=0.7, help="share of the regions in the reference")
    parser.add_argument("--batch", type=int, nargs="+", default=[5, 20], help="regions in a batch")
    parser.add_argument("--batches", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.store is None:
        preprocessing = Preprocessing(instrument="sentinel2_l1c", bands=BANDS)
        patches, total = simulated(arguments.regions, seed=0), arguments.regions * DATES * 4
    else:
        store = PatchStore.open(arguments.store)
        role = store.roles[IMAGES]
        preprocessing = Preprocessing(instrument=role.instrument, bands=role.bands, nodata=role.nodata)
        patches, total = stored(store), len(store)
    samples = described(patches, preprocessing, total)
    regions = len(np.unique(samples[UNDISTURBED].groups))
    reference = round(arguments.reference * regions)
    where = "simulated" if arguments.store is None else str(arguments.store)
    sizes = [min(batch, regions - reference) for batch in arguments.batch]
    key = ["band", "gain", "offset"]
    found = {size: rates(samples, reference, size, arguments.batches).set_index(key) for size in sizes}
    table = pd.concat(found, axis=1)
    print(*key, *(f"{level}, {size} regions" for size, level in table.columns), sep=" | ")
    for (band, gain, offset), shares in table.iterrows():
        print(band or "all", f"{gain:g}", f"{offset:g}", *(f"{share:.2f}" for share in shares), sep=" | ")
    print(f"\n{where}: reference of {reference} regions, {arguments.batches} batches of other regions")


if __name__ == "__main__":
    main()
