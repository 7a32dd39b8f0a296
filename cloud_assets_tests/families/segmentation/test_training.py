from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from cloud_assets.errors import InvalidModel, InvalidRecipe, NoUsablePatches, UnknownBand
from cloud_assets.families import load_predictor
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.families.segmentation.train import SegmentationModule, class_codes
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import FocalDice
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.networks.specifications import AttentionUNet, EfficientNetUNet, UNet
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.simulation import PHYSICS_VERSION
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.toy_task import BANDS, bright_squares

Recipe = Callable[..., Segmentation]
Run = Callable[..., TrainingRun]


def test_it_learns_a_separable_task_and_tells_it_in_full(toy_recipe: Recipe, toy_run: Run, tmp_path: Path) -> None:
    recipe = toy_recipe(max_epochs=8, steps_per_epoch=12, augmentation=Augmentation())
    run = toy_run()
    bundle = train_by(recipe, run)

    test = run.splits.indices("test")
    mask = load_predictor(bundle).predict(run.store.array()[test])["mask"]
    truth = np.isin(run.store.masks[test], (1, 2))
    assert jaccard_score(truth.ravel(), (mask == 1).ravel()) > 0.9

    card = bundle.card
    assert card.metrics["val_iou_at_threshold"] > 0.9
    assert card.metrics["val_iou_at_threshold"] >= card.metrics["val_iou"] - 1e-3
    assert card.training.epochs_run == len(card.training.history) == 8
    assert card.training.history[card.training.best_epoch]["val_iou"] == max(
        row["val_iou"] for row in card.training.history
    )
    assert card.training.fingerprint == fingerprint(recipe, run.store, run.splits)
    assert Segmentation.model_validate(card.training.recipe) == recipe
    assert card.training.patches_version == run.store.data_version
    bundle.save(tmp_path / "model")
    assert ModelBundle.open(tmp_path / "model").version == bundle.version


@pytest.mark.parametrize("weight_averaging", [None, 0.9])
def test_validation_sees_what_the_predictor_sees(
    toy_recipe: Recipe, toy_run: Run, weight_averaging: float | None
) -> None:
    # Three steps leave probabilities near 0.5, where the border decides about pixels.
    recipe = toy_recipe(steps=3, mirrored_border=5, weight_averaging=weight_averaging)
    run = toy_run()
    bundle = train_by(recipe, run)
    rows = run.splits.indices("validation")
    answer = SegmentationPredictor(bundle, "cpu").predict(run.store.array()[rows])
    truth = np.isin(run.store.masks[rows], (1, 2))
    iou = jaccard_score(truth.ravel(), (answer["cloud_probability"] >= 0.5).ravel())
    assert 0 < iou < 1
    assert bundle.card.metrics["val_iou"] == pytest.approx(iou, abs=1e-6)


def test_four_classes(toy_recipe: Recipe, toy_run: Run) -> None:
    bundle = train_by(toy_recipe(classes="four", max_epochs=2), toy_run())
    assert bundle.card.classes == ("clear", "thick cloud", "thin cloud", "cloud shadow")
    assert bundle.card.out_channels == 4
    assert 0 <= bundle.card.metrics["val_miou"] <= 1
    answer = load_predictor(bundle).predict(toy_run().store.array()[:2])
    assert answer["class_probability"].shape == (2, 4, 32, 32)
    np.testing.assert_allclose(answer["class_probability"].sum(axis=1), 1, atol=1e-5)


def test_bands_of_the_recipe_are_found_by_any_name_and_order(toy_recipe: Recipe, toy_run: Run) -> None:
    bundle = train_by(toy_recipe(bands=("blue", "B04"), max_epochs=1), toy_run())
    assert bundle.card.bands == ("B02", "B04")
    assert bundle.card.in_channels == 2
    with pytest.raises(UnknownBand, match="nir"):
        train_by(toy_recipe(bands=("nir",)), toy_run("other"))


def test_simulated_and_composited_patches_are_mixed_in(toy_recipe: Recipe, toy_run: Run) -> None:
    recipe = toy_recipe(
        simulated_fraction=0.5, simulated_patches=4, composited_fraction=0.5, crop=32, max_epochs=1, steps_per_epoch=2
    )
    run = toy_run()
    bundle = train_by(recipe, run)
    assert len(list((run.workspace / "simulated").iterdir())) == 1
    assert np.isfinite(bundle.card.training.history[0]["train_loss"])


def test_simulated_patches_harden_validation(toy_recipe: Recipe, toy_run: Run) -> None:
    settings = {"max_epochs": 1, "steps_per_epoch": 2}
    plain = train_by(toy_recipe(**settings), toy_run("plain"))
    hardened = train_by(toy_recipe(**settings, simulated_validation=4), toy_run("hardened"))
    # The same training, judged on more patches.
    for name, weights in plain.state_dict().items():
        torch.testing.assert_close(weights, hardened.state_dict()[name])
    assert plain.card.metrics["val_loss"] != hardened.card.metrics["val_loss"]


