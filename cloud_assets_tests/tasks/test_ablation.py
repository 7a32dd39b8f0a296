"""Ablations on a task that a tiny network can learn: bright squares are cloud."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.errors import InvalidModel, InvalidRecipe, InvalidReport
from cloud_assets.families.segmentation.ablation_recipe import PLAIN, AblationRecipe, Ingredient
from cloud_assets.families.segmentation.few_labels import RANDOM_SENSORS
from cloud_assets.families.segmentation.mask_rules import UkisMask
from cloud_assets.families.segmentation.mask_scores import MaskScores, score_masks
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.learning.optimisation import Optimisation
from cloud_assets.lifecycle.ablation import ablate, publish, taken_apart
from cloud_assets.lifecycle.ablation_result import Ablation
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.from_arrays import store_arrays
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets.tasks import ALL_TASKS, cloud_anomaly, cloudsen12_segmentation, landsat_segmentation
from cloud_assets.tasks.task import Task
from cloud_assets.tracking import Tracker

BANDS = ("red", "green", "blue", "nir")
BASE = Segmentation(
    network=UNet(width=2, depth=1),
    crop=None,
    clip=(0.0, 1.2),
    simulated_patches=4,
    optimisation=Optimisation(batch_size=2, patience=None, threads=1),
)
RECIPE = AblationRecipe(
    ingredients=(
        Ingredient(name="simulated patches", changes={"simulated_fraction": 0.5, "simulated_validation": 2}),
        Ingredient(name="averaged weights", changes={"optimisation.weight_averaging": 0.9}),
    ),
    seeds=(0, 1),
    epochs=1,
    steps_per_epoch=2,
    judged_patches=2,
    curve=(2,),
    peers=("brightness",),
)


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchStore, Splits]:
    rng = np.random.default_rng(0)
    images = rng.integers(500, 1500, (9, 4, 32, 32)).astype(np.uint16)
    masks = np.zeros((9, 32, 32), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        row, column = rng.integers(0, 16, 2)
        image[:, row : row + 16, column : column + 16] += 5000
        mask[row : row + 16, column : column + 16] = 1
    store = store_arrays(
        tmp_path_factory.mktemp("patches") / "store",
        images,
        masks,
        bands=BANDS,
        instrument="sentinel2_l1c",
        official_splits=["train"] * 5 + ["validation"] * 2 + ["test"] * 2,
    )
    return store, GroupedSplit().split(store)


@pytest.fixture(scope="module")
def task() -> Task:
    return replace(
        landsat_segmentation.TASK, name="squares", variants={"small": BASE}, optional_variants=(), ablation=RECIPE
    )


@pytest.fixture(scope="module")
def done(
    task: Task, patches: tuple[PatchStore, Splits], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, Path, list[str]]:
    folder, said = tmp_path_factory.mktemp("ablation"), list[str]()
    return ablate(task, RECIPE, *patches, folder, tell=said.append, progress=False), folder, said


def test_each_row_is_trained_with_each_seed_and_judged_alike(done: tuple[Ablation, Path, list[str]]) -> None:
    found, _, said = done
    summary, trainings = found.tables["summary"], found.tables["trainings"]
    assert summary["row"].tolist() == [PLAIN, "simulated patches", "averaged weights", "brightness threshold"]
    assert summary["trainings"].tolist() == [2, 2, 2, 0]
    assert summary["test_iou"].notna().all()
    assert summary.set_index("row").loc["brightness threshold", "test_iou"] > 0.95
    assert trainings["seed"].tolist()[:6] == [0, 1] * 3
    mean = trainings.loc[trainings["row"] == PLAIN, "hardened_iou"].mean()
    assert summary.set_index("row").loc[PLAIN, "hardened_iou"] == pytest.approx(mean)
    assert found.tables["curve"]["patches"].tolist() == [2]
    assert found.tables["curve"]["all_iou"].notna().all()
    assert len(said) == 7
    assert {"iou", "curve"} <= set(found.figures)
    assert all(picture.startswith(b"\x89PNG") for picture in found.figures.values())


def test_a_finished_training_is_not_done_again(
    done: tuple[Ablation, Path, list[str]],
    task: Task,
    patches: tuple[PatchStore, Splits],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, folder, _ = done
    said: list[str] = []
    kept = sorted(path for path in folder.rglob("model/*"))
    times = [path.stat().st_mtime_ns for path in kept]
    again = ablate(task, RECIPE, *patches, folder, tell=said.append, progress=False)
    assert all("(kept)" in line for line in said)
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert again.data_version == before.data_version
    one_more = RECIPE.model_copy(update={"seeds": (0, 1, 2), "curve": ()})
    said.clear()
    ablate(task, one_more, *patches, folder, tell=said.append, progress=False)
    assert sum("(trained)" in line for line in said) == 3


def test_it_is_saved_and_opened(done: tuple[Ablation, Path, list[str]], tmp_path: Path) -> None:
    found, _, _ = done
    found.save(tmp_path / "ablation")
    opened = Ablation.open(tmp_path / "ablation")
    assert opened.data_version == found.data_version
    assert opened.metrics() == pytest.approx(found.metrics())
    page = (tmp_path / "ablation" / "report.html").read_text(encoding="utf-8")
    assert "averaged weights" in page
    assert "±" in page
    (tmp_path / "ablation" / "ablation.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidReport, match="trainings are kept"):
        Ablation.open(tmp_path / "ablation")


def test_it_is_logged_once(done: tuple[Ablation, Path, list[str]], tracker: Tracker) -> None:
    found, folder, _ = done
    first = publish(found, folder, tracker, tags={}, warn=pytest.fail)
    assert first is not None
    assert publish(found, folder, tracker, tags={}, warn=pytest.fail) == first
    away: list[str] = []
    assert publish(found, folder, Tracker("http://127.0.0.1:9"), tags={}, warn=away.append) is None
    assert len(away) == 1


def test_any_name_of_a_row_can_be_logged(done: tuple[Ablation, Path, list[str]], tracker: Tracker) -> None:
    found, folder, _ = done
    tables = {name: table.replace("averaged weights", "averaged, slowly (0.9)") for name, table in found.tables.items()}
    run_id = publish(replace(found, tables=tables), folder, tracker, tags={}, warn=pytest.fail)
    assert run_id is not None
    with tracker.reached() as client:
        metrics = client.get_run(run_id).data.metrics
    expected = found.metrics()["averaged weights/hardened_iou"]
    assert metrics["averaged slowly 0.9/hardened_iou"] == pytest.approx(expected)


def test_no_real_pixel_decides_about_the_learning_curve() -> None:
    for count, row in RECIPE.curve_rows(BASE).items():
        assert (row.simulated_fraction, row.composited_fraction, row.real_validation) == (1.0, 0.0, False)
        assert row.simulated_patches == count
        assert row.simulated_validation > 0
    for declared in (cloudsen12_segmentation.TASK, landsat_segmentation.TASK):
        assert declared.ablation is not None
        base = taken_apart(declared, declared.ablation)[1]
        (row,) = declared.ablation.model_copy(update={"curve": (50,)}).curve_rows(base).values()
        assert getattr(row.network, "encoder_weights", "none") == "none"
    with pytest.raises(ValueError, match="simulated_validation patches are needed"):
        Segmentation(network=UNet(), real_validation=False)


def test_rows_are_cumulative_and_train_equally_long() -> None:
    rows = list(RECIPE.rows(BASE).values())
    assert [row.simulated_fraction for row in rows] == [0, 0.5, 0.5]
    assert [row.optimisation.weight_averaging for row in rows] == [None, None, 0.9]
    assert {(row.optimisation.max_epochs, row.optimisation.budget_minutes) for row in rows} == {(1, None)}
    with pytest.raises(InvalidRecipe, match="no field"):
        AblationRecipe(ingredients=(Ingredient(name="typo", changes={"simulated_part": 1}),)).rows(BASE)
    with pytest.raises(ValueError, match="different names"):
        AblationRecipe(ingredients=(Ingredient(name=PLAIN, changes={}),))


@pytest.mark.parametrize("declared", [task for task in ALL_TASKS if task.ablation], ids=lambda one: one.name)
def test_the_last_row_of_a_task_is_its_own_recipe_on_random_sensors(declared: Task) -> None:
    assert declared.ablation is not None
    variant, base = taken_apart(declared, declared.ablation)
    last = list(declared.ablation.rows(base).values())[-1]
    own = {"optimisation", "augmentation"}
    assert last.augmentation == RANDOM_SENSORS
    assert last.model_dump(exclude=own) == declared.variants[variant].model_dump(exclude=own)  # type: ignore[call-arg]


def test_weights_from_simulation_are_an_ingredient_of_the_recipe_that_starts_from_them() -> None:
    declared = cloudsen12_segmentation.TASK
    assert declared.ablation is not None
    rows = declared.ablation.rows(taken_apart(declared, declared.ablation)[1])
    weights = {name: row.network.encoder_weights for name, row in rows.items()}  # type: ignore[union-attr]
    assert weights.pop("weights from simulation") == "simulation"
    assert set(weights.values()) == {"none"}


def test_rows_that_cannot_start_are_refused_before_anything_is_trained(
    patches: tuple[PatchStore, Splits], tmp_path: Path
) -> None:
    declared = cloudsen12_segmentation.TASK
    assert declared.ablation is not None
    recipe = declared.ablation.model_copy(update={"variant": "unet_any_sensor", "epochs": 1, "steps_per_epoch": 1})
    with pytest.raises(InvalidModel, match="normalisation range instead of patch_standardise"):
        ablate(declared, recipe, *patches, tmp_path, tell=lambda said: None, progress=False)
    assert not list(tmp_path.rglob("model"))
    assert landsat_segmentation.TASK.ablation is not None
    other = landsat_segmentation.TASK.ablation.model_copy(update={"variant": "unet_efficientnet_b2"})
    rows = other.rows(taken_apart(landsat_segmentation.TASK, other)[1])
    assert {row.network.encoder_weights for row in rows.values()} == {"none"}  # type: ignore[union-attr]


def test_the_report_says_which_rows_had_other_steps(
    task: Task, patches: tuple[PatchStore, Splits], tmp_path: Path
) -> None:
    longer = Ingredient(name="longer", changes={"optimisation.steps_per_epoch": 3})
    recipe = RECIPE.model_copy(update={"ingredients": (longer,), "seeds": (0,), "curve": (), "peers": ()})
    found = ablate(task, recipe, *patches, tmp_path, tell=lambda said: None, progress=False)
    assert "for 2 steps, 'longer' for 3." in found.notes[0]


def test_only_segmentations_are_taken_apart() -> None:
    with pytest.raises(InvalidRecipe, match="segment"):
        taken_apart(cloud_anomaly.TASK, RECIPE)


class Fixed:
    """A rule that gives back one mask."""

    def __init__(self, mask: np.ndarray) -> None:
        self._mask = mask

    def mask(self, dn: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._mask, (len(dn), *self._mask.shape))


def test_hard_places_are_counted_apart(tmp_path: Path) -> None:
    """Known answer: a thick square of 20 pixels, a thin strip, a strip of bright ground."""
    truth = np.zeros((1, 40, 40), np.uint8)
    truth[0, 10:30, 10:30] = 1
    truth[0, 10:30, 30:35] = 2
    dn = np.full((1, 4, 40, 40), 800, np.uint16)
    dn[0, :, :4] = 4000
    store = store_arrays(tmp_path / "store", dn, truth, bands=BANDS, instrument="sentinel2_l1c")
    found = np.zeros((40, 40), np.uint8)
    found[14:26, 14:30] = 1
    found[:2] = 1
    scores = score_masks(Fixed(found), store, np.array([0]), bright_ground=0.25)
    metrics = scores.metrics()
    assert metrics["recall_thin"] == 0
    assert metrics["recall_thick"] == pytest.approx(12 * 16 / 400)
    assert metrics["recall_inside"] == pytest.approx(12 * 16 / (12 * 17))
    assert metrics["recall_edge"] == 0
    assert metrics["false_on_bright_ground"] == 0.5
    assert metrics["precision"] == pytest.approx(12 * 16 / (12 * 16 + 80))
    doubled = scores + scores
    assert doubled.metrics() == pytest.approx(metrics)
    assert MaskScores.from_json(doubled.as_json()).metrics() == pytest.approx(metrics)


def test_the_peer_finds_simulated_stratus(tmp_path: Path) -> None:
    pytest.importorskip("ukis_csmask")
    skies = dict.fromkeys(CloudRecipe().kinds, 0.0) | {"stratus": 1.0, "contrails": 0.0}
    recipe = SimulationRecipe(
        ground=GroundRecipe(pixel_metres=(30.0, 30.0)),
        clouds=CloudRecipe.model_validate(skies),
        sensor=SensorRecipe(wedge_chance=1.0, saturation_chance=0.0),
    )
    store = simulated_store(
        tmp_path, instrument="landsat8_l1", bands=BANDS, size=256, count=6, recipe=recipe, workers=1, progress=False
    )
    rule = UkisMask.fitting(store.roles[IMAGES])
    assert rule is not None
    mask = rule.mask(store.array())
    np.testing.assert_array_equal(mask == 255, store.masks == 255)
    assert score_masks(rule, store, np.arange(6), bright_ground=0.25).metrics()["recall"] > 0.8


def test_the_peer_is_left_out_without_its_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dn = np.ones((1, 3, 16, 16), np.uint16)
    store = store_arrays(
        tmp_path / "store", dn, np.zeros((1, 16, 16), np.uint8), bands=BANDS[:3], instrument="sentinel2_l1c"
    )
    assert UkisMask.fitting(store.roles[IMAGES]) is None
