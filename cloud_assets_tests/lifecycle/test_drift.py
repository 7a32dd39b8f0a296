"""Drift of a task: the reference in the card, and what is said of patches and scenes that come after it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import group_hash, reference_of
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.drift import drift_report, with_training_reference
from cloud_assets.lifecycle.drift_statistics import DriftRecipe
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets_tests.patch_arrays import store_arrays

RECIPE = DriftRecipe(resamples=199, warning=0.05, severe=0.02, windows=4)
BANDS = ("red", "green", "blue", "nir")


def patches(folder: Path, count: int, seed: int, first: int = 0, brighter: int = 0) -> PatchStore:
    """Patches of one group each, some brighter than others, half of each cloudy."""
    rng = np.random.default_rng(seed)
    level = rng.integers(6500, 9500, (count, 1, 1, 1))
    images = (level + rng.integers(0, 300, (count, 4, 16, 16)) + brighter).astype(np.uint16)
    images[:, :, :8] += 12000
    masks = np.zeros((count, 16, 16), np.uint8)
    masks[:, :8] = 1
    groups = [f"scene{first + number}" for number in range(count)]
    splits = (["train"] * 2 + ["validation", "test"]) * count
    return store_arrays(
        folder, images, masks, bands=BANDS, instrument="landsat8_l1", groups=groups, official_splits=splits[:count]
    )


@pytest.fixture
def known(tmp_path: Path) -> PatchStore:
    return patches(tmp_path / "known", 40, seed=0)


@pytest.fixture
def champion(known: PatchStore, tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]) -> ModelBundle:
    splits: Splits = GroupedSplit().split(known)
    run = TrainingRun("clouds", "unet", known, splits, tmp_path / "work", progress=False)
    bundle = tiny_bundle()
    return with_training_reference(bundle.with_card(patch_size=16), run)


def test_the_card_keeps_patches_not_only_averages(champion: ModelBundle, known: PatchStore, tmp_path: Path) -> None:
    champion.save(tmp_path / "model")
    reference = reference_of(ModelBundle.open(tmp_path / "model").card)
    assert len(reference.image_groups) == 40
    assert len(reference.answer_groups) == 20  # validation and test: the model did not learn from them
    assert set(reference.answers) == {"cloud_fraction", "confidence"}
    assert group_hash("scene0") in reference.known_groups
    physical = known.array()[0, 0].astype(np.float64) * 2e-5 - 0.1
    assert reference.images["mean_red"][0] == pytest.approx(physical.mean(), rel=1e-4)
    assert reference.images["dark_red"][0] == pytest.approx(np.percentile(physical, 2), rel=1e-4)


def test_nothing_new_is_no_drift(champion: ModelBundle, known: PatchStore, tmp_path: Path) -> None:
    report = drift_report("clouds", champion, known, tmp_path / "scenes", None, RECIPE)
    assert (report.level, list(report.batches)) == ("steady", [])
    assert "No scene" in report.notes[0]
    report.save(tmp_path / "report")


@pytest.mark.parametrize(("brighter", "level"), [(0, "steady"), (6000, "severe")])
def test_new_patches_are_judged(champion: ModelBundle, tmp_path: Path, brighter: int, level: str) -> None:
    new = patches(tmp_path / "new", 20, seed=1, first=100, brighter=brighter)
    report = drift_report("clouds", champion, new, tmp_path / "scenes", None, RECIPE)
    (batch,) = report.batches
    assert (batch.kind, batch.level, batch.groups) == ("new patches", level, 20)
    again = drift_report("clouds", champion, new, tmp_path / "scenes", report, RECIPE)
    assert again.data_version == report.data_version


def predicted(folder: Path, name: str, brighter: int) -> None:
    """A scene on disk, and the record of its products."""
    rng = np.random.default_rng(len(name) + brighter)
    pixels = (int(rng.integers(6500, 9500)) + rng.integers(0, 300, (4, 32, 32)) + brighter).astype(np.uint16)
    pixels[:, :16] += 12000
    path = folder / f"{name}.tif"
    with rasterio.open(path, "w", "GTiff", width=32, height=32, count=4, dtype="uint16") as raster:
        raster.write(pixels)
        raster.descriptions = BANDS
        raster.update_tags(CLOUD_ASSETS_INSTRUMENT="landsat8_l1")
    directory = folder / "scenes" / name
    directory.mkdir(parents=True)
    record = SceneProducts(name, directory, {}, {}, {"clouds/unet": "1"}, (), str(path), fingerprint=name * 8)
    record.save(directory)


def test_scenes_are_looked_at_once_and_together(
    champion: ModelBundle, known: PatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_assets.imagery.formats.scene_formats import open_scene
    from cloud_assets.lifecycle import drift

    monkeypatch.setattr(drift, "open_scene", lambda path: open_scene(path, BANDS, "landsat8_l1"))
    for number in range(12):
        predicted(tmp_path, f"scene_{number}", brighter=6000)
    report = drift_report("clouds", champion, known, tmp_path / "scenes", None, RECIPE)
    kinds = [batch.kind for batch in report.batches]
    assert kinds == ["scene"] * 12 + ["recent scenes"]
    assert report.level == "severe"
    assert report.features is not None
    report.save(tmp_path / "report")
    again = drift_report("clouds", champion, known, tmp_path / "scenes", type(report).open(tmp_path / "report"), RECIPE)
    assert again.data_version == report.data_version
    predicted(tmp_path, "another", brighter=0)
    more = drift_report("clouds", champion, known, tmp_path / "scenes", again, RECIPE)
    assert [batch.kind for batch in more.batches[-2:]] == ["scene", "recent scenes"]


def test_a_card_of_an_older_form_says_what_to_do(
    known: PatchStore, tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]
) -> None:
    old = tiny_bundle()
    old = old.with_card(details={**old.card.details, "training_reference": {"mean": [0.1]}})
    report = drift_report("clouds", old, known, tmp_path / "scenes", None, RECIPE)
    assert report.is_blind
    assert "schema version 1" in report.notes[0]
    assert "Train the model again" in report.notes[0]
