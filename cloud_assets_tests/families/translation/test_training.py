from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cloud_assets.errors import InvalidModel, InvalidRecipe, TrainingFailed
from cloud_assets.families import load_predictor
from cloud_assets.families.translation.batches import Pairs, TrainingPairs
from cloud_assets.families.translation.module import ImagePool
from cloud_assets.families.translation.recipe import Translation, TranslationLoss, cyclegan, pix2pix
from cloud_assets.families.translation.train import CollapseMonitor
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.callbacks import LAST_CHECKPOINT
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.networks.specifications import PatchDiscriminator, ResNetGenerator
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.splits import PlaceSplit
from cloud_assets.patches.statistics import fitted_preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.radar_pairs import OPTICAL, backscatter, reflectance_of, write_pairs

Recipes = Callable[..., Translation]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    radar = backscatter(14, 32)
    return write_pairs(tmp_path_factory.mktemp("pairs") / "store", radar, reflectance_of(radar))


@pytest.fixture
def tiny() -> Recipes:
    """Shrinks a recipe to seconds; keywords change its optimisation, or the recipe where they name its fields."""

    def make(recipe: Translation, **changes: Any) -> Translation:
        own = {name: changes.pop(name) for name in list(changes) if name in Translation.model_fields}
        small = {"resnet_generator": {"blocks": 1}, "unet_generator": {"depth": 2}}
        fast = {"max_epochs": 3, "steps_per_epoch": 3, "precision": "32", "threads": 1, "batch_size": 2, **changes}
        content = {
            **dict(recipe),
            "network": recipe.network.model_copy(update={"width": 4, **small[recipe.network.architecture]}),
            "discriminator": PatchDiscriminator(width=4, layers=1),
            "crop": 32,
            "pool": 3,
            "statistics_patches": 2,
            "optimisation": recipe.optimisation.model_copy(update=fast),
            **own,
        }
        return Translation.model_validate(content)

    return make


