"""Thresholds of a cloud mask model over real labels: which one is best on average, and what others cost.

    python benchmarks/operating_points.py FOLDER MODEL [MODEL ...] [--write]

FOLDER holds ``38-cloud/`` (drawn tightly; its train and validation splits count, which the model must not have been
trained on) and ``oncloudn/`` (drawn generously: veils and rims are cloud). People who label differ, so a threshold is
judged by the mean of the IoU over the sets. ``balanced`` is the one nearest to 0.5 whose mean is within 0.02 of the
best, ``sensitive`` and ``strict`` are the best means of F2 and F0.5 below and above it. ``--write`` puts them into the
card of the models, which are folders. The test split is shown, and decides nothing.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from cloud_assets.bands import UNLABELLED
from cloud_assets.families.segmentation.recipe import OperatingPoint, SegmentationSection
from cloud_assets.families.segmentation.threshold import ThresholdSearch, points_of
from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.lifecycle.model_references import load_model, referenced_bundle
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array
from cloud_assets.tasks.landsat_segmentation import TASK

BANDS = ("red", "green", "blue", "nir")
DECIDING = {"38-cloud": 0.5, "oncloudn chip_1": 0.25, "oncloudn chip_4": 0.25}
"""Sets that decide, and what they weigh."""
MEASURED_ON = "38-Cloud patches (31) and On Cloud N chips (2), mean of both"
TOLERANCE = 0.02
"""Loss of mean IoU that thirty-odd pictures do not tell from chance: of such thresholds the one nearest to 0.5 wins."""
Pictures = list[tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8], str]]


def main() -> None:
    """Predicts, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--workspace", type=Path, default=Path("real_patches"))
    options = parser.parse_args()
    sets = dict(real_sets(options.folder, options.workspace))
    print("model", "point", "threshold", *(f"{name}: IoU, precision, recall" for name in sets), "mean IoU", sep=" | ")
    for reference in options.models:
        searches = {name: searched(reference, pictures) for name, pictures in sets.items()}
        iou, precision, recall = (
            np.average([_curves(searches[name])[which] for name in DECIDING], axis=0, weights=list(DECIDING.values()))
            for which in range(3)
        )
        as_good = np.flatnonzero(iou >= iou.max() - TOLERANCE)
        points = points_of(precision, recall, int(as_good[np.abs(as_good + 1 - 50).argmin()]), MEASURED_ON)
        own = referenced_bundle(reference).card.threshold
        thresholds = {} if own is None else {"card": own.value}
        thresholds |= {name: point.threshold for name, point in points.items()}
        for name, value in thresholds.items():
            place = round(value * 100) - 1
            cells = [", ".join(f"{curve[place]:.3f}" for curve in _curves(search)) for search in searches.values()]
            print(reference, name, f"{value:.2f}", *cells, f"{iou[place]:.3f}", sep=" | ", flush=True)
        if options.write:
            write(Path(reference), points)


def real_sets(folder: Path, workspace: Path) -> Iterator[tuple[str, Pictures]]:
    """Labelled pictures: digital numbers (C, H, W), mask (1 cloud, 0 clear, 255 unlabelled), instrument."""
    store = cut_patches(TASK.dataset.catalog(folder), TASK.patches, workspace / "labelled_patches")
    splits = TASK.split.split(store)
    role = store.roles["images"]
    for name, wanted in (("38-cloud", ("train", "validation")), ("38-cloud, test split", ("test",))):
        rows = np.concatenate([splits.indices(split) for split in wanted])
        yield name, [(store.array()[row], _binary(store.masks[row]), role.instrument) for row in rows]
    for chip in sorted((folder / "oncloudn").glob("chip_*")):
        layers = [rasterio.open(chip / f"{band}.tif").read(1) for band in ("B04", "B03", "B02", "B08")]
        label = rasterio.open(chip / "label.tif").read(1)
        yield f"oncloudn {chip.name}", [(np.stack(layers), label, "sentinel2_l1c")]


def searched(reference: str, pictures: Pictures) -> ThresholdSearch:
    """A model's answers for some pictures, counted at each threshold."""
    model, search = load_model(reference), ThresholdSearch()
    for dn, mask, instrument in pictures:
        answer = predict_array(model, dn, BANDS, instrument=instrument, options=SceneOptions(accept_other_level=True))
        probability = answer["cloud_probability"]
        search.update(np.nan_to_num(probability), np.where(np.isfinite(probability), mask, np.uint8(UNLABELLED)))
    return search


def _curves(search: ThresholdSearch) -> tuple[npt.NDArray[np.float64], ...]:
    """IoU, precision and recall at each candidate."""
    return search.curve()[1], *search.rates()


def write(folder: Path, points: dict[str, OperatingPoint]) -> None:
    """Puts the points into the model's card, and the balanced one as its threshold."""
    bundle = ModelBundle.open(folder)
    section = SegmentationSection.of(bundle.card).model_copy(update={"operating_points": points})
    chosen = Threshold(
        value=points["balanced"].threshold,
        method=f"nearest to 0.5 of those whose mean cloud IoU is within {TOLERANCE} of the largest; {MEASURED_ON}",
        unit="cloud probability",
    )
    bundle.with_card(threshold=chosen, details={**bundle.card.details, **section.details()}).save(folder)


def _binary(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.where(mask == UNLABELLED, mask, np.isin(mask, (1, 2))).astype(np.uint8)


if __name__ == "__main__":
    main()
