"""Class folders: every patch in the folder of its class and split, or nothing at all."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe
from cloud_assets.families.classification.class_folder_export import export_class_folders, label_masks
from cloud_assets.families.classification.coverage_labels import CoverageClasses
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays

NAMES = CoverageClasses().names


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[PatchStore, Splits]:
    masks = np.zeros((12, 20, 20), np.uint8)
    for number in range(12):
        masks[number, : 5 * (number % 4) + 3] = 1  # 15, 40, 65 and 90 percent
    images = np.full((12, 4, 20, 20), 3200, np.uint16)
    images[:, 0] = 1000
    images[0, :, 0, 0] = 0
    splits = ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    store = store_arrays(
        tmp_path / "store", images, masks, bands=["red", "green", "blue", "nir"], instrument="sentinel2_l1c",
        official_splits=splits, dataset="a/b",
    )  # fmt: skip
    return store, GroupedSplit().split(store)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("image_format", "suffix"), [("jpeg", ".jpg"), ("png", ".png"), ("geotiff", ".tif")])
def test_every_patch_is_in_the_folder_of_its_class(
    labelled: tuple[PatchStore, Splits], tmp_path: Path, image_format: str, suffix: str
) -> None:
    store, splits = labelled
    counts, _ = export_class_folders(store, splits, tmp_path / "out", image_format=image_format, progress=False)
    assert counts == {"train": dict.fromkeys(NAMES, 2), "test": dict.fromkeys(NAMES, 1)}
    with (tmp_path / "out" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tree(tmp_path / "out") == sorted([row["file"] for row in rows] + ["labels.csv"])
    shares = dict(zip(store.index["patch_id"], store.index["cloud_percentage"], strict=True))
    for row in rows:
        assert row["file"].split("/")[:2] == [row["split"], row["class"]]
        assert row["file"].endswith(suffix)
        assert float(row["cloud_percentage"]) == pytest.approx(shares[row["patch_id"]], abs=1e-3)
        assert row["class"] == NAMES[int(shares[row["patch_id"]] // 25)]


def test_pictures_show_reflectance_and_geotiffs_keep_the_numbers(
    labelled: tuple[PatchStore, Splits], tmp_path: Path
) -> None:
    store, splits = labelled
    export_class_folders(store, splits, tmp_path / "png", image_format="png", progress=False)
    export_class_folders(store, splits, tmp_path / "tif", image_format="geotiff", progress=False)
    picture = np.asarray(Image.open(sorted((tmp_path / "png" / "train" / "clear").iterdir())[0]))
    assert picture[5, 5].tolist() == [64, 204, 204]  # reflectance 0.1 and 0.32 of 0.4
    assert picture[0, 0].tolist() == [0, 0, 0]
    with rasterio.open(sorted((tmp_path / "tif" / "train" / "clear").iterdir())[0]) as raster:
        assert (raster.read() == store.array()[0]).all()
        assert raster.descriptions == ("red", "green", "blue", "nir")
        assert raster.nodata == 0


def test_validation_has_its_own_folder_or_none(labelled: tuple[PatchStore, Splits], tmp_path: Path) -> None:
    store, splits = labelled
    for validation, folders in [("separate", {"train", "validation", "test"}), ("leave_out", {"train", "test"})]:
        target = tmp_path / validation
        counts, _ = export_class_folders(store, splits, target, validation=validation, progress=False)
        assert {path.name for path in target.iterdir() if path.is_dir()} == folders
        assert sum(counts["train"].values()) == 4


def test_nobodys_files_are_replaced(labelled: tuple[PatchStore, Splits], tmp_path: Path) -> None:
    store, splits = labelled
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x")
    with pytest.raises(InvalidRecipe, match="no earlier export"):
        export_class_folders(store, splits, tmp_path / "mine", progress=False)
    assert tree(tmp_path / "mine") == ["thesis.doc"]
    export_class_folders(store, splits, tmp_path / "out", image_format="png", progress=False)
    export_class_folders(store, splits, tmp_path / "out", progress=False)
    assert not any(name.endswith(".png") for name in tree(tmp_path / "out"))


def test_failure_leaves_the_earlier_export(
    labelled: tuple[PatchStore, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, splits = labelled
    export_class_folders(store, splits, tmp_path / "out", progress=False)
    before = tree(tmp_path / "out")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cloud_assets.families.classification.class_folder_export._write_picture", full)
    with pytest.raises(OSError, match="No space"):
        export_class_folders(store, splits, tmp_path / "out", image_format="png", progress=False)
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_picture_without_visible_bands_is_refused(tmp_path: Path) -> None:
    images, masks = np.full((3, 1, 8, 8), 9, np.uint16), np.zeros((3, 8, 8), np.uint8)
    store = store_arrays(tmp_path / "store", images, masks, bands=["nir"], instrument="sentinel2_l1c")
    with pytest.raises(InvalidRecipe, match="GeoTIFF"):
        export_class_folders(store, GroupedSplit(stratify=None).split(store), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=mask.shape[0], width=mask.shape[1], dtype="uint8"
    ) as out:
        out.write(mask.astype(np.uint8), 1)


def test_any_folder_of_masks_gets_labels(tmp_path: Path) -> None:
    for number, cloudy_rows in enumerate((0, 3, 6, 10)):
        mask = np.full((10, 10), 7)
        mask[:cloudy_rows] = 9
        write_mask(tmp_path / "masks" / "deep" / f"{number}.tif", mask)
    write_mask(tmp_path / "masks" / "blank.tif", np.full((10, 10), 255))
    counts = label_masks(tmp_path / "masks", tmp_path / "labels.csv", {7: 0, 9: 1})
    assert counts == {**dict.fromkeys(NAMES, 1), "refused": 1}
    with (tmp_path / "labels.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert rows["deep/1.tif"] == {"file": "deep/1.tif", "cloud_percentage": "30.000", "class": "scattered"}
    assert rows["blank.tif"]["class"] == ""


def test_masks_with_unknown_codes_are_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "odd.tif", np.full((4, 4), 77))
    with pytest.raises(InvalidData, match=r"odd\.tif.*77"):
        label_masks(tmp_path / "masks", tmp_path / "labels.csv", {0: 0})
    assert not (tmp_path / "labels.csv").exists()
    with pytest.raises(DataNotFound):
        label_masks(tmp_path / "nothing", tmp_path / "labels.csv", {0: 0})
