"""38-Cloud in its own layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import DataNotFound, InvalidData

NAMES = [f"patch_{index}_{row}_by_1_LC08_00{scene}" for index, (row, scene) in enumerate([(1, 1), (2, 1), (1, 2)])]


@pytest.fixture
def data_root(tmp_path: Path, cloud38_patch: Callable[..., None]) -> Path:
    for name in NAMES:
        cloud38_patch(tmp_path / "38-cloud", name)
    return tmp_path


def training(data_root: Path, *parts: str) -> Path:
    return data_root.joinpath("38-cloud", "38-Cloud_training", *parts)


def catalog(data_root: Path, **options: object) -> SceneCatalog:
    return Cloud38(**options).catalog(data_root, progress=False)  # type: ignore[arg-type]


def test_patches_have_four_bands_truth_and_the_scene_as_group(data_root: Path) -> None:
    found = catalog(data_root)
    assert [scene.scene_id for scene in found] == sorted(NAMES)
    assert [scene.group for scene in found] == ["LC08_001", "LC08_001", "LC08_002"]
    scene = found.scenes[0]
    assert scene.instrument == "landsat8_l1"
    assert scene.read(["red", "green", "blue", "nir"]).shape == (4, 8, 8)
    assert set(scene.bands) == {"B4", "B3", "B2", "B5"}
    assert set(np.unique(scene.read_truth())) == {0, 1}
    assert not found.skipped


def test_a_changed_pixel_changes_the_data_version_and_nothing_else_does(
    data_root: Path, raster: Callable[..., Path]
) -> None:
    before = catalog(data_root)
    assert catalog(data_root).data_version == before.data_version
    for path in (Path(before.scenes[0].bands["B5"].path), Path(before.scenes[0].truth.path)):  # type: ignore[union-attr]
        old = path.read_bytes()
        pixels = before.scenes[0].read(["nir"])[0] if "nir" in path.name else np.zeros((8, 8), np.uint8)
        pixels[0, 0] ^= 1
        raster(path, pixels)
        assert catalog(data_root).data_version != before.data_version
        path.write_bytes(old)
    assert catalog(data_root).data_version == before.data_version


def test_one_bad_patch_of_many_is_skipped_with_its_reason(
    data_root: Path, raster: Callable[..., Path], truncate: Callable[..., None]
) -> None:
    training(data_root, "train_nir", f"nir_{NAMES[0]}.TIF").unlink()
    with pytest.raises(InvalidData, match=r"patch_0.*no file in train_nir"):
        catalog(data_root)
    found = catalog(data_root, max_skipped_fraction=0.5)
    assert [(item.item, item.reason) for item in found.skipped] == [(NAMES[0], "there is no file in train_nir")]
    assert len(found) == 2


def test_each_kind_of_bad_file_is_told_apart(
    data_root: Path, raster: Callable[..., Path], truncate: Callable[..., None], cloud38_patch: Callable[..., None]
) -> None:
    truncated = training(data_root, "train_red", f"red_{NAMES[0]}.TIF")
    truncate(truncated, 0.7)
    training(data_root, "train_blue", f"blue_{NAMES[1]}.TIF").write_text("no raster")
    raster(training(data_root, "train_gt", f"gt_{NAMES[2]}.TIF"), np.zeros((4, 8), np.uint8))
    for index, name in enumerate(extra := [f"patch_{number}_1_by_1_LC08_003" for number in range(10, 15)]):
        truth = np.full((8, 8), 7, np.uint8) if index == 0 else None
        cloud38_patch(data_root / "38-cloud", name, truth=truth)
    raster(training(data_root, "train_green", f"green_{extra[1]}.TIF"), np.ones((8, 8), np.uint8))
    raster(training(data_root, "train_green", f"green_{extra[2]}.TIF"), np.ones((8, 8), np.float32))
    training(data_root, "train_gt", f"gt_{extra[3]}.TIF").unlink()
    reasons = {item.item: item.reason for item in catalog(data_root, max_skipped_fraction=0.9).skipped}
    assert "truncated" in reasons[NAMES[0]]
    assert str(truncated) in reasons[NAMES[0]]
    assert "no raster" in reasons[NAMES[1]]
    assert "has 4x8 pixels, the image has 8x8" in reasons[NAMES[2]]
    assert "label code(s) 7" in reasons[extra[0]]
    assert "uint8" in reasons[extra[1]]
    assert "uint16" in reasons[extra[1]]
    assert "float32" in reasons[extra[2]]
    assert "no file in train_gt" in reasons[extra[3]]
    assert len(reasons) == 7


def test_eight_bit_copies_are_scaled_as_such_but_not_mixed_with_the_original(
    tmp_path: Path, cloud38_patch: Callable[..., None]
) -> None:
    for name in NAMES:
        cloud38_patch(tmp_path / "38-cloud", name, dtype="uint8")
    assert {scene.instrument for scene in catalog(tmp_path)} == {"landsat8_l1_8bit"}
    cloud38_patch(tmp_path / "38-cloud", "patch_9_1_by_1_LC08_009", dtype="uint16")
    with pytest.raises(InvalidData, match=r"3 x uint8.*1 x uint16|1 x uint16.*3 x uint8") as caught:
        catalog(tmp_path)
    assert "red_patch_9_1_by_1_LC08_009.TIF" in str(caught.value)


def test_official_lists_are_honoured(data_root: Path) -> None:
    training(data_root, "training_patches_38-Cloud.csv").write_text("name\n" + "\n".join(NAMES[:2]) + "\n")
    found = catalog(data_root)
    assert [scene.scene_id for scene in found] == NAMES[:2]
    assert any("1 patches in 38-Cloud_training are not in its list" in note for note in found.notes)
    with pytest.raises(InvalidData, match=r"training_patches_38-cloud_nonempty\.csv"):
        catalog(data_root, nonempty_only=True)
    training(data_root, "training_patches_38-cloud_nonempty.csv").write_text("name\n" + NAMES[2] + "\n")
    assert [scene.scene_id for scene in catalog(data_root, nonempty_only=True)] == [NAMES[2]]


def test_a_listed_patch_without_files_is_reported(data_root: Path) -> None:
    training(data_root, "training_patches_38-Cloud.csv").write_text("name\n" + "\n".join([*NAMES, "patch_7_1_by_1_X"]))
    found = catalog(data_root, max_skipped_fraction=0.3)
    assert [item.item for item in found.skipped] == ["patch_7_1_by_1_X"]


def test_a_local_split_list_is_honoured(data_root: Path) -> None:
    rows = [
        f"{name},s{index},{split}"
        for index, (name, split) in enumerate(zip(NAMES, ("train", "val", "test"), strict=True))
    ]
    (data_root / "38-cloud" / "splits.csv").write_text("name,scene_id,split\n" + "\n".join(rows))
    assert [scene.split for scene in catalog(data_root)] == ["train", "validation", "test"]


def test_test_patches_are_cut_out_of_their_scene_so_that_the_official_stitching_gives_it_back(
    data_root: Path, cloud38_patch: Callable[..., None], raster: Callable[..., Path]
) -> None:
    """Scenes of odd sizes are padded around their centre; stitching and un-padding must be the inverse."""
    height, width, size = 19, 13, 8
    scene_mask = (np.arange(height * width).reshape(height, width) % 3 == 0).astype(np.uint8)
    mask_folder = data_root / "38-cloud" / "38-Cloud_test" / "Entire_scene_gts"
    raster(mask_folder / "edited_corrected_gts_LC08_test.TIF", scene_mask)
    for row in (1, 2, 3):
        for column in (1, 2):
            cloud38_patch(data_root / "38-cloud", f"patch_{row}{column}_{row}_by_{column}_LC08_test", half="test")
    cloud38_patch(data_root / "38-cloud", "patch_99_1_by_1_LC08_without_mask", half="test")
    found = catalog(data_root)
    tested = [scene for scene in found if scene.split == "test"]
    assert len(tested) == 6
    assert {scene.group for scene in tested} == {"LC08_test"}
    assert any("1 test patches have no mask" in note for note in found.notes)
    stitched = np.zeros((3 * size, 2 * size), np.uint8)
    for scene in tested:
        row, column = (int(scene.attributes[key]) - 1 for key in ("patch_row", "patch_column"))
        stitched[row * size : (row + 1) * size, column * size : (column + 1) * size] = scene.read_truth()
    top, left = (3 * size - height) // 2, (2 * size - width) // 2  # floor, as the official evaluation does
    np.testing.assert_array_equal(stitched[top : top + height, left : left + width], scene_mask)
    stitched[top : top + height, left : left + width] = 255
    assert (stitched == 255).all()
    assert len(catalog(data_root, use_test=False)) == 3


def test_a_patch_outside_its_scene_is_reported(
    data_root: Path, cloud38_patch: Callable[..., None], raster: Callable[..., Path]
) -> None:
    masks = data_root / "38-cloud" / "38-Cloud_test" / "Entire_scene_gts"
    raster(masks / "edited_corrected_gts_LC08_test.TIF", np.zeros((8, 8), np.uint8))
    cloud38_patch(data_root / "38-cloud", "patch_1_3_by_1_LC08_test", half="test")
    found = catalog(data_root, max_skipped_fraction=0.5)
    assert "outside its scene of 1 x 1 patches" in found.skipped[0].reason


def test_a_folder_without_the_training_half_says_what_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "38-cloud").mkdir()
    with pytest.raises(DataNotFound, match=r"38-Cloud_training/ is not in.*unpack"):
        catalog(tmp_path)


def test_real_patches(real_data: Path) -> None:
    found = catalog(real_data)
    assert len(found) == 36
    assert found.summary()["splits"] == {"test": 5, "train": 23, "validation": 8}
    assert found.summary()["groups"] == 36
    scene = next(scene for scene in found if scene.scene_id.endswith("Water_02_1010"))
    reflectance = scene.band_instrument("B4").to_physical(scene.read(["red", "nir"]))
    assert 0 < float(np.median(reflectance)) < 0.1  # open water is dark
