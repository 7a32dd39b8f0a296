"""Cloud masks over every real picture at hand: a model's operating points, ukis-csmask and a brightness threshold.

    python benchmarks/real_masks.py FOLDER MODEL [MODEL ...] [--workspace real_patches]

Labelled are the 38-Cloud patches of FOLDER (drawn tightly) and the On Cloud N chips (drawn generously); the patches
decide the brightness threshold, and patches and chips a model's operating points (operating_points.py), but for the
test split. Without labels, but known to be clear or cloudy: the Sentinel-2 pictures of FOLDER/sen12ms, of which the
share that is called cloud is printed.
"""

import argparse
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mask_scoring import UkisMask
from operating_points import BANDS, Pictures, real_sets
from rasterio.io import MemoryFile

from cloud_assets.bands import INSTRUMENTS, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.families.segmentation.recipe import SegmentationSection
from cloud_assets.families.segmentation.threshold import ThresholdSearch
from cloud_assets.lifecycle.model_references import load_model
from cloud_assets.patches.store import Role
from cloud_assets.reports.statistics import confusion_counts, ratios
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import Model, predict_array

Rule = Callable[[npt.NDArray[Any], str], npt.NDArray[np.uint8]]
"""Cloud codes (H, W), 255 nodata, from digital numbers (4, H, W) of an instrument."""
SENTINEL2 = "sentinel2_l1c"


def main() -> None:
    """Predicts, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--workspace", type=Path, default=Path("real_patches"))
    options = parser.parse_args()
    labelled = dict(real_sets(options.folder, options.workspace))
    unlabelled = {
        name: list(sentinel2(options.folder, kind)) for name, kind in (("clear", "s2"), ("cloudy", "s2_cloudy"))
    }
    shares = [f"Sentinel-2, {name} ({len(pictures)}): share" for name, pictures in unlabelled.items()]
    print(
        "rule",
        *(f"{name} ({len(sets)}): IoU, precision, recall" for name, sets in labelled.items()),
        *shares,
        sep=" | ",
    )
    for name, rule in rules(options.models, labelled["38-cloud"]).items():
        cells = [", ".join(f"{value:.3f}" for value in scores(rule, pictures)) for pictures in labelled.values()]
        cells += [f"{np.mean([share(rule(dn, SENTINEL2)) for dn in pictures]):.3f}" for pictures in unlabelled.values()]
        print(name, *cells, sep=" | ", flush=True)


def rules(models: list[str], patches: Pictures) -> dict[str, Rule]:
    """Everything that makes masks, by name."""
    made: dict[str, Rule] = {}
    for reference in models:
        model = load_model(reference)
        points = SegmentationSection.of(model.card).operating_points or {}
        made |= {f"{reference}, {point}": partial(model_mask, model, point) for point in (points or (None,))}
    if UkisMask.fitting(role(SENTINEL2)) is not None:
        made["ukis-csmask"] = lambda dn, instrument: UkisMask(role(instrument)).mask(dn[None])[0]
    search = ThresholdSearch()
    for dn, mask, instrument in patches:
        search.update(brightness(dn, instrument), mask)
    level = float(search.curve()[0][search.curve()[1].argmax()])
    made[f"brightness of {level:.2f}"] = lambda dn, instrument: (brightness(dn, instrument) >= level).astype(np.uint8)
    return made


def model_mask(model: Model, point: Any, dn: npt.NDArray[Any], instrument: str) -> npt.NDArray[np.uint8]:
    """The mask of a model at one of its operating points."""
    options = SceneOptions(accept_other_level=True, operating_point=point)
    return predict_array(model, dn, BANDS, instrument=instrument, options=options)["mask"]


def role(instrument: str) -> Role:
    """Four bands of an instrument as the roles of patch stores are described."""
    profile = INSTRUMENTS[instrument]
    names = tuple(profile.find(band).name for band in BANDS)
    return Role(
        instrument=instrument, bands=names, nodata=profile.nodata, dtype=profile.dtype, shape=(len(names), 256, 256)
    )


def brightness(dn: npt.NDArray[Any], instrument: str) -> npt.NDArray[np.float32]:
    """Mean visible reflectance (H, W)."""
    return INSTRUMENTS[instrument].to_physical(dn[:3]).mean(axis=0)


def scores(rule: Rule, pictures: Pictures) -> tuple[float, ...]:
    """IoU, precision and recall of cloud over all pixels of some pictures."""
    counts = np.zeros(4, np.int64)
    for dn, truth, instrument in pictures:
        mask = rule(dn, instrument)
        scored = (truth != UNLABELLED) & (mask != UNLABELLED)
        counts += confusion_counts(truth[scored] == 1, is_cloud(mask[scored]))
    shares = ratios(counts)
    return tuple(float(shares[name]) for name in ("iou", "precision", "recall"))


def is_cloud(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels with one of the cloud codes."""
    return np.isin(mask, (THICK_CLOUD, THIN_CLOUD))


def share(mask: npt.NDArray[np.uint8]) -> float:
    """Part of the observed pixels that is called cloud."""
    return float(is_cloud(mask[mask != UNLABELLED]).mean())


def sentinel2(folder: Path, kind: str) -> Iterator[npt.NDArray[np.uint16]]:
    """Digital numbers (4, H, W) of the pictures in the archives of SEN12MS-CR: ``s2`` or ``s2_cloudy``."""
    names = INSTRUMENTS[SENTINEL2].names
    channels = [names.index(INSTRUMENTS[SENTINEL2].find(band).name) + 1 for band in BANDS]
    for archive in sorted((folder / "sen12ms").glob(f"ROIs*_{kind}.tar.gz")):
        with tarfile.open(archive) as files:
            for member in files:
                if member.name.endswith(".tif") and (file := files.extractfile(member)) is not None:
                    with MemoryFile(file.read()) as memory, memory.open() as raster:
                        yield raster.read(channels)


if __name__ == "__main__":
    main()
