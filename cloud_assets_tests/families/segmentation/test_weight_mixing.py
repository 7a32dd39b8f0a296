from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloud_assets.errors import InvalidModel
from cloud_assets.families.segmentation.recipe import Segmentation
from cloud_assets.families.segmentation.train import between
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import EfficientNetUNet, UNet
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.toy_task import BANDS

Recipe = Callable[..., Segmentation]
Run = Callable[..., TrainingRun]
SHORT = {"max_epochs": 2, "steps_per_epoch": 2}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Weights of a whole network with one output."""
    torch.manual_seed(5)
    file = tmp_path / "start.safetensors"
    save_file(EfficientNetUNet(encoder="efficientnet-b0").build(len(BANDS), 1).state_dict(), file)
    return file


def network(weights: Path | str) -> EfficientNetUNet:
    return EfficientNetUNet(encoder="efficientnet-b0", encoder_weights=str(weights))


def test_a_mixture_lies_where_its_share_says() -> None:
    start = {"weight": torch.tensor([0.0, 4.0], dtype=torch.float16), "batches": torch.tensor(3)}
    trained = {"weight": torch.tensor([8.0, 0.0]), "batches": torch.tensor(7)}
    mixed = between(start, trained, 0.25)
    assert mixed["weight"].tolist() == [6.0, 1.0]
    assert mixed["weight"].dtype == torch.float32
    assert mixed["batches"].item() == 7


def test_the_model_keeps_its_share_of_the_start(toy_recipe: Recipe, toy_run: Run, start: Path) -> None:
    trained = train_by(toy_recipe(network=network(start), **SHORT), toy_run("trained"))
    mixed = train_by(toy_recipe(network=network(start), start_share=0.4, **SHORT), toy_run("mixed"))
    before = network(start).build(len(BANDS), 1).state_dict()
    moved = 0.0
    for name, tensor in trained.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(mixed.state_dict()[name], 0.4 * before[name] + 0.6 * tensor)
            moved += float((tensor - before[name]).abs().sum())
    assert moved > 1
    # The training itself is the same; the threshold is chosen for the mixture.
    losses = [[row["val_loss"] for row in bundle.card.training.history] for bundle in (trained, mixed)]
    assert losses[0] == losses[1]
    assert mixed.card.metrics["val_iou_at_threshold"] != trained.card.metrics["val_iou_at_threshold"]


def test_an_interrupted_training_keeps_the_same_share(toy_recipe: Recipe, toy_run: Run, start: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(epoch: int, metrics: Mapping[str, float]) -> None:
        raise Interrupted

    recipe = toy_recipe(network=network(start), start_share=0.5, **SHORT)
    whole = train_by(recipe, toy_run("whole"))
    with pytest.raises(Interrupted):
        train_by(recipe, toy_run("parts", on_epoch=interrupt))
    assert train_by(recipe, toy_run("parts")).version == whole.version


@pytest.mark.parametrize(
    "spec", [UNet(width=4), network("none"), network("imagenet")], ids=["unet", "none", "imagenet"]
)
def test_nothing_is_kept_of_a_random_start(toy_recipe: Recipe, spec: UNet | EfficientNetUNet) -> None:
    with pytest.raises(ValueError, match="start is random"):
        toy_recipe(network=spec, start_share=0.5)


def test_nor_of_one_that_is_random_in_part(toy_recipe: Recipe, toy_run: Run, start: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="for the same classes"):
        train_by(toy_recipe(network=network(start), start_share=0.5, classes="four"), toy_run("four"))
    encoder = network("none").build(len(BANDS), 1).encoder.state_dict()  # type: ignore[union-attr]
    save_file(encoder, tmp_path / "encoder.safetensors")
    with pytest.raises(InvalidModel, match="of the whole network"):
        train_by(toy_recipe(network=network(tmp_path / "encoder.safetensors"), start_share=0.5), toy_run("encoder"))
