"""Writes a small CloudSEN12: one TACO version 1 file of simulated Sentinel-2 level 1C patches with labels.

Each region of interest is one piece of ground, seen on several dates under different skies, as in the original.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pytortilla.create.main import create_a_tortilla
from pytortilla.datamodel.main import STAC, Sample

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.samples.sample_writer import write_geotiff
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe, river, simulate_ground
from cloud_assets.simulation.patch import SimulatedPatch, SimulationRecipe, observe, patch_generator
from cloud_assets.simulation.sensor import SensorRecipe, coarsen
from cloud_assets.worker_processes import map_in_processes

FILE_NAME = "cloudsen12-l1c.sample.taco"
TITLE = "CloudSEN12+"
REGIONS = 40  # regions of interest at scale 1
DATES = 2  # dates a region
REAL_SIZE, PADDED_SIZE = 509, 512  # pixels a side before and after padding with zeros on the right and at the bottom

_INSTRUMENT = INSTRUMENTS["sentinel2_l1c"]
_BANDS = tuple(band.common_name for band in _INSTRUMENT.bands)
_FACTORS = tuple(round((band.resolution_m or 10) / 10) for band in _INSTRUMENT.bands)
_SPLITS = ("train",) * 7 + ("validation", "test", "train", "validation", "train", "train", "test") + ("train",) * 6
_UNLABELLED_SCRIBBLE = 99

_CLOUDY = CloudRecipe(none=0, overcast=0.06, stratus=0.10, cumulus=0.22, broken=0.24, cirrus=0.06)
_ANY_SKY = CloudRecipe(none=0.30)
# Structures up to twice as fine as at 10 m and a varying sun, so that what learns here copes with other sensors too.
_GROUND = GroundRecipe(pixel_metres=(10.0, 20.0))
_SENSOR = SensorRecipe(coarse_chance=0.0, quantisation_chance=0.0, wedge_chance=0.03)


def write(folder: Path, *, seed: int, scale: float, progress: bool, workers: int | None) -> tuple[str, str]:
    """Writes the sample as :func:`~cloud_assets.datasets.samples.sample_writer.write_sample` asks for it."""
    regions = max(9, round(REGIONS * scale))  # at least nine, so that each split has one
    with TemporaryDirectory(prefix=".parts-", dir=folder) as parts:
        write_one = partial(_write_region, seed, Path(parts))
        results = map_in_processes(write_one, range(regions), regions, workers=workers, label=TITLE, progress=progress)
        rows = [row for rows in results for row in rows]
        _write_tortilla(folder / FILE_NAME, rows)
    contents = f"{len(rows)} Sentinel-2 level 1C patches of {REAL_SIZE} x {REAL_SIZE} pixels from {regions} regions"
    return contents, ", labelled with thick cloud, thin cloud and cloud shadow."


def _write_region(seed: int, folder: Path, index: int) -> list[dict[str, Any]]:
    rng = patch_generator(seed, index)
    ground = simulate_ground(rng, (PADDED_SIZE, PADDED_SIZE), _GROUND)
    # Latitudes from 56 south to 70 north, in the middle of a UTM zone.
    zone, north = int(rng.integers(1, 61)), rng.uniform(-6.2e6, 7.7e6)
    crs = f"EPSG:{32600 + zone if north >= 0 else 32700 + zone}"
    origin = (float(rng.integers(35_000, 65_000) * 10), float(round((north if north >= 0 else north + 1e7) / 10) * 10))
    start = datetime(2018, 1, 1, 10, 30, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 360)))
    rows = []
    for date in range(DATES):
        moment = start + timedelta(days=int(rng.integers(5, 100)) + 150 * date)
        recipe = SimulationRecipe(
            ground=_GROUND, clouds=_ANY_SKY if date else _CLOUDY, sensor=_SENSOR, illumination=(0.6, 1.1)
        )
        patch = observe(rng, ground, _BANDS, recipe, (REAL_SIZE, REAL_SIZE))
        split = _SPLITS[index % len(_SPLITS)]
        # A few patches with scribbles and a few without labels, all on second dates of training regions.
        rare = {3: "scribble", 5: "nolabel"} if date and split == "train" else {}
        label_type = rare.get(index % 7, "high")
        properties = _properties(index, moment, zone, split, label_type, patch)
        target = _target(rng, patch.mask, label_type)
        stac = STAC(
            crs=crs,
            geotransform=(origin[0], 10.0, 0.0, origin[1], 0.0, -10.0),
            raster_shape=(PADDED_SIZE, PADDED_SIZE),
            time_start=moment.timestamp(),
            time_end=moment.timestamp(),
        )
        rows.append(_write_sample(folder, properties, stac, digital_numbers(patch), target))
    return rows


def _properties(
    region: int, moment: datetime, zone: int, split: str, label_type: str, patch: SimulatedPatch
) -> dict[str, Any]:
    """The columns that CloudSEN12 has for each sample, and ``is_synthetic``."""
    roi, scene = f"ROI_{region:05d}", f"SIMULATED_{moment:%Y%m%dT%H%M%S}_T{zone:02d}SIM"
    classes = {"clear": CLEAR, "thick": THICK_CLOUD, "thin": THIN_CLOUD, "cloud_shadow": CLOUD_SHADOW}
    return {
        "id": f"{roi}__{scene}",
        "data_split": split,
        "label_type": label_type,
        "real_proj_shape": REAL_SIZE,
        "proj_shape": PADDED_SIZE,
        "roi_id": roi,
        "s2_id": scene,
        **{
            f"{name}_percentage": float((patch.mask == code).mean() * 100) if label_type == "high" else 0.0
            for name, code in classes.items()
        },
        "is_synthetic": True,
        "biome": patch.biome,
        "sky": patch.sky,
    }


def digital_numbers(patch: SimulatedPatch) -> np.ndarray:
    """A simulated patch of all 13 bands as Sentinel-2 delivers it: (13, H, W) uint16, 0 without data.

    Each band has its own resolution.
    """
    numbers = _INSTRUMENT.to_dn(coarsen(patch.reflectance, _FACTORS))
    numbers[:, ~patch.valid] = 0
    return numbers


def _target(rng: np.random.Generator, mask: np.ndarray, label_type: str) -> np.ndarray:
    """The label raster (509, 509) uint8 in the codes of its type."""
    if label_type == "nolabel":
        return np.full(mask.shape, _UNLABELLED_SCRIBBLE, np.uint8)
    if label_type == "high":
        return np.where(mask == UNLABELLED, CLEAR, mask).astype(np.uint8)
    strokes = np.zeros(mask.shape, bool)
    for _ in range(4):
        strokes |= river(rng, mask.shape, 4.0) > 0.5
    near_border = np.zeros(mask.shape, bool)
    for shift in ((6, 0), (-6, 0), (0, 6), (0, -6)):
        near_border |= np.roll(mask, shift, (0, 1)) != mask
    codes = np.full(mask.shape, _UNLABELLED_SCRIBBLE, np.uint8)
    for canonical, (centre, border) in {THICK_CLOUD: (1, 2), THIN_CLOUD: (3, 4), CLOUD_SHADOW: (5, 6)}.items():
        codes[mask == canonical] = centre
        codes[(mask == canonical) & near_border] = border
    codes[mask == CLEAR] = 0
    codes[~strokes | (mask == UNLABELLED)] = _UNLABELLED_SCRIBBLE
    return codes


def _write_sample(
    folder: Path, properties: dict[str, Any], stac: STAC, image: np.ndarray, target: np.ndarray
) -> dict[str, Any]:
    """Writes one sample as a tortilla of image and target and returns its row for the outer table."""
    padding = ((0, PADDED_SIZE - REAL_SIZE),) * 2
    place = (stac.geotransform[1], 0.0, stac.geotransform[0], 0.0, stac.geotransform[5], stac.geotransform[3])
    inner = []
    for name, pixels, descriptions in (
        ("s2l1c", np.pad(image, ((0, 0), *padding)), _INSTRUMENT.names),
        ("target", np.pad(target, padding), ()),
    ):
        path = folder / f"{properties['id']}.{name}.tif"
        write_geotiff(path, pixels, crs=stac.crs, transform=place, descriptions=descriptions)
        inner.append(Sample(id=name, file_format="GTiff", path=path).export_metadata())
    whole = folder / f"{properties['id']}.tortilla"
    _write_tortilla(whole, inner)
    for path in folder.glob(f"{properties['id']}.*.tif"):
        path.unlink()
    outer: dict[str, Any] = Sample(file_format="TORTILLA", path=whole, stac_data=stac, **properties).export_metadata()
    return outer


def _write_tortilla(path: Path, rows: list[dict[str, Any]]) -> None:
    # Samples.export_metadata() would start a process pool for every patch; the tables are the same.
    create_a_tortilla(
        metadata=pd.DataFrame(rows),
        output=path,
        ndatapartitions=1,
        nworkers=1,
        chunk_size_iter_bytes=64 * 2**20,
        tortilla_message=str,
        quiet=True,
    )
