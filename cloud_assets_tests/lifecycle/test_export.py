"""Exports: equal to what was trained, small in 8 bits, readable without PyTorch's weights, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cloud_assets.errors import InvalidModel
from cloud_assets.families.classification.predictor import ClassificationPredictor
from cloud_assets.inference import onnx_export as exporting
from cloud_assets.inference.bundle import ModelBundle, ModelCard, TrainingRecord
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.inference.onnx_export import ExportedModel, export
from cloud_assets.lifecycle.export import exported_predictor
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.preprocessing import Preprocessing

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """A classifier whose batch norm is not the identity."""
    network = Classifier(backbone="test_resnet", input_size=32)
    record = TrainingRecord(
        recipe={}, seed=0, epochs_run=1, best_epoch=0, history=({"val_accuracy": 0.5},), patches_version="p",
        splits_version="s", fingerprint="f", seconds=1.0, device="cpu",
    )  # fmt: skip
    card = ModelCard(
        task="cover", variant="tiny", family="classification", network=network, in_channels=4, out_channels=4,
        preprocessing=Preprocessing(instrument="sentinel2_l1c", bands=("red", "green", "blue", "nir")),
        classes=("clear", "scattered", "broken", "overcast"), training=record,
        details={"input_size": 32, "minimum_valid": 0.2, "boundaries": [25.0, 50.0, 75.0]},
    )  # fmt: skip
    torch.manual_seed(0)
    built = network.build(4, 4)
    with torch.no_grad():
        for _ in range(20):
            built(torch.rand(8, 4, 32, 32))
    return ModelBundle(card, built.state_dict())


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    return np.random.default_rng(0).integers(100, 4000, (32, 4, 40, 40)).astype(np.uint16)


@pytest.fixture(scope="module")
def exported(bundle: ModelBundle, patches: np.ndarray) -> ExportedModel:
    inputs = ClassificationPredictor(bundle, "cpu").network_input(patches)
    return export(bundle, ExportRecipe(), inputs, inputs[:16])


def test_export_is_equal_and_says_how_equal(exported: ExportedModel) -> None:
    record = exported.record
    assert record.inputs_compared == 32
    assert 0 <= record.max_difference < 1e-4
    model = onnx.load_from_string(exported.network)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == record.opset == exported.card.details["export"]["opset"]
    assert record.bytes == len(exported.network)
    # Any number of pictures goes in, not only the number that was exported with.
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_8_bit_network_is_small_and_mostly_agrees(exported: ExportedModel) -> None:
    record = exported.record
    assert exported.int8 is not None
    assert record.int8_bytes == len(exported.int8)
    assert len(exported.int8) < 0.5 * len(exported.network)
    assert record.int8_agreement is not None
    assert record.int8_agreement > 0.7
    assert record.int8_max_difference is not None
    assert record.max_difference < record.int8_max_difference < 1


def test_exported_model_predicts_like_the_trained_one(
    exported: ExportedModel, bundle: ModelBundle, patches: np.ndarray, tmp_path: Path
) -> None:
    exported.save(tmp_path / "exported")
    again = ExportedModel.open(tmp_path / "exported")
    assert again == exported
    expected = ClassificationPredictor(bundle, "cpu").predict(patches)
    found = exported_predictor(again).predict(patches)
    assert found["class_probability"] == pytest.approx(expected["class_probability"], abs=0.02)  # bf16 on some machines
    assert (exported_predictor(again, int8=True).predict(patches)["class"] == expected["class"]).mean() > 0.7


def test_export_that_differs_is_refused(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bundle.network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05
    content = exporting.to_onnx(other, np.zeros((1, 4, 32, 32), np.float32), 18)
    monkeypatch.setattr(exporting, "to_onnx", lambda *_: content)
    inputs = np.random.default_rng(0).random((4, 4, 32, 32)).astype(np.float32)
    with pytest.raises(InvalidModel, match="differs from the trained one"):
        export(bundle, ExportRecipe(), inputs, inputs)


def test_without_8_bits(bundle: ModelBundle, tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).random((2, 4, 32, 32)).astype(np.float32)
    plain = export(bundle, ExportRecipe(int8=False), inputs, inputs)
    plain.save(tmp_path / "plain")
    assert ExportedModel.open(tmp_path / "plain") == plain
    with pytest.raises(InvalidModel, match="without an 8-bit network"):
        exported_predictor(plain, int8=True)


@pytest.mark.parametrize("file", ["network.onnx", "network.int8.onnx", "model_card.json"])
def test_damaged_export_is_refused(exported: ExportedModel, tmp_path: Path, file: str) -> None:
    exported.save(tmp_path / "exported")
    (tmp_path / "exported" / file).unlink()
    with pytest.raises(InvalidModel, match="Export it again"):
        ExportedModel.open(tmp_path / "exported")


def test_metrics_join_the_record(exported: ExportedModel) -> None:
    metrics: dict[str, Any] = {"accuracy": 0.8, "int8_accuracy": 0.79, "int8_accuracy_loss": 0.01}
    assert exported.with_metrics(metrics).record.metrics == metrics
    assert exported.record.metrics == {}
