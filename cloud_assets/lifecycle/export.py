"""Export of a task's champion, and the metrics of its exported forms."""

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.export_recipe import ExportRecipe
from cloud_assets.inference.onnx_export import ExportedModel, export
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.predictions import band_channels
from cloud_assets.tasks.task import Task

_SEVERAL = 16


def export_model(
    task: Task, recipe: ExportRecipe, bundle: ModelBundle, store: PatchStore, splits: Splits
) -> ExportedModel:
    """Exports a model, compares it with the original, and scores the exported networks on the test split.

    Training patches calibrate the 8-bit network. The record of the exported model holds the gate's metric of each
    network and what the 8-bit one loses.

    Raises:
        InvalidRecipe: If models of this family cannot be exported.
        InvalidModel: If the exported network gives other answers.
        BackEndUnavailable: If the ONNX libraries are not installed, or cannot take the network.
    """
    family = family_of(bundle)
    if family.why_not_exported:
        raise InvalidRecipe(
            f"{task.name}: models of the family {family.name} are not exported: {family.why_not_exported}."
        )
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


def exported_predictor(exported: ExportedModel, *, int8: bool = False) -> Predictor:
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