def test_the_best_weights_are_returned_not_the_last(toy_recipe: Recipe, toy_run: Run) -> None:
    # A huge learning rate in the one-cycle's middle spoils what the first epochs learned.
    run = toy_run()
    recipe = toy_recipe(max_epochs=6, learning_rate=0.3, scheduler="one_cycle", gradient_clip=None, patience=None)
    bundle = train_by(recipe, run)
    history = bundle.card.training.history
    best = int(np.argmax([row["val_iou"] for row in history]))
    assert bundle.card.training.best_epoch == best
    best_state = torch.load(run.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    last_state = torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    assert best < len(history) - 1
    for name, tensor in bundle.state_dict().items():
        assert torch.equal(tensor, best_state[f"network.{name}"])
    assert any(not torch.equal(best_state[name], last_state[name]) for name in best_state)


def test_unlabelled_pixels_have_no_gradient(toy_recipe: Recipe) -> None:
    for classes, channels in (("binary", 1), ("four", 4)):
        module = SegmentationModule(torch.nn.Identity(), toy_recipe(classes=classes))
        logits = torch.randn(2, channels, 8, 8, requires_grad=True)
        truth = torch.randint(0, 2, (2, 8, 8))
        truth[:, :4] = 255
        module.loss(logits, truth).backward()
        assert logits.grad is not None
        assert float(logits.grad[:, :, :4].abs().max()) == 0
        assert float(logits.grad[:, :, 4:].abs().min()) > 0


def test_cloud_codes_become_class_indices(toy_recipe: Recipe) -> None:
    codes = np.array([0, 1, 2, 3, 255, 99])
    assert class_codes(toy_recipe())[codes].tolist() == [0, 1, 1, 0, 255, 255]
    assert class_codes(toy_recipe(classes="four"))[codes].tolist() == [0, 1, 2, 3, 255, 255]


def test_splits_without_labels_are_refused(toy_recipe: Recipe, toy_run: Run, tmp_path: Path) -> None:
    images, masks = bright_squares(6)
    kinds = ["train"] * 3 + ["validation"] * 2 + ["test"]
    masks[3:5] = 255
    keywords = {"bands": BANDS, "instrument": "sentinel2_l1c", "official_splits": kinds}
    unlabelled = store_arrays(tmp_path / "unlabelled", images, masks, **keywords)
    with pytest.raises(NoUsablePatches, match="none of the 2 patches of the validation split"):
        train_by(toy_recipe(), toy_run(store=unlabelled, splits=GroupedSplit(classes="none").split(unlabelled)))
    maskless = store_arrays(tmp_path / "maskless", images, **keywords)
    with pytest.raises(NoUsablePatches, match="no truth masks"):
        train_by(toy_recipe(), toy_run(store=maskless, splits=GroupedSplit(classes="none").split(maskless)))


def test_simulation_alone_needs_no_label(toy_recipe: Recipe, toy_run: Run, tmp_path: Path) -> None:
    images, _ = bright_squares(3)
    kinds = ["train", "validation", "test"]
    store = store_arrays(tmp_path / "maskless", images, bands=BANDS, instrument="sentinel2_l1c", official_splits=kinds)
    alone = {"simulated_fraction": 1.0, "simulated_patches": 4, "simulated_validation": 2, "real_validation": False}
    recipe = toy_recipe(**alone, max_epochs=1, steps_per_epoch=1)
    bundle = train_by(recipe, toy_run(store=store, splits=GroupedSplit(classes="none").split(store)))
    assert np.isfinite(bundle.card.metrics["val_iou"])
    with pytest.raises(NoUsablePatches, match="no truth masks"):
        train_by(
            toy_recipe(**{**alone, "real_validation": True}),
            toy_run("judged", store=store, splits=GroupedSplit(classes="none").split(store)),
        )
    with pytest.raises(ValueError, match="'standardise' takes its statistics from real patches"):
        toy_recipe(**alone, normalisation="standardise")


def test_shipped_weights_are_refused_for_other_bands_and_scales(toy_recipe: Recipe, toy_run: Run) -> None:
    network = EfficientNetUNet(encoder="efficientnet-b2", encoder_weights="simulation")
    with pytest.raises(InvalidModel, match=r"needs bands \('red', 'green', 'blue', 'nir'\) instead of .*, clip"):
        train_by(toy_recipe(network=network), toy_run())


def test_a_training_is_another_one_if_what_its_recipe_names_has_changed(
    toy_recipe: Recipe, toy_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run()
    file = tmp_path / "weights.safetensors"
    recipe = toy_recipe(network=EfficientNetUNet(encoder_weights=str(file)))
    identities = []
    for content in (b"one", b"other", b"one"):
        file.write_bytes(content)
        identities.append(fingerprint(recipe, run.store, run.splits))
    assert identities[0] == identities[2] != identities[1]
    monkeypatch.setattr("cloud_assets.learning.training_run.PHYSICS_VERSION", PHYSICS_VERSION + 1)
    assert fingerprint(recipe, run.store, run.splits) != identities[0]


def test_class_weights_must_fit_the_classes(toy_recipe: Recipe, toy_run: Run) -> None:
    with pytest.raises(InvalidRecipe, match="2 weights"):
        train_by(toy_recipe(loss=FocalDice(class_weights=(1.0, 2.0, 3.0))), toy_run())


def test_recipes_survive_json() -> None:
    for network in (UNet(width=8), AttentionUNet(depth=2)):
        recipe = Segmentation(network=network, clip=(0.0, 1.2), normalisation="patch_standardise")
        assert Segmentation.model_validate_json(recipe.model_dump_json()) == recipe
