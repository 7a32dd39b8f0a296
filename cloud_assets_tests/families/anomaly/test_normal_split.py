from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, NORMAL, NormalSplit, classes_of
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays


def labelled_store(folder: Path, normal: int = 20, cloudy: int = 6) -> PatchStore:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 255, (normal + cloudy, 3, 8, 8)).astype(np.uint8)
    labels = ["noncloud"] * normal + ["cloud"] * cloudy
    return store_arrays(folder, images, bands=("red", "green", "blue"), instrument="rgb_8bit", labels=labels)


def masked_store(folder: Path) -> PatchStore:
    """Ten groups of a clear patch, one with a little cloud and one with much; and a mostly blank one."""
    masks = np.zeros((31, 10, 10), np.uint8)
    masks[1:30:3, 0, :5] = 1  # 5 %
    masks[2:30:3, :4] = 2  # 40 %
    images = np.random.default_rng(0).integers(1, 9, (31, 3, 10, 10)).astype(np.uint16)
    images[30, :, :5] = 0
    groups = [f"scene{number // 3}" for number in range(30)] + ["blank"]
    return store_arrays(folder, images, masks, bands=("B04", "B03", "B02"), instrument="sentinel2_l1c", groups=groups)


def test_anomalies_are_in_the_test_split_only_and_normals_are_parted_80_to_20(tmp_path: Path) -> None:
    splits = NormalSplit().split(labelled_store(tmp_path / "store"))
    assert (splits.class_problems(), splits.leaking_groups()) == ([], [])
    counts = splits.summary()
    assert [counts[split][NORMAL] for split in ("train", "validation", "test")] == [12, 3, 5]
    assert [counts[split][ANOMALOUS] for split in ("train", "validation", "test")] == [0, 0, 6]


def test_problems_name_an_anomaly_that_reached_training(tmp_path: Path) -> None:
    splits = NormalSplit().split(labelled_store(tmp_path / "store"))
    table = splits.table.copy()
    first = table.index[table["classes"] == ANOMALOUS][0]
    table.loc[first, "split"] = "train"
    spoilt = Splits(table, splits.details)
    assert spoilt.misplaced() == {"train": 1}
    assert any("must not be there" in problem for problem in spoilt.class_problems())


def test_confinement_survives_saving(tmp_path: Path) -> None:
    splits = NormalSplit().split(labelled_store(tmp_path / "store"))
    splits.save(tmp_path / "splits")
    assert Splits.open(tmp_path / "splits").class_problems() == []


def test_masks_decide_where_there_are_no_labels(tmp_path: Path) -> None:
    store = masked_store(tmp_path / "store")
    classes = NormalSplit().classes(store.index)
    assert classes[:30].tolist() == [NORMAL, "", ANOMALOUS] * 10
    assert classes[30] == ""  # half of it has no data


def test_no_group_is_cut_even_where_it_holds_both_classes(tmp_path: Path) -> None:
    store = masked_store(tmp_path / "store")
    splits = NormalSplit().split(store)
    assert splits.leaking_groups() == []
    assert (splits.class_problems(), splits.leaking_groups()) == ([], [])
    test = splits.indices("test")
    # Every test scene brings both its clear and its cloudy patch; cloudy ones of the other scenes are left out.
    assert (classes_of(splits, test) == ANOMALOUS).sum() == (classes_of(splits, test) == NORMAL).sum()


def test_a_normal_label_on_a_cloudy_mask_is_left_out(tmp_path: Path) -> None:
    store = masked_store(tmp_path / "store")
    index = store.index.assign(label="noncloud")
    assert set(NormalSplit().classes(index)[2:30:3]) == {""}


def test_validation_may_hold_anomalies_for_a_threshold_by_f1_but_training_never(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store", cloudy=16)
    splits = NormalSplit(anomalies_in=("validation", "test")).split(store)
    assert (splits.class_problems(), splits.leaking_groups()) == ([], [])
    counts = splits.summary()
    assert counts["train"][ANOMALOUS] == 0
    assert counts["validation"][ANOMALOUS] == 6  # 0.15 of 0.15 + 0.25


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store")
    with pytest.raises(NoUsablePatches, match="Set normal_label"):
        NormalSplit(normal_label="clear").split(store)
    with pytest.raises(ValidationError, match="test split"):
        NormalSplit(anomalies_in=("validation",))
    with pytest.raises(ValidationError, match="above 0"):
        NormalSplit(fractions=(0.8, 0.2, 0.0))
