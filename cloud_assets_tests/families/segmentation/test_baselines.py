from pathlib import Path

import numpy as np

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.families.segmentation.metrics import fit_brightness_threshold
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.statistics import confusion_counts, ratios
from cloud_assets_tests.families.conftest import BANDS
from cloud_assets_tests.patch_arrays import store_arrays


def bright_clouds(tmp_path: Path, bands: tuple[str, ...] = BANDS) -> PatchStore:
    """Clear ground of reflectance 0.05 to 0.3, cloud of 0.25 to 0.9, equal in all bands; a tenth is nodata."""
    rng = np.random.default_rng(0)
    masks = rng.choice([0, 1, 2, 3, 255], (10, 24, 24)).astype(np.uint8)
    cloud = np.isin(masks, (1, 2))
    brightness = np.where(cloud, rng.uniform(0.25, 0.9, masks.shape), rng.uniform(0.05, 0.3, masks.shape))
    # Where there is no label, anything goes: it must not be learnt from.
    brightness[masks == 255] = 0.1
    brightness = np.repeat(brightness[:, None], len(bands), axis=1)
    if "nir" in bands:
        brightness[:, bands.index("nir")] = 1.0
    images = INSTRUMENTS["landsat8_l1"].to_dn(brightness).astype(np.uint16)
    images[:, :, :2] = 0
    return store_arrays(tmp_path / "store", images, masks, bands=bands, instrument="landsat8_l1")


def test_no_other_threshold_has_a_better_iou(tmp_path: Path) -> None:
    store = bright_clouds(tmp_path)
    fitted = fit_brightness_threshold(store, np.arange(10), 1000)
    assert fitted is not None
    brightness = INSTRUMENTS["landsat8_l1"].to_physical(store.array()[:, 0])
    scored = (store.masks != 255) & (store.array()[:, 0] != 0)
    cloud = np.isin(store.masks, (1, 2))[scored]

    def iou(threshold: float) -> float:
        return float(ratios(confusion_counts(cloud, brightness[scored] >= threshold))["iou"])

    assert iou(fitted.value) >= max(iou(threshold) for threshold in np.linspace(0.05, 0.9, 300)) - 1e-3
    assert 0.2 < fitted.value < 0.32


def test_it_says_nodata_where_there_is_none(tmp_path: Path) -> None:
    store = bright_clouds(tmp_path)
    fitted = fit_brightness_threshold(store, np.arange(10), 1000)
    assert fitted is not None
    mask = fitted.mask(store.array()[:3])
    assert (mask[:, :2] == 255).all()
    assert set(np.unique(mask[:, 2:])) == {0, 1}


def test_without_visible_bands_all_bands_decide(tmp_path: Path) -> None:
    fitted = fit_brightness_threshold(bright_clouds(tmp_path, ("B6", "B7")), np.arange(10), 3)
    assert fitted is not None
    assert fitted.bands == ("B6", "B7")


def test_one_class_alone_teaches_nothing(tmp_path: Path) -> None:
    images = np.full((2, 1, 8, 8), 9000, np.uint16)
    store = store_arrays(
        tmp_path / "store", images, np.zeros((2, 8, 8), np.uint8), bands=("red",), instrument="landsat8_l1"
    )
    assert fit_brightness_threshold(store, np.arange(2), 10) is None
