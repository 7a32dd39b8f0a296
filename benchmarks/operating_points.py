"""Thresholds and outlines of a cloud mask model over real labels: which are best on average, and what others cost.

    python benchmarks/operating_points.py FOLDER MODEL [MODEL ...] [--write]

FOLDER holds ``38-cloud/`` (drawn tightly; its train and validation splits count, which the model must not have been
trained on) and ``oncloudn/`` (drawn generously: veils and rims are cloud, outlines lie some pixels outside). People who
label differ, so a threshold and the metres by which masks grow are judged by the mean over the sets. ``balanced`` has
the threshold nearest to 0.5, and of those the smallest outline, whose mean IoU is within 0.01 of the best;
``sensitive`` and ``strict`` have the best means of F2 and F0.5. ``--write`` puts them
into the cards of models that are folders, and of the shipped one into what its ways change (``ways.json`` beside its
card). The test split is shown, and decides nothing.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio

from cloud_assets.bands import INSTRUMENTS, UNLABELLED
from cloud_assets.families.segmentation.recipe import OperatingPoint, SegmentationSection
from cloud_assets.families.segmentation.threshold import ThresholdSearch
from cloud_assets.inference.bundle import ModelBundle, Threshold
from cloud_assets.lifecycle.model_references import load_model
from cloud_assets.networks.shipped import SHIPPED, WAYS
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array
from cloud_assets.tasks.landsat_segmentation import TASK

BANDS = ("red", "green", "blue", "nir")
DECIDING = {"38-cloud": 0.5, "oncloudn chip_1": 0.25, "oncloudn chip_4": 0.25}
"""Sets that decide, and what they weigh."""
MEASURED_ON = "38-Cloud patches (31) and On Cloud N chips (2), mean of both"
OUTLINES = (0.0, 15.0, 25.0, 35.0, 45.0, 60.0)
"""Metres that are tried; of Landsat's pixels those from 30 on are one."""
TOLERANCE = 0.01
"""Loss of mean IoU that thirty-odd pictures do not tell from chance."""
Grid = npt.NDArray[np.float64]
Searches = dict[float, ThresholdSearch]
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
    print(
        "model",
        "point",
        "threshold",
        "outline",
        *(f"{name}: IoU, precision, recall" for name in sets),
        "mean IoU",
        sep=" | ",
    )
    for reference in options.models:
        searches = {name: searched(reference, pictures) for name, pictures in sets.items()}
        points = chosen_points(searches)
        for name, point in points.items():
            cells = [", ".join(f"{value:.3f}" for value in _at(search, point)) for search in searches.values()]
            mean = sum(weight * _at(searches[name], point)[0] for name, weight in DECIDING.items())
            outline = f"{point.outline_metres:.0f} m"
            print(reference, name, f"{point.threshold:.2f}", outline, *cells, f"{mean:.3f}", sep=" | ", flush=True)
        if options.write:
            write(reference, points)


def chosen_points(searches: Mapping[str, Searches]) -> dict[str, OperatingPoint]:
    """The three operating points, from the counts of each set at each outline."""
    # (3, outlines, thresholds): IoU, precision, recall; mean over the sets.
    curves = np.array(
        [[_curves(searches[name][outline]) for outline in OUTLINES] for name in DECIDING]
    )  # sets, outlines, 3, thresholds
    iou, precision, recall = np.average(curves, axis=0, weights=list(DECIDING.values())).swapaxes(0, 1)

    def f_score(beta: float) -> Grid:
        weighted = beta**2 * precision + recall
        return (1 + beta**2) * precision * recall / np.maximum(weighted, 1e-9)

    as_good = np.argwhere(iou >= iou.max() - TOLERANCE)
    places = {
        "sensitive": np.unravel_index(f_score(2.0).argmax(), iou.shape),
        "balanced": min(as_good, key=lambda place: (abs(place[1] + 1 - 50), place[0])),
        "strict": np.unravel_index(f_score(0.5).argmax(), iou.shape),
    }
    return {
        name: OperatingPoint(
            threshold=round((int(threshold) + 1) / 100, 2),
            outline_metres=OUTLINES[int(outline)],
            precision=round(float(precision[outline, threshold]), 4),
            recall=round(float(recall[outline, threshold]), 4),
            measured_on=MEASURED_ON,
        )
        for name, (outline, threshold) in places.items()
    }


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


def searched(reference: str, pictures: Pictures) -> Searches:
    """A model's answers for some pictures, counted at each threshold and outline."""
    model, searches = load_model(reference), {outline: ThresholdSearch() for outline in OUTLINES}
    for dn, mask, instrument in pictures:
        answer = predict_array(model, dn, BANDS, instrument=instrument, options=SceneOptions(accept_other_level=True))
        probability = answer["cloud_probability"]
        truth = np.where(np.isfinite(probability), mask, np.uint8(UNLABELLED))
        pixel = INSTRUMENTS[instrument].find("red").resolution_m or np.inf
        for outline, search in searches.items():
            search.update(grown(np.nan_to_num(probability), outline / pixel), truth)
    return searches


def grown(probability: npt.NDArray[np.float32], radius: float) -> npt.NDArray[np.float32]:
    """The largest probability within a radius in pixels: what exceeds a threshold is the mask at it, grown."""
    if radius < 1:
        return probability
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return cv2.dilate(probability, (np.hypot(rows, columns) <= radius).astype(np.uint8))


def _curves(search: ThresholdSearch) -> list[npt.NDArray[np.float64]]:
    """IoU, precision and recall at each candidate."""
    return [search.curve()[1], *search.rates()]


def _at(searches: Searches, point: OperatingPoint) -> list[float]:
    """IoU, precision and recall at a point."""
    return [float(curve[round(point.threshold * 100) - 1]) for curve in _curves(searches[point.outline_metres])]


def write(reference: str, points: dict[str, OperatingPoint]) -> None:
    """Puts the points into the model's card, or into what a way to use the shipped one changes in its card."""
    balanced = points["balanced"]
    if reference in SHIPPED:
        details = {"operating_points": {name: point.model_dump() for name, point in points.items()}}
        SHIPPED[reference]["details"] |= {**details, "outline_metres": balanced.outline_metres}
        SHIPPED[reference]["threshold"] = {"value": balanced.threshold}
        WAYS.write_text(json.dumps(SHIPPED, indent=1) + "\n", encoding="utf-8")
        return
    folder = Path(reference)
    bundle = ModelBundle.open(folder)
    section = SegmentationSection.of(bundle.card).model_copy(
        update={"operating_points": points, "outline_metres": balanced.outline_metres}
    )
    chosen = Threshold(
        value=balanced.threshold,
        method=f"nearest to 0.5 of those whose mean cloud IoU is within {TOLERANCE} of the largest; {MEASURED_ON}",
        unit="cloud probability",
    )
    bundle.with_card(threshold=chosen, details={**bundle.card.details, **section.details()}).save(folder)


def _binary(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.where(mask == UNLABELLED, mask, np.isin(mask, (1, 2))).astype(np.uint8)


if __name__ == "__main__":
    main()
