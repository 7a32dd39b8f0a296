"""Export of a task's champion: its exported forms with their metrics, and a STAC item for catalogues."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import CARD_FILE, WEIGHTS_FILE, ModelBundle
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import band_channels
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.inference.onnx_export import ExportedModel

_SEVERAL = 16


def export_model(
    task: Task, recipe: ExportRecipe, bundle: ModelBundle, store: PatchStore, splits: Splits
) -> "ExportedModel":
    """Exports a model, compares it with the original, and scores the exported networks on the test split.

    Training patches calibrate the 8-bit network. The record holds the gate's metric of each network.

    Raises:
        InvalidRecipe: If models of this family cannot be exported.
        InvalidModel: If the exported network gives other answers.
        BackEndUnavailable: If the ONNX libraries are not installed, or cannot take the network.
    """
    from cloud_assets.inference.onnx_export import export

    family = family_of(bundle)
    if family.why_not_exported:
        raise InvalidRecipe(f"{task.name}: {family.name} models are not exported: {family.why_not_exported}.")
    predictor = family.predictor(bundle, "cpu")
    training = splits.indices("train")
    exported = export(
        bundle,
        recipe,
        _inputs(predictor, store, np.arange(len(store)), recipe.parity_inputs),
        _inputs(predictor, store, training, recipe.calibration_inputs),
    )
    metric = task.gate.metric
    forms = {"": predictor, "onnx_": exported_predictor(exported)}
    if exported.int8 is not None:
        forms["int8_"] = exported_predictor(exported, int8=True)
    metrics = {}
    for form, tested in forms.items():
        judged = family.evaluate(task.evaluation, bundle, store, splits, predictor=tested)
        metrics[form + metric] = judged.metrics[metric]
    if exported.int8 is not None:
        metrics[f"int8_{metric}_loss"] = metrics[metric] - metrics[f"int8_{metric}"]
    return exported.with_metrics(metrics)


def exported_predictor(exported: "ExportedModel", *, int8: bool = False) -> Predictor:
    """A predictor that runs an exported network, if wanted the 8-bit one; it needs no PyTorch weights.

    Raises:
        InvalidModel: If there is no 8-bit network.
        BackEndUnavailable: If ONNX Runtime is not installed.
    """
    return family_of(exported.card).predictor(ModelBundle(exported.card, {}), "cpu", exported.runtime(int8=int8))


def _inputs(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.float32]:
    """Network inputs of patches at equal distances."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
    channels = band_channels(store.roles[IMAGES], predictor.card.bands)
    parts = [
        predictor.network_input(store.array(IMAGES)[chosen[start : start + _SEVERAL]][:, channels])
        for start in range(0, len(chosen), _SEVERAL)
    ]
    return np.concatenate(parts)


def model_item(bundle: ModelBundle, folder: str = ".", version: int | None = None) -> dict[str, Any]:
    """A model as a STAC item of the machine-learning-model extension (MLM 1.4), https://github.com/stac-extensions/mlm.

    JSON content that describes for catalogues what it reads, what it answers, and where its files are.
    ``folder`` is where these are, seen from the item; ``version`` that of the registered model.
    """
    import pystac
    from pystac.extensions.mlm import (
        AssetGeneralMLMExtension,
        InputStructure,
        MLMExtension,
        ModelBand,
        ModelInput,
        ModelOutput,
        ResultStructure,
        TaskType,
    )
    from pystac.extensions.raster import DataType

    card = bundle.card
    profile = INSTRUMENTS[card.preprocessing.instrument]
    task = TaskType(family_of(bundle).stac_task)
    side = card.patch_size or -1
    item = pystac.Item(
        id=f"{card.task}-{card.variant}-{bundle.version[:8]}",
        geometry={"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
        bbox=[-180.0, -90.0, 180.0, 90.0],
        datetime=card.created,
        properties={
            "description": f"{card.task}: {card.variant}, trained on {profile.name} {', '.join(card.bands)}.",
            "cloud_assets:training_data_are_simulated": card.is_synthetic_training_data,
            **({"version": str(version)} if version is not None else {}),
            **{f"cloud_assets:validation_{name}": value for name, value in card.metrics.items() if value == value},
        },
    )
    shape, axes = [-1, len(card.bands), side, side], ["batch", "bands", "height", "width"]
    reads = ModelInput.create(
        name="scene",
        bands=[ModelBand.create(name=profile.find(band).name) for band in card.bands],
        input=InputStructure.create(shape, axes, DataType(profile.dtype)),
        description=f"Digital numbers of {profile.name}; the model card's preprocessing scales them.",
    )
    shape, axes = [-1, card.out_channels, side, side], ["batch", "classes", "height", "width"]
    answers = ModelOutput.create(
        name=card.task,
        tasks=[task],
        result=ResultStructure.create(shape, axes, DataType.FLOAT32),
        description=", ".join(card.classes) or None,
    )
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=f"{card.task}/{card.variant}",
        architecture=card.network.architecture,
        tasks=[task],
        input=[reads],
        output=[answers],
        framework="pytorch",
        framework_version=card.software.get("torch"),
        memory_size=bundle.size,
    )
    roles = ["mlm:model", "mlm:weights", "data"]
    weights = pystac.Asset(f"{folder}/{WEIGHTS_FILE}", "Weights", None, "application/vnd.safetensors", roles)
    item.add_asset("model", weights)
    AssetGeneralMLMExtension.ext(weights, add_if_missing=True).apply(artifact_type="safetensors")
    item.add_asset("card", pystac.Asset(f"{folder}/{CARD_FILE}", "Model card", None, "application/json", ["metadata"]))
    return dict(item.to_dict(include_self_link=False))
