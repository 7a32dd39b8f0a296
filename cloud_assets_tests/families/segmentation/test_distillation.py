"""Small networks learn what larger ones say."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, log_loss

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import InvalidModel, InvalidRecipe
from cloud_assets.families import load_predictor
from cloud_assets.families.segmentation.batches import PatchSource
from cloud_assets.families.segmentation.distillation import CERTAIN, distance, teacher_answers
from cloud_assets.families.segmentation.recipe import Distillation, Segmentation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.toy_task import BANDS, bright_squares

Recipe = Callable[..., Segmentation]
Run = Callable[..., TrainingRun]


@pytest.fixture
def teacher(toy_recipe: Recipe, toy_run: Run, tmp_path: Path) -> Path:
    bundle = train_by(toy_recipe(max_epochs=8, steps_per_epoch=12), toy_run("teacher"))
    bundle.save(tmp_path / "teacher_model")
    return tmp_path / "teacher_model"


def test_a_student_learns_from_patches_that_nobody_labelled(
    teacher: Path, toy_recipe: Recipe, toy_run: Run, tmp_path: Path
) -> None:
    images, masks = bright_squares(18)
    hidden = masks.copy()
    hidden[:12] = UNLABELLED
    names = ["train"] * 12 + ["validation"] * 4 + ["test"] * 2
    store = store_arrays(
        tmp_path / "unlabelled", images, hidden, bands=BANDS, instrument="sentinel2_l1c", official_splits=names
    )
    recipe = toy_recipe(
        network=UNet(width=3, depth=2), distil=Distillation(teacher=str(teacher), share=1.0),
        augmentation=Augmentation(), max_epochs=8, steps_per_epoch=12,
    )  # fmt: skip
    bundle = train_by(recipe, toy_run(store=store, splits=GroupedSplit().split(store)))
    mask = load_predictor(bundle).predict(images[16:])["mask"]
    assert jaccard_score(np.isin(masks[16:], (1, 2)).ravel(), (mask == 1).ravel()) > 0.9
    assert bundle.card.training.recipe["distil"]["teacher"] == str(teacher)


def test_answers_are_the_teachers_probabilities_and_outlive_an_interruption(
    teacher: Path, toy_run: Run, tmp_path: Path
) -> None:
    run, bundle = toy_run(), ModelBundle.open(teacher)
    source = PatchSource(run.store, run.splits.indices("train"), [0, 1, 2])
    path = tmp_path / "deep" / "answers.npy"
    answers = teacher_answers(bundle, source, path, 2, "cpu", progress=False)
    expected = load_predictor(bundle).predict(run.store.array()[source.indices])["class_probability"]
    np.testing.assert_allclose(answers[source.indices].transpose(0, 3, 1, 2) / CERTAIN, expected, atol=0.02)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    before = path.stat().st_mtime_ns
    teacher_answers(bundle, source, path, 2, "cpu", progress=False)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("classes", [1, 4])
def test_the_distance_is_the_cross_entropy_of_what_the_teacher_has_seen(classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2, classes, 5, 6)).astype(np.float32))
    outcomes = max(classes, 2)
    sure = rng.integers(0, outcomes, (2, 5, 6))
    answers = np.eye(outcomes, dtype=np.uint8)[sure] * CERTAIN
    answers[0, :2] = UNLABELLED
    seen = answers[..., 0] != UNLABELLED
    both = torch.cat([torch.zeros_like(logits), logits], dim=1) if classes == 1 else logits
    probability = both.softmax(dim=1).permute(0, 2, 3, 1).numpy()[seen]
    expected = log_loss(sure[seen], probability.astype(np.float64), labels=range(outcomes))
    assert float(distance(logits, torch.from_numpy(answers))) == pytest.approx(expected, rel=1e-4)
    assert float(distance(logits, torch.full((2, 5, 6, outcomes), UNLABELLED))) == 0


def test_another_teacher_is_another_training(teacher: Path, toy_recipe: Recipe, toy_run: Run) -> None:
    run = toy_run()
    recipes = [toy_recipe(), toy_recipe(distil=Distillation(teacher=str(teacher)))]
    prints = [fingerprint(recipe, run.store, run.splits) for recipe in recipes]
    other = ModelBundle.open(teacher)
    changed = {name: tensor + 1 for name, tensor in other.state_dict().items()}
    ModelBundle(other.card, changed).save(teacher.parent / "other")
    teacher.rename(teacher.parent / "first")
    (teacher.parent / "other").rename(teacher)
    prints.append(fingerprint(recipes[1], run.store, run.splits))
    assert len(set(prints)) == 3


def test_a_run_brings_its_teacher_along(teacher: Path, toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe(distil=Distillation(teacher="another_variant"))
    run = toy_run(teacher=ModelBundle.open(teacher))
    identity = train_by(recipe, run).card.training.fingerprint
    assert identity == fingerprint(recipe, run.store, run.splits, run.teacher)
    assert identity != fingerprint(recipe, run.store, run.splits)


def test_a_teacher_of_other_classes_is_refused(teacher: Path, toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe(classes="four", distil=Distillation(teacher=str(teacher)))
    with pytest.raises(InvalidModel, match=r"tells clear, cloud apart, not clear, thick.*name another teacher"):
        train_by(recipe, toy_run())


def test_simulated_clouds_over_real_ground_are_learnt_from_their_labels(
    teacher: Path, toy_recipe: Recipe, toy_run: Run, tmp_path: Path
) -> None:
    images, masks = bright_squares(18)
    masks[:12], images[:12] = 0, 900  # clear patches get clouds that the teacher has not seen
    names = ["train"] * 12 + ["validation"] * 4 + ["test"] * 2
    store = store_arrays(
        tmp_path / "clear", images, masks, bands=BANDS, instrument="sentinel2_l1c", official_splits=names
    )
    recipe = toy_recipe(
        distil=Distillation(teacher=str(teacher)), composited_fraction=1.0, simulated_fraction=0.5, simulated_patches=4
    )
    assert train_by(recipe, toy_run(store=store, splits=GroupedSplit().split(store))).card.training.epochs_run == 3


def test_optional_bands_are_some_of_the_patches_bands(toy_recipe: Recipe, toy_run: Run) -> None:
    with pytest.raises(InvalidRecipe, match=r"optional_bands nir: not among red, green, blue\. Correct"):
        train_by(toy_recipe(optional_bands=("nir", "blue")), toy_run())
