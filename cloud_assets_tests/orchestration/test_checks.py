"""Asset checks: each must fail on what it is there for."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.orchestration.checks import (
    check_champion,
    check_comparison,
    check_evaluation,
    check_patches,
    check_splits,
)
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.comparison import Gate, compare
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.reports.test_evaluation import make_evaluation

NO_SCENES = SceneCatalog("arrays", ())
SPLIT = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2


def store(folder: Path, masks: np.ndarray | None = None, doubled: bool = False, blank: int = 0) -> PatchStore:
    images = np.random.default_rng(0).integers(5000, 20000, (8 + blank, 3, 16, 16), np.uint16)
    if blank:
        images[8:] = 0
    if doubled:
        images[7] = images[0]
    if masks is None:
        masks = np.zeros((8 + blank, 16, 16), np.uint8)
        masks[:, :8] = 1
        if doubled:
            masks[7] = masks[0]
    return store_arrays(
        folder,
        images,
        masks,
        bands=("red", "green", "blue"),
        instrument="landsat8_l1",
        official_splits=(SPLIT + ["train"] * blank),
        minimum_valid=0.1,
    )


def passed(results: list[dg.AssetCheckResult]) -> dict[str, bool]:
    return {str(result.check_name): result.passed for result in results}


def test_good_patches_pass(tmp_path: Path) -> None:
    assert all(passed(check_patches(store(tmp_path / "store"), NO_SCENES)).values())


def test_patches_with_the_same_pixels_are_noticed(tmp_path: Path) -> None:
    patches = store(tmp_path / "store", doubled=True)
    results = passed(check_patches(patches, NO_SCENES))
    assert [name for name, good in results.items() if not good] == ["duplicates"]
    splits = GroupedSplit().split(patches)
    assert passed(check_splits(splits, patches)) == {"no_leakage": True, "every_class": True, "no_shared_pixels": False}


def test_too_many_blank_patches_are_noticed(tmp_path: Path) -> None:
    assert passed(check_patches(store(tmp_path / "few", blank=4), NO_SCENES))["blank_share"]
    assert not passed(check_patches(store(tmp_path / "many", blank=20), NO_SCENES))["blank_share"]


def test_unknown_codes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches = store(tmp_path / "store")
    wrong = np.array(patches.masks)
    wrong[3, 4, 5] = 7
    monkeypatch.setitem(patches._arrays, "masks", wrong)
    results = check_patches(patches, NO_SCENES)
    assert passed(results)["class_codes"] is False
    assert "7" in (results[0].description or "")


def test_a_group_in_two_splits_is_noticed(tmp_path: Path) -> None:
    patches = store(tmp_path / "store")
    splits = GroupedSplit().split(patches)
    table = splits.table.copy()
    table.loc[0, "group"] = table.loc[7, "group"]
    assert passed(check_splits(Splits(table, splits.details), patches))["no_leakage"] is False


def test_a_split_without_a_class_is_noticed(tmp_path: Path) -> None:
    masks = np.zeros((8, 16, 16), np.uint8)
    masks[:6, :8] = 1
    patches = store(tmp_path / "store", masks)
    splits = GroupedSplit().split(patches)
    # What a class is called decides nothing.
    renamed = splits.table.assign(classes=splits.table["classes"].str.replace("cloud", "more than one split"))
    for given in (splits, Splits(renamed, splits.details)):
        results = check_splits(given, patches)
        assert passed(results)["every_class"] is False
        assert "test" in (results[1].description or "")


@pytest.mark.parametrize(("iou", "better"), [(0.5, True), (0.3, False), (0.2, False)])
def test_a_model_no_better_than_a_rule_is_noticed(iou: float, better: bool) -> None:
    gate = Gate(metric="iou")
    evaluation = make_evaluation(metrics={"iou": iou, "baseline_iou": 0.3})
    assert passed(check_evaluation(evaluation, gate))["better_than_trivial"] is better
    comparison = compare({"unet": evaluation}, gate)
    assert passed(check_comparison(comparison)) == {"best_passes_gate": better}


def test_an_alias_on_another_model_is_noticed() -> None:
    assert passed(check_champion("a", "a")) == {"registry_agrees": True}
    assert passed(check_champion("a", "b")) == {"registry_agrees": False}
    assert passed(check_champion("a", None)) == {"registry_agrees": False}
