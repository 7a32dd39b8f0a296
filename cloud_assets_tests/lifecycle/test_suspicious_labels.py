"""Suspicious labels: what confident learning says of known mistakes, and the list for each family of models."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import InvalidReport
from cloud_assets.families.segmentation.doubts import doubt_mask, pixel_thresholds, quantised
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.suspicious_labels import SuspicionRecipe, SuspiciousLabels, suspicious_labels
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.doubts import doubt_classes
from cloud_assets_tests.patch_arrays import store_arrays

SURE = (0.9, 0.9)


def half(upper: float, lower: float) -> np.ndarray:
    values = np.full((32, 32), lower, np.float32)
    values[:16] = upper
    return values


def test_a_right_mask_is_not_doubted_and_an_inverted_one_entirely() -> None:
    truth, level = half(1, 0).astype(np.uint8), quantised(half(0.98, 0.02))
    assert doubt_mask(truth, level, SURE).suspicion == 0
    wrong = doubt_mask(1 - truth, level, SURE)
    assert wrong.suspicion == pytest.approx(1, abs=0.02)
    assert wrong.contradicted.all()


def test_an_emptied_mask_is_doubted_where_the_cloud_was() -> None:
    doubt = doubt_mask(np.zeros((32, 32), np.uint8), quantised(half(0.98, 0.02)), SURE)
    assert doubt.suspicion > 0.9
    assert doubt.contradicted[:16].all()
    assert not doubt.contradicted[16:].any()


def test_borders_doubtful_pixels_and_unlabelled_ones_do_not_count() -> None:
    truth, level = half(1, 0).astype(np.uint8), quantised(half(0.98, 0.02))
    shifted = np.roll(truth, 2, axis=0)  # two rows: nobody draws a border exactly
    assert doubt_mask(shifted, level, SURE).suspicion == 0
    assert doubt_mask(1 - truth, quantised(half(0.7, 0.3)), SURE).suspicion == 0
    assert doubt_mask(np.full((32, 32), UNLABELLED, np.uint8), level, SURE).suspicion == 0


def test_thresholds_follow_how_sure_the_model_is_of_each_class() -> None:
    truth = half(1, 0).astype(np.uint8)
    assert pixel_thresholds([truth], [quantised(half(0.98, 0.04))]) == pytest.approx((0.96, 0.98), abs=0.003)
    assert pixel_thresholds([truth], [quantised(half(0.6, 0.4))]) == (0.9, 0.9)
    assert pixel_thresholds([np.zeros((32, 32), np.uint8)], [quantised(half(0.0, 0.0))]) == (1.0, 1.0)


def test_the_margin_of_classes_is_that_of_the_paper() -> None:
    """Label 0, model 0.9 sure of 1 where it is 0.85 sure on average: margin 0.9 - 0.05."""
    shares = np.array([[0.8, 0.1, 0.1], [0.05, 0.9, 0.05], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    margin, said = doubt_classes(shares, np.array([0, 0, 1, 2]))
    assert margin[:3] == pytest.approx([0, 0.85, 0])
    assert said[:3].tolist() == [0, 1, 1]


@pytest.fixture
def place(tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]) -> tuple:
    """A store of bright and dark halves, and a model that calls bright pixels cloud."""
    import torch

    images = np.full((8, 4, 32, 32), 7000, np.uint16)
    images[:, :, :16] = 40000
    masks = np.zeros((8, 32, 32), np.uint8)
    masks[:, :16] = 1
    masks[5] = 1 - masks[5]
    masks[6] = 0
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    store = store_arrays(
        tmp_path / "store", images, masks, bands=("red", "green", "blue", "nir"), instrument="landsat8_l1",
        official_splits=splits,
    )  # fmt: skip
    divided = GroupedSplit(classes="none").split(store)
    bundle = tiny_bundle(patches_version=store.data_version, splits_version=divided.data_version)

    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            cloud = 20 * (images.mean(dim=1, keepdim=True) - 0.5)
            return torch.cat([-cloud, cloud], dim=1)

    bundle.network = Brightness  # type: ignore[method-assign,assignment]
    return bundle, store, divided


def test_wrong_masks_lead_the_list_and_say_whether_they_were_learnt_from(place: tuple, tmp_path: Path) -> None:
    labels = suspicious_labels(*place, SuspicionRecipe(pictured=2), progress=False)
    assert labels.table["store_row"].tolist()[:2] in ([5, 6], [6, 5])
    assert len(labels.table) == 2
    assert labels.table["split"].tolist() in (["validation", "test"], ["test", "validation"])
    assert not labels.table["learnt_from"].any()
    assert (labels.looked_at, labels.learnt_from) == (8, 4)
    labels.save(tmp_path / "labels")
    again = SuspiciousLabels.open(tmp_path / "labels")
    known = ["patch_id", "suspicion", "split", "learnt_from"]
    pd.testing.assert_frame_equal(again.table[known], labels.table[known])
    assert again.data_version == labels.data_version
    assert (tmp_path / "labels" / "tables" / "suspicious_labels.parquet").is_file()
    assert (tmp_path / "labels" / "figures" / "pictures.png").read_bytes().startswith(b"\x89PNG")


def test_patches_that_were_not_learnt_from_come_first(place: tuple) -> None:
    labels = suspicious_labels(*place, SuspicionRecipe(patches=4, pictured=0), progress=False)
    assert (labels.looked_at, labels.learnt_from) == (4, 0)
    assert labels.figures == {}


def test_a_damaged_list_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidReport, match="Materialise it again"):
        SuspiciousLabels.open(tmp_path)