def train(
    recipe: Translation, pairs: PatchStore, workspace: Path, **listeners: Any
) -> tuple[ModelBundle, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        rows.append({name: value for name, value in metrics.items() if name != "seconds"})
        if "then" in listeners:
            listeners["then"](epoch)

    show = listeners.get("on_picture", lambda epoch, name, png: None)
    splits = PlaceSplit().split(pairs)
    run = TrainingRun("toy", "pairs", pairs, splits, workspace, on_epoch=on_epoch, on_picture=show, progress=False)
    return train_by(recipe, run), rows


def test_learns_from_pairs(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    recipe = tiny(pix2pix(*OPTICAL), steps_per_epoch=25, learning_rate=5e-3, weight_averaging=0.9, batch_size=4)
    bundle, rows = train(recipe, pairs, tmp_path)
    assert rows[-1]["val_psnr"] > rows[0]["val_psnr"]
    test = PlaceSplit().split(pairs).indices("test")
    truth = pairs.array("optical")[test] / 1e4
    made = load_predictor(bundle, "cpu").predict(pairs.array("sar")[test])["reflectance"]
    constant = (pairs.array("optical")[PlaceSplit().split(pairs).indices("train")] / 1e4).mean(axis=(0, 2, 3))
    gain = 10 * np.log10(np.square(truth - constant[:, None, None]).mean() / np.square(truth - made).mean())
    assert gain > 3


def test_batch_normalisation_knows_how_much_pictures_differ(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    bundle, _ = train(tiny(pix2pix(*OPTICAL), max_epochs=1, weight_averaging=None), pairs, tmp_path)
    training = PlaceSplit().split(pairs).indices("train")
    samples = training[:: len(training) // 2]
    pixels, _ = bundle.card.preprocessing(pairs.array("sar")[samples])
    network = bundle.network().eval()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    seen: list[torch.Tensor] = []
    norms[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.from_numpy(pixels))
    together = torch.stack([part.var(dim=(0, 2, 3)) for part in seen[0].split(2)]).mean(dim=0)
    assert norms[0].running_var is not None
    torch.testing.assert_close(norms[0].running_var, together, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", [cyclegan, pix2pix])
def test_same_seed_same_weights(
    family: Callable[..., Translation], pairs: PatchStore, tiny: Recipes, tmp_path: Path
) -> None:
    recipe = tiny(family(*OPTICAL), max_epochs=1)
    first, losses = train(recipe, pairs, tmp_path / "a")
    assert train(recipe, pairs, tmp_path / "b")[0].version == first.version
    other = tiny(family(*OPTICAL), max_epochs=1, seed=1)
    assert train(other, pairs, tmp_path / "c")[1] != losses


@pytest.mark.parametrize("family", [cyclegan, pix2pix])
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    family: Callable[..., Translation], pairs: PatchStore, tiny: Recipes, tmp_path: Path
) -> None:
    recipe = tiny(family(*OPTICAL), max_epochs=4, decay_start=0.25)
    whole, uninterrupted = train(recipe, pairs, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(epoch: int) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, pairs, tmp_path / "cut", then=kill)
    resumed, rest = train(recipe, pairs, tmp_path / "cut")
    assert rest == uninterrupted[2:]
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight)


@pytest.mark.parametrize("family", [cyclegan, pix2pix])
def test_a_training_that_ended_just_before_its_model_was_saved_is_only_read(
    family: Callable[..., Translation], pairs: PatchStore, tiny: Recipes, tmp_path: Path
) -> None:
    recipe = tiny(family(*OPTICAL), max_epochs=2)
    first, rows = train(recipe, pairs, tmp_path)
    again, none = train(recipe, pairs, tmp_path)
    assert len(rows) == 2
    assert none == []
    assert again.card.training.history == first.card.training.history
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight)


def test_a_checkpoint_holds_optimisers_pools_and_the_monitor(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    train(tiny(cyclegan(*OPTICAL)), pairs, tmp_path)
    state = torch.load(tmp_path / "checkpoints" / LAST_CHECKPOINT, weights_only=True)
    assert len(state["optimizer_states"]) == 2
    assert {name: len(pool["images"]) for name, pool in state["pools"].items()} == {"optical": 3, "radar": 3}
    assert any(name.startswith("CollapseMonitor") for name in state["callbacks"])


def test_every_loss_can_be_switched_on(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    loss = TranslationLoss(
        adversarial=1, cycle=1, paired_l1=1, paired_l2=1, perceptual=1, spectral=1, frequency=1, ndvi=1
    )
    pictures: list[bytes] = []
    bundle, rows = train(
        tiny(pix2pix(*OPTICAL), loss=loss, max_epochs=1),
        pairs,
        tmp_path,
        on_picture=lambda epoch, name, png: pictures.append(png),
    )
    for name in TranslationLoss.model_fields:
        assert np.isfinite(rows[0].get(f"train_{name}_loss", 0.0 if name == "identity" else np.nan)), name
    assert bundle.card.out_channels == 5
    assert load_predictor(bundle, "cpu").predict(pairs.array("sar")[:1])["ndvi"].shape == (1, 32, 32)
    assert len(pictures) == 1
    assert pictures[0].startswith(b"\x89PNG")


def test_every_second_sample_is_a_known_pair(pairs: PatchStore) -> None:
    rows, known = PlaceSplit().split(pairs).indices("train"), np.array([1, 5])
    scaling = (
        fitted_preprocessing(pairs, role="sar", clip=(-25.0, 0.0), scaled_to=(-1.0, 1.0)),
        fitted_preprocessing(pairs, role="optical", clip=(0.0, 1.0), scaled_to=(-1.0, 1.0)),
    )
    batches = TrainingPairs(
        Pairs(pairs, ("sar", "optical"), ([0, 1], [0, 1, 2, 3]), scaling),
        rows, known, Augmenter(Augmentation.none()), is_paired=False, batch_size=2, crop=None, multiple=1, seed=0,
    )  # fmt: skip
    seen = set()
    for number in range(10):
        radar, _, optical, _, matched = batches[number]
        assert matched.shape == (2, 1, 1, 1)
        assert matched.ravel().tolist() == [0, 1]
        dn = scaling[0].normalise(pairs.array("sar")[:], np.ones((14, 32, 32), bool))
        row = int(np.abs(dn - radar[1]).mean(axis=(1, 2, 3)).argmin())
        seen.add(row)
        # Reflectance of a pair follows its own backscatter.
        assert np.corrcoef(radar[1, 0].ravel(), optical[1, 0].ravel())[0, 1] > 0.9
    assert seen == set(known)


def test_a_few_pairs_are_enough_for_paired_losses(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    loss = TranslationLoss(paired_l1=10)
    _, rows = train(tiny(cyclegan(*OPTICAL), loss=loss, pairs=3, max_epochs=1), pairs, tmp_path)
    assert rows[0]["train_paired_l1_loss"] > 0
    with pytest.raises(ValidationError, match="perceptual compares"):
        Translation(bands=OPTICAL, pairs=3, loss=TranslationLoss(perceptual=1))
    with pytest.raises(ValidationError, match="a paired one knows all"):
        Translation(bands=OPTICAL, pairs=3, pairing="paired")


def test_a_training_goes_on_from_the_weights_of_another(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    recipe = tiny(pix2pix(*OPTICAL), max_epochs=1, learning_rate=1e-2, weight_averaging=None)
    first, _ = train(recipe, pairs, tmp_path / "first")
    first.save(tmp_path / "model")
    file = str(tmp_path / "model" / "weights.safetensors")
    still = tiny(pix2pix(*OPTICAL), weights=file, max_epochs=1, learning_rate=1e-12, weight_averaging=None, seed=5)
    second, _ = train(still, pairs, tmp_path / "second")
    for name, parameter in first.network().named_parameters():
        torch.testing.assert_close(second.state_dict()[name], parameter.detach())
    splits = PlaceSplit().split(pairs)
    before = fingerprint(still, pairs, splits)
    second.save(tmp_path / "model")
    assert fingerprint(still, pairs, splits) != before
    wider = still.model_copy(update={"network": still.network.model_copy(update={"width": 8})})
    with pytest.raises(InvalidModel, match="another architecture"):
        train(wider, pairs, tmp_path / "third")


def test_identity_is_refused_where_band_counts_differ(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="same number of bands; here they have 2 and 4"):
        train(tiny(cyclegan(*OPTICAL), loss=TranslationLoss(identity=0.5)), pairs, tmp_path)
    _, rows = train(tiny(cyclegan("B04", "B08"), loss=TranslationLoss(identity=0.5), max_epochs=1), pairs, tmp_path)
    assert rows[0]["train_identity_loss"] > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": TranslationLoss(paired_l1=1)}, "paired_l1 compares pictures of the same place"),
        ({"conditional": True}, "conditional compares"),
        ({"loss": TranslationLoss(adversarial=0)}, "nothing tells the generator"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Translation.model_validate({"bands": OPTICAL, **changes})


def test_ndvi_needs_red_and_near_infrared(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    loss = TranslationLoss(adversarial=0, cycle=0, paired_l1=1, ndvi=1)
    with pytest.raises(InvalidRecipe, match="red and nir"):
        train(tiny(pix2pix("B04", "B03"), loss=loss, conditional=False), pairs, tmp_path)


def test_an_infinite_loss_ends_the_training(pairs: PatchStore, tiny: Recipes, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed):
        train(tiny(cyclegan(*OPTICAL), learning_rate=1e18, max_epochs=5), pairs, tmp_path)


class _Trainer:
    def __init__(self) -> None:
        self.callback_metrics: dict[str, float] = {}
        self.current_epoch = 0
        self.should_stop = False


def _watch(monitor: CollapseMonitor, metrics: list[tuple[float, float]]) -> _Trainer:
    trainer: Any = _Trainer()
    for psnr, response in metrics:
        trainer.callback_metrics = {"val_psnr": psnr, "val_response": response}
        monitor.on_validation_end(trainer, None)  # type: ignore[arg-type]
        trainer.current_epoch += 1
    watched: _Trainer = trainer
    return watched


def test_the_monitor_ends_a_collapsed_training() -> None:
    monitor = CollapseMonitor(3)
    assert _watch(monitor, [(25, 0.5), (25, 0.001), (25, 0.001), (25, 0.5), (25, 0.001)]).should_stop is False
    assert _watch(monitor, [(25, 0.001)] * 2).should_stop
    assert "mode collapse" in monitor.reason


def test_the_monitor_ends_a_diverged_training() -> None:
    monitor = CollapseMonitor(2)
    assert _watch(monitor, [(25, 0.5), (18, 0.5), (18, 0.5)]).should_stop
    assert "divergence" in monitor.reason
    again = CollapseMonitor(2)
    again.load_state_dict(monitor.state_dict())
    assert again.state_dict() == monitor.state_dict()


def test_a_generator_that_never_answered_has_no_good_weights() -> None:
    with pytest.raises(TrainingFailed, match="no good weights"):
        _watch(CollapseMonitor(2), [(25, 0.001)] * 2)


def test_a_pool_hands_back_old_pictures_half_of_the_time() -> None:
    torch.manual_seed(0)
    pool = ImagePool(10)
    numbers = torch.arange(400.0)
    shown = torch.cat([pool.exchange(number.reshape(1, 1, 1, 1)) for number in numbers]).flatten()
    assert torch.equal(shown[:10], numbers[:10])
    assert 0.4 < float((shown[10:] != numbers[10:]).float().mean()) < 0.6
    assert (shown <= numbers).all()
    assert len(pool) == 10
    assert torch.equal(ImagePool(0).exchange(numbers.reshape(-1, 1, 1, 1)).flatten(), numbers)


def test_the_paper_s_recipe() -> None:
    recipe = cyclegan("B04", "B03", "B02")
    assert recipe.network == ResNetGenerator(width=64, blocks=9, normalisation="instance", upsampling="transposed")
    assert (recipe.loss.cycle, recipe.pool, recipe.optimisation.learning_rate) == (10, 50, 2e-4)
    assert (recipe.optimisation.momentum, recipe.optimisation.beta2) == (0.5, 0.999)
    assert (recipe.optimisation.scheduler, recipe.optimisation.max_epochs) == ("linear", 20)
