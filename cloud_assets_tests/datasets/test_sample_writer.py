import tarfile
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.datasets.cloudsen12 import CloudSEN12
from cloud_assets.datasets.dataset import Dataset
from cloud_assets.datasets.image_folders import ImageFolders
from cloud_assets.datasets.samples import (
    SYNTHETIC_MARKER,
    cloud38_sample,
    cloudsen12_sample,
    image_folders_sample,
    sample_writer,
    sen12ms_sample,
)
from cloud_assets.datasets.samples.sample_writer import WRITERS, write_sample
from cloud_assets.datasets.sen12ms import Sen12MS
from cloud_assets.errors import InvalidData, InvalidRecipe

SMALL = 0.01


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Shrinks the pictures, not the layouts."""
    patch.setattr(cloudsen12_sample, "REAL_SIZE", 93)
    patch.setattr(cloudsen12_sample, "PADDED_SIZE", 96)
    patch.setattr(cloud38_sample, "HEIGHTS", (100, 140))
    patch.setattr(cloud38_sample, "WIDTHS", (150, 200))
    patch.setattr(cloud38_sample, "PATCH", 64)
    patch.setattr(sen12ms_sample, "PATCH", 64)
    patch.setattr(image_folders_sample, "LARGEST", 256)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        written = write_sample(root, scale=SMALL, seed=3, progress=False, workers=1)
    assert [one.dataset for one in written] == list(WRITERS)
    assert all(one.megabytes > 0 and one.contents for one in written)
    return root


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("dataset", [CloudSEN12(), Cloud38(), Sen12MS(), ImageFolders()])
def test_real_readers_read_it_and_know_that_it_is_synthetic(dataset: Dataset, sample: Path, tmp_path: Path) -> None:
    catalog = dataset.catalog(sample, cache=tmp_path, progress=False)
    assert catalog.is_synthetic
    assert not catalog.skipped
    assert len(catalog) >= 15
    first = catalog.scenes[0]
    pixels = first.read(["red", "green", "blue"])
    assert pixels.shape[0] == 3
    assert "simulated" in (sample / dataset.folder / SYNTHETIC_MARKER).read_text()


def test_cloudsen12_has_splits_regions_label_types_and_padding(sample: Path) -> None:
    catalog = CloudSEN12().catalog(sample, progress=False)
    assert set(catalog.summary()["splits"]) == {"train", "validation", "test"}
    assert {scene.label_type for scene in catalog.scenes} == {"high", "scribble"}
    splits: dict[str, set[str | None]] = {}
    for scene in catalog.scenes:
        splits.setdefault(scene.group, set()).add(scene.split)
        assert scene.grid().height == scene.grid().width == 93
        assert scene.grid().crs
    assert all(len(found) == 1 for found in splits.values())
    codes = {int(code) for scene in catalog.scenes for code in np.unique(scene.read_truth())}
    assert codes == {0, 1, 2, 3, 255}


def test_cloudsen12_layout_is_that_of_the_published_files(sample: Path, real_data: Path) -> None:
    """Same columns, same inner files, same bands as the TACO file of real pixels."""
    import tacoreader.v1

    ours, theirs = (
        tacoreader.v1.load(str(root / "cloudsen12" / cloudsen12_sample.FILE_NAME)) for root in (sample, real_data)
    )
    assert set(theirs.columns) <= set(ours.columns)
    assert ours["is_synthetic"].all()
    rows = [table.read(0) for table in (ours, theirs)]
    assert rows[0]["tortilla:id"].tolist() == rows[1]["tortilla:id"].tolist()
    for index in (0, 1):
        with rasterio.open(rows[0].read(index)) as mine, rasterio.open(rows[1].read(index)) as real:
            assert (mine.count, mine.dtypes) == (real.count, real.dtypes)
            assert "SYNTHETIC" in mine.tags()["TIFFTAG_IMAGEDESCRIPTION"]
            if index == 0:
                pixels = mine.read()
                assert mine.descriptions == INSTRUMENTS["sentinel2_l1c"].names
    assert not pixels[:, 93:].any()
    assert not pixels[:, :, 93:].any()
    assert pixels[:, :93, :93].any(0).mean() > 0.5


def test_cloudsen12_percentages_are_those_of_the_labels(sample: Path) -> None:
    for scene in CloudSEN12(label_types=("high",)).catalog(sample, progress=False).scenes[:6]:
        truth = scene.read_truth()
        assert scene.attributes["thick_percentage"] == pytest.approx((truth == 1).mean() * 100, abs=0.01)


def test_landsat_scenes_have_slanted_blank_edges_and_centred_padding(sample: Path) -> None:
    folder = sample / "38-cloud"
    assert (folder / "38-Cloud_training" / "training_patches_38-Cloud.csv").read_text().startswith("name")
    catalog = Cloud38().catalog(sample, progress=False)
    instrument = INSTRUMENTS["landsat8_l1"]
    valid = [float(instrument.valid(scene.read(["red", "green", "blue", "nir"])).mean()) for scene in catalog.scenes]
    assert min(valid) < 0.7
    assert max(valid) > 0.9
    for scene in catalog.scenes:
        pixels, truth = scene.read(["red", "green", "blue", "nir"]), scene.read_truth()
        assert pixels.dtype == np.uint16
        # Nobody labels what was not observed.
        assert not (truth[~instrument.valid(pixels)] == 1).any()
    masks = sorted((folder / "38-Cloud_test" / "Entire_scene_gts").glob("*.TIF"))
    with rasterio.open(masks[0]) as raster:
        assert set(np.unique(raster.read(1))) <= {0, 255}
        assert raster.height % 64 or raster.width % 64


def test_radar_pairs_lie_on_the_same_grid(sample: Path, tmp_path: Path) -> None:
    for scene in Sen12MS().catalog(sample, cache=tmp_path, progress=False).scenes[:4]:
        radar = scene.read(["VV", "VH"])
        assert radar.dtype == np.float32
        assert -30 <= radar.min() <= radar.max() <= 5
        assert scene.read(["red"]).shape[1:] == radar.shape[1:]
        assert scene.grid().transform[0] == 10
    with tarfile.open(sample / "sen12ms" / "ROIs2017_winter_s2_cloudy.tar.gz") as archive:
        names = archive.getnames()
    assert "ROIs2017_winter/s2_cloudy_1/ROIs2017_winter_s2_cloudy_1_p30.tif" in names


def test_pictures_vary_in_size_and_kind_and_name_the_hard_ones(sample: Path) -> None:
    catalog = ImageFolders().catalog(sample, progress=False)
    names = [scene.scene_id for scene in catalog.scenes]
    for hard in ("snow_", "sand_", "glint_", "salt_"):
        assert any(name.startswith(f"noncloud/{hard}") for name in names)
    assert {Path(name).suffix for name in names} == {".png", ".jpg"}
    assert not any("constant" in scene.attributes for scene in catalog.scenes)
    assert any(b"SYNTHETIC" in path.read_bytes() for path in (sample / "cloud-anomaly" / "cloud").glob("*.jpg"))


@pytest.mark.parametrize("name", list(WRITERS))
def test_same_seed_same_bytes_and_another_seed_other_pixels(
    name: str, small: None, sample: Path, tmp_path: Path
) -> None:
    write_sample(tmp_path / "again", (name,), scale=SMALL, seed=3, progress=False, workers=1)
    write_sample(tmp_path / "other", (name,), scale=SMALL, seed=4, progress=False, workers=1)
    first, again, other = (digest(root / name) for root in (sample, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert len(set(first.values()) & set(other.values())) < len(other) / 3  # blank patches are all alike


def test_processes_make_the_same_pixels(tmp_path: Path) -> None:
    """At full size, because new processes do not see what a fixture shrank."""
    for workers in (1, 2):
        write_sample(tmp_path / str(workers), ("cloud-anomaly",), scale=SMALL, seed=1, progress=False, workers=workers)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


def test_replacing_a_sample_is_all_or_nothing(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path, ("38-cloud",), scale=SMALL, progress=False, workers=1)
    before = digest(tmp_path)
    written = 0
    write = sample_writer.write_geotiff

    def full_disk(*arguments: object, **options: object) -> None:
        nonlocal written
        written += 1
        if written > 20:
            raise OSError(28, "No space left on device")
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cloud38_sample, "write_geotiff", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_sample(tmp_path, ("38-cloud",), scale=SMALL, seed=9, progress=False, workers=1)
    assert digest(tmp_path) == before


def test_data_that_are_no_sample_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cloudsen12"
    folder.mkdir()
    (folder / "my.taco").write_bytes(b"mine")
    with pytest.raises(InvalidData, match="left untouched"):
        write_sample(tmp_path, ("cloudsen12",), progress=False)
    assert (folder / "my.taco").read_bytes() == b"mine"


def test_unknown_data_set_and_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"eurosat.*cloudsen12"):
        write_sample(tmp_path, ("eurosat",))
    with pytest.raises(InvalidRecipe, match="above 0"):
        write_sample(tmp_path, scale=0)
    assert not any(tmp_path.iterdir())


def test_every_data_set_has_a_writer() -> None:
    assert set(sample_writer.WRITERS) == {kind.folder for kind in (CloudSEN12, Cloud38, Sen12MS, ImageFolders)}
